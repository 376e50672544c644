using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis;
using OverlayNet.Tools.Diagnosis.Trace;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet trace</c>: the way from an endpoint to a name, hop by hop, and a packet that is really sent along it.</summary>
internal static class TraceCommand
{
    public static Command Create(Shell shell)
    {
        var from = Objects.Reference("FROM", "endpoint of this node, or its namespace", "/v1/endpoints", shell);
        from.Description = "Endpoint of this node (name, id), or the name or path of its namespace";
        var to = new Argument<string>("NAME[:PORT]") { Description = "Name or address to reach; without a port the service's first, else an echo request" };
        var four = new Option<bool>("-4") { Description = "IPv4 only" };
        var six = new Option<bool>("-6") { Description = "IPv6 only" };
        var udp = new Option<bool>("--udp") { Description = "Send a UDP datagram instead of opening a TCP connection" };
        var dry = new Option<bool>("--no-probe") { Description = "Send nothing but the DNS query" };
        var state = StatusCommand.StateOption();
        var command = new CliCommand(
            "trace",
            "Walk from an endpoint to a name, desired state against the kernel, and send a packet along (exit code 1 when a hop is at fault)",
            "trace client1 web", "trace client1 web:80 -6", "trace /run/netns/blue 10.10.0.7:5432", "trace client1 dns:53 --udp --json")
        { from, to, four, six, udp, dry, state };
        command.Validators.Add(result =>
        {
            if (result.GetValue(four) && result.GetValue(six))
                result.AddError(Inputs.Complaint("-4 and -6 are given", "give one of them, or neither for both families"));
        });
        command.SetAction(async (parsed, cancellation) =>
        {
            var target = TraceTarget.Parse(parsed.GetValue(to)!);
            using var node = await NodeView.Open(shell, parsed, parsed.GetValue(state)!, cancellation).ConfigureAwait(false)
                ?? throw new CommandFailure(ExitCodes.Failed, "this node is no member of a cluster: neither its daemon nor its disk knows one", "join a cluster first, or name its state directory with --state");
            using var api = shell.Connect(parsed);
            var report = await new TraceRun(node, Explain).Run(
                parsed.GetValue(from)!, target, parsed.GetValue(four) ? 4 : parsed.GetValue(six) ? 6 : null, parsed.GetValue(udp), !parsed.GetValue(dry)).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, JsonSerializer.SerializeToUtf8Bytes(report, OverlayNetJson.Default.TraceReport));
            else
                Write(parsed.InvocationConfiguration.Output, report, node);
            return report.Ok ? ExitCodes.Ok : ExitCodes.Failed;

            async Task<DnsQueryReport?> Explain(string name, string type, string source)
            {
                if (node.Condition != DaemonCondition.Running)
                    return null;
                try
                {
                    return await api.Get("/v1/dns/query" + Text.Query(("name", name), ("type", type), ("from", source)), OverlayNetJson.Default.DnsQueryReport, cancellation).ConfigureAwait(false);
                }
                catch (Exception e) when (e is DaemonUnreachable or CommandFailure)
                {
                    return null;
                }
            }
        });
        return command;
    }

    private static void Write(TextWriter output, TraceReport report, NodeView node)
    {
        output.WriteLine($"{report.From} on {report.Node} to {report.To}{(node.Condition == DaemonCondition.Running ? "" : $" (by kernel and disk, revision {Text.Number(node.Snapshot.Revision)}: {node.Why})")}");
        Hops(output, report.Hops);
        foreach (var path in report.Paths)
        {
            output.WriteLine($"{path.Address}:");
            Hops(output, path.Hops);
            if (path.Probe is { } probe)
                Probe(output, probe);
        }
    }

    private static void Hops(TextWriter output, IEnumerable<TraceHop> hops)
    {
        foreach (var hop in hops)
        {
            output.WriteLine($"  {(hop.Ok ? "ok   " : "FAULT")} {hop.Hop,-10} {hop.Object}: {hop.Message}");
            if (hop.Evidence is { Length: > 0 } evidence)
                output.WriteLine($"        evidence: {evidence}");
            if (hop.Remedy is { Length: > 0 } remedy)
                output.WriteLine($"        remedy: {remedy}");
        }
    }

    private static void Probe(TextWriter output, TraceProbe probe)
    {
        var requests = probe.Seen.Where(seen => seen.Request).ToList();
        output.WriteLine($"  {(probe.Outcome == "answered" ? "ok   " : "FAULT")} {"probe",-10} {probe.Protocol} from {probe.Source}{(probe.Mark > 0 ? $" port {Text.Number(probe.Mark)}" : "")}: {probe.Outcome}{(probe.RoundTripMs is { } ms ? string.Create(CultureInfo.InvariantCulture, $" in {ms:0.00} ms") : "")}{(probe.Backend is { } backend ? $" by {backend}" : "")}");
        foreach (var (word, seen) in new[] { ("seen", requests), ("answer", probe.Seen.Where(seen => !seen.Request).ToList()) })
        {
            if (seen.Count > 0)
                output.WriteLine($"        {word}: {string.Join(" > ", seen.Select(s => string.Create(CultureInfo.InvariantCulture, $"{s.Point} +{s.Microseconds:0} us")))}");
        }
        if (probe.Outcome == "silent")
            output.WriteLine(requests.Count > 0 ? $"        lost behind {requests[^1].Point}" : "        it did not leave the endpoint's namespace");
    }
}
