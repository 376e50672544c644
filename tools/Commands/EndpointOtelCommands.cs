using System.CommandLine;
using System.Text;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet endpoint otel</c> and <c>overlaynet endpoint connections</c>: what ties an application's own telemetry to the network's.</summary>
internal static class EndpointOtelCommands
{
    public static CliCommand Otel(Shell shell, Option<string?> network)
    {
        var reference = Objects.Reference("ENDPOINT", "endpoint", EndpointCommands.ListPath, shell);
        var command = new CliCommand("otel", "Print the environment by which an application's telemetry names its endpoint", "endpoint otel web1", "env $(overlaynet endpoint otel web1) ./server") { network, reference };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var endpoint = await api.Get(Objects.PathOf(EndpointCommands.ListPath, parsed.GetValue(reference)!, parsed, network), OverlayNetJson.Default.Endpoint, cancellation).ConfigureAwait(false);
            var on = await api.Get($"{NetworkCommands.ListPath}/{endpoint.NetworkId}", OverlayNetJson.Default.Network, cancellation).ConfigureAwait(false);
            var node = await api.Get($"/v1/nodes/{endpoint.NodeId}", OverlayNetJson.Default.Node, cancellation).ConfigureAwait(false);
            var service = endpoint.ServiceId is { } id ? await api.Get($"{ServiceCommands.ListPath}/{id}", OverlayNetJson.Default.Service, cancellation).ConfigureAwait(false) : null;
            parsed.InvocationConfiguration.Output.WriteLine("OTEL_RESOURCE_ATTRIBUTES=" + Attributes(endpoint, on, node, service));
        });
        return command;
    }

    /// <summary>
    /// Pairs as in https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable: values are percent-encoded.
    /// </summary>
    internal static string Attributes(Endpoint endpoint, Network network, Node node, Service? service)
    {
        var pairs = new List<(string Key, string? Value)>
        {
            ("service.name", service?.Name),
            ("service.namespace", network.Name),
            ("service.instance.id", endpoint.Id),
            ("service.id", service?.Id),
            ("instance.address", (endpoint.Address4 ?? endpoint.Address6)?.ToString()),
            ("host.name", node.Name),
            ("cloud.region", node.Dc),
            ("overlaynet.endpoint", endpoint.Name),
        };
        return string.Join(',', pairs.Where(pair => pair.Value is { Length: > 0 }).Select(pair => $"{pair.Key}={Encode(pair.Value!)}"));
    }

    public static CliCommand Connections(Shell shell, Option<string?> network)
    {
        var reference = Objects.Reference("ENDPOINT", "endpoint", EndpointCommands.ListPath, shell);
        var command = new CliCommand("connections", "Show which instance each connection of a container through a VIP went to", "endpoint connections client1") { network, reference };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var path = $"{EndpointCommands.ListPath}/{Text.Escape(parsed.GetValue(reference)!)}/connections{Text.Query(("network", parsed.GetValue(network)))}";
            var body = await api.Get(path, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var table = new Table("PROTO", "CLIENT", "VIP", "SERVICE", "INSTANCE", "NODE", "ADDRESS", "STATE");
            foreach (var one in ApiClient.Parse(body, OverlayNetJson.Default.ListVipConnection))
            {
                table.Add(
                    Text.Word(one.Protocol), new System.Net.IPEndPoint(one.Source, one.SourcePort).ToString(), new System.Net.IPEndPoint(one.Vip, one.VipPort).ToString(), one.Service,
                    one.Endpoint ?? "-", one.Node ?? "-", new System.Net.IPEndPoint(one.Server, one.ServerPort).ToString(), one.Live ? "live" : "closing");
            }
            table.Write(output);
        });
        return command;
    }

    /// <summary>What W3C Baggage allows in a value stays; everything else, the separators first of all, becomes %XX of its UTF-8 bytes.</summary>
    private static string Encode(string value)
    {
        var encoded = new StringBuilder(value.Length);
        foreach (var b in Encoding.UTF8.GetBytes(value))
        {
            if (b is > 0x20 and < 0x7f && b is not ((byte)'"' or (byte)',' or (byte)';' or (byte)'\\' or (byte)'%' or (byte)'='))
                encoded.Append((char)b);
            else
                encoded.Append('%').Append(b.ToString("X2", System.Globalization.CultureInfo.InvariantCulture));
        }
        return encoded.ToString();
    }
}
