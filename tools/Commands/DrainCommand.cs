using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet endpoint drain</c>: returns when nothing is sent to the endpoint any more and nothing is left on it.</summary>
internal static class DrainCommand
{
    private const int WaitSeconds = 20;

    public static CliCommand Create(Shell shell, Option<string?> network)
    {
        var references = Objects.References("ENDPOINT", "endpoint", EndpointCommands.ListPath, shell);
        var detach = new Option<bool>("--detach", "-d") { Description = "Do not wait for nodes and flows" };
        var command = new CliCommand(
            "drain", "Send endpoints no new connections, and wait until every node knows and live flows have ended (at most the service's drain time)",
            "endpoint drain web1", "endpoint drain --detach web1 web2") { network, detach, references };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var names = parsed.GetValue(references)!;
            // All at once: that two containers stop together must not take twice the time.
            foreach (var reference in names)
            {
                await api.Patch(
                    Objects.PathOf(EndpointCommands.ListPath, reference, parsed, network), new EndpointUpdateRequest { State = EndpointState.Draining },
                    OverlayNetJson.Default.EndpointUpdateRequest, cancellation).ConfigureAwait(false);
            }
            await Objects.Each(parsed, names, reference => parsed.GetValue(detach) ? Task.CompletedTask : Wait(parsed, api, reference, parsed.GetValue(network), cancellation)).ConfigureAwait(false);
        });
        return command;
    }

    private static async Task Wait(ParseResult parsed, ApiClient api, string reference, string? network, CancellationToken cancellation)
    {
        var path = $"{EndpointCommands.ListPath}/{Text.Escape(reference)}/drain{Text.Query(("network", network), ("wait", Text.Number(WaitSeconds)))}";
        while (true)
        {
            var report = await api.Get(path, OverlayNetJson.Default.DrainReport, cancellation).ConfigureAwait(false);
            if (!report.Done)
                continue;
            if (report.Flows.Count > 0)
                parsed.InvocationConfiguration.Error.WriteLine($"{report.Endpoint}: its drain time is over, and {Text.Number(report.Flows.Values.Sum())} flows are left ({string.Join(", ", report.Flows.Select(flow => $"{flow.Key} {Text.Number(flow.Value)}"))})");
            return;
        }
    }
}
