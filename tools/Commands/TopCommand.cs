using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis;
using OverlayNet.Tools.Top;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet top</c>: services, rates, connections, shares, drops and lag of this node, again and again.</summary>
internal static class TopCommand
{
    private const int DefaultSeconds = 2;

    // Home, and erase to the end (ECMA-48): what has not changed does not flicker.
    private const string Home = "\u001b[H", EraseLine = "\u001b[K", EraseRest = "\u001b[J", Clear = "\u001b[2J\u001b[H";

    public static Command Create(Shell shell)
    {
        var once = new Option<bool>("--once") { Description = "One look, then end" };
        var interval = Inputs.Number("--interval", 1, 3600, $"Seconds between two looks (default {Text.Number(DefaultSeconds)})", "SECONDS");
        var state = StatusCommand.StateOption();
        var command = new CliCommand(
            "top", "Watch this node: traffic of networks, connections and shares of services' backends, drops, other nodes' lag",
            "top", "top --interval 5", "top --once --json")
        { once, interval, state };
        command.SetAction(async (parsed, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var pause = TimeSpan.FromSeconds(parsed.GetValue(interval) ?? DefaultSeconds);
            // A stream of objects for scripts, a page for a terminal.
            var page = !parsed.GetValue(once) && !shell.WantsJson(parsed) && !Console.IsOutputRedirected;
            var watch = Stopwatch.StartNew();
            var (before, _) = await Look(shell, parsed, parsed.GetValue(state)!, watch.Elapsed, cancellation).ConfigureAwait(false);
            if (page)
                output.Write(Clear);
            while (!cancellation.IsCancellationRequested)
            {
                await Task.Delay(pause, cancellation).ConfigureAwait(false);
                var (now, snapshot) = await Look(shell, parsed, parsed.GetValue(state)!, watch.Elapsed, cancellation).ConfigureAwait(false);
                var report = now.Since(before, snapshot);
                before = now;
                if (shell.WantsJson(parsed))
                {
                    output.WriteLine(JsonSerializer.Serialize(report, OverlayNetJson.Default.TopReport));
                }
                else
                {
                    using var text = new StringWriter(CultureInfo.InvariantCulture);
                    Write(text, report);
                    output.Write(page ? Home + text.ToString().Replace("\n", EraseLine + "\n", StringComparison.Ordinal) + EraseRest : text.ToString());
                }
                await output.FlushAsync(cancellation).ConfigureAwait(false);
                if (parsed.GetValue(once))
                    break;
            }
            return ExitCodes.Ok;
        });
        return command;
    }

    private static async Task<(TopMoment Moment, RegistrySnapshot Snapshot)> Look(Shell shell, ParseResult parsed, string state, TimeSpan at, CancellationToken cancellation)
    {
        using var node = await NodeView.Open(shell, parsed, state, cancellation).ConfigureAwait(false)
            ?? throw new CommandFailure(ExitCodes.Failed, "this node is no member of a cluster", "join a cluster first");
        if (node.Condition != DaemonCondition.Running)
            throw new CommandFailure(ExitCodes.Failed, $"the daemon does not count: {node.Why}", "'overlaynet status' and 'overlaynet doctor' work without it");
        using var api = shell.Connect(parsed);
        var backends = new Dictionary<string, IReadOnlyList<BackendReport>>();
        foreach (var service in node.Snapshot.Services.Where(service => node.Networks.Any(network => network.Id == service.NetworkId)))
            backends[service.Id] = await api.Get($"/v1/services/{Text.Escape(service.Id)}/backends", OverlayNetJson.Default.ListBackendReport, cancellation).ConfigureAwait(false);
        return (TopMoment.Read(node, at, backends), node.Snapshot);
    }

    private static void Write(TextWriter output, TopReport report)
    {
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"node {report.Node}, revision {report.Revision}, lag {report.Lag}, over {report.Seconds:0.0} s"));
        var networks = new Table("NETWORK", "RECEIVED", "SENT", "PACKETS IN", "OUT", "DROPS", "EVER");
        foreach (var network in report.Networks)
            networks.Add(network.Name, Bits(network.ReceivedBitsPerSecond), Bits(network.SentBitsPerSecond), Rate(network.ReceivedPacketsPerSecond), Rate(network.SentPacketsPerSecond), Text.Number(network.Drops), Text.Number(network.DropsEver));
        output.WriteLine();
        networks.Write(output);
        var services = new Table("SERVICE", "BACKEND", "NODE", "STATE", "SHARE", "LIVE", "OF LIVE", "NEW/S");
        foreach (var service in report.Services)
        {
            services.Add($"{service.Name} ({service.Network})", Text.Or(service.Vip), Text.Or(service.Balancer), "", "", Text.Number(service.LiveFlows), "", Rate(service.ConnectionsPerSecond));
            foreach (var backend in service.Backends)
                services.Add("", backend.Endpoint, backend.Node, Text.Word(backend.State), Text.Percent(backend.Share), backend.LiveFlows is { } live ? Text.Number(live) : "-", backend.LiveShare is { } share ? Text.Percent(share) : "-", Rate(backend.ConnectionsPerSecond));
        }
        output.WriteLine();
        services.Write(output);
        var nodes = new Table("NODE", "STATE", "LAG", "HEARD");
        foreach (var node in report.Nodes)
            nodes.Add(node.Name, Text.Word(node.State), Text.Number(node.Lag), Text.Seconds(node.SecondsSinceHeartbeat));
        output.WriteLine();
        nodes.Write(output);
    }

    private static string Rate(double? perSecond) => perSecond is { } rate ? string.Create(CultureInfo.InvariantCulture, $"{rate:0.0}") : "-";

    private static string Bits(double perSecond) => perSecond switch
    {
        >= 1e9 => string.Create(CultureInfo.InvariantCulture, $"{perSecond / 1e9:0.00} Gb/s"),
        >= 1e6 => string.Create(CultureInfo.InvariantCulture, $"{perSecond / 1e6:0.0} Mb/s"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{perSecond / 1e3:0.0} kb/s"),
    };
}
