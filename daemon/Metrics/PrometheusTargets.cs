using System.Globalization;
using System.Net;
using System.Text.Json.Serialization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Metrics;

/// <summary>A group of Prometheus' http_sd (https://prometheus.io/docs/prometheus/latest/http_sd/).</summary>
public sealed record TargetGroup
{
    /// <summary>Each <c>address:port</c>.</summary>
    public required IReadOnlyList<string> Targets { get; init; }
    public required IReadOnlyDictionary<string, string> Labels { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(List<TargetGroup>))]
internal sealed partial class ReadableJson : JsonSerializerContext;

/// <summary>The endpoints of services as scrape targets. Pure.</summary>
public static class PrometheusTargets
{
    /// <summary>A service's or endpoint's label that names the port to scrape, a number.</summary>
    public const string PortLabel = "prometheus.port";
    private const string Meta = "__meta_overlaynet_";

    /// <summary>
    /// One group for each container endpoint, whatever its state: what fails must be seen to fail, so states are labels. A service without TCP ports and
    /// without <see cref="PortLabel"/> has nothing to scrape and is left out.
    /// </summary>
    /// <param name="service">Name; null: every service.</param>
    /// <param name="network">Name; null: every network.</param>
    /// <param name="port">Name, number at the VIP or number at the endpoint; null: the first TCP port.</param>
    public static List<TargetGroup> Of(Snapshot snapshot, string? service, string? network, string? port)
    {
        var groups = new List<TargetGroup>();
        foreach (var one in snapshot.Services.Values.OrderBy(one => one.Name, StringComparer.Ordinal).ThenBy(one => one.Id, StringComparer.Ordinal))
        {
            if (!snapshot.Networks.TryGetValue(one.NetworkId, out var on) || (service is { Length: > 0 } && one.Name != service) || (network is { Length: > 0 } && on.Name != network))
                continue;
            foreach (var endpoint in snapshot.EndpointsOf(one).Where(endpoint => endpoint.Kind == EndpointKind.Container).OrderBy(endpoint => endpoint.Name, StringComparer.Ordinal))
            {
                if ((endpoint.Address4 ?? endpoint.Address6) is { } address && PortOf(one, endpoint, port) is { } found)
                    groups.Add(Group(snapshot, on, one, endpoint, address, found));
            }
        }
        return groups;
    }

    private static (int Number, string? Name)? PortOf(Service service, Endpoint endpoint, string? wanted)
    {
        if (wanted is not { Length: > 0 })
        {
            if ((endpoint.Labels.GetValueOrDefault(PortLabel) ?? service.Labels.GetValueOrDefault(PortLabel)) is { } label)
                return int.TryParse(label, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number is > 0 and < 65536 ? (number, null) : null;
            return service.Ports.FirstOrDefault(port => port.Protocol == PortProtocol.Tcp) is { } first ? (first.Target, first.Name) : null;
        }
        return service.Ports.FirstOrDefault(port => port.Protocol == PortProtocol.Tcp && (port.Name == wanted || Text(port.Port) == wanted || Text(port.Target) == wanted)) is { } match
            ? (match.Target, match.Name)
            : null;
    }

    private static TargetGroup Group(Snapshot snapshot, Network network, Service service, Endpoint endpoint, IPAddress address, (int Number, string? Name) port)
    {
        var node = snapshot.Nodes.GetValueOrDefault(endpoint.NodeId);
        var labels = new SortedDictionary<string, string>(StringComparer.Ordinal)
        {
            [Meta + "network"] = network.Name,
            [Meta + "service"] = service.Name,
            [Meta + "service_id"] = service.Id,
            [Meta + "endpoint"] = endpoint.Name,
            [Meta + "endpoint_id"] = endpoint.Id,
            [Meta + "state"] = endpoint.State.ToString().ToLowerInvariant(),
            [Meta + "port_name"] = port.Name ?? "",
            [Meta + "node"] = node?.Name ?? endpoint.NodeId,
            [Meta + "node_address"] = node?.Address.ToString() ?? "",
            [Meta + "dc"] = node?.Dc ?? "",
        };
        foreach (var (name, value) in service.Labels)
            labels[Meta + "service_label_" + Clean(name)] = value;
        foreach (var (name, value) in endpoint.Labels)
            labels[Meta + "label_" + Clean(name)] = value;
        return new TargetGroup { Targets = [new IPEndPoint(address, port.Number).ToString()], Labels = labels };
    }

    /// <summary>What may be in a label's name in Prometheus.</summary>
    private static string Clean(string name) => string.Concat(name.Select(c => char.IsAsciiLetterOrDigit(c) ? c : '_'));

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
