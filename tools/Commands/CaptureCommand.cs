using System.CommandLine;
using System.Globalization;
using System.Net;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Capture;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Capture.Nodes;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet capture</c>: packets by object, decoded, with what they show; live or from files.</summary>
internal static class CaptureCommand
{
    private const int LongestFrame = 262144, LeastSnap = 64;

    public static Command Create(Shell shell)
    {
        var service = Objects.ReferenceOption("--service", "Traffic of a service: its VIP and every backend", "/v1/services", shell);
        var endpoint = Objects.ReferenceOption("--endpoint", "Traffic of an endpoint", "/v1/endpoints", shell);
        var network = Objects.ReferenceOption("--network", "Everything in a network: each local port and the tunnel", "/v1/networks", shell);
        var node = Objects.ReferenceOption("--node", "Traffic with a node on the underlay", "/v1/nodes", shell);
        var vip = Inputs.Address("--vip", "Traffic of a virtual address, with its ARP, ND and VRRP");
        var on = Inputs.Texts("--on", "Capture on these nodes at once, in one order of time (on a manager); 'all' is every node", "NODE");
        on.CompletionSources.Add(context => Objects.Names(context, "/v1/nodes", shell));
        var nodeLimit = Inputs.Number("--node-limit", 1, 4096, "Megabytes that another node sends at most, 256 if not given (with --on)", "MB");
        var withoutApi = new Option<bool>("--without-api") { Description = "Leave out what daemons say to each other on the underlay" };
        var filter = Inputs.Text("--filter", "Only packets that pass this filter, in tcpdump's words (man pcap-filter)", "EXPRESSION");
        var read = Inputs.Texts("--read", "Read files (pcap, pcapng; '-' is the standard input) instead of the network; several are merged by time", "FILE", "-r");
        var write = Inputs.Text("--write", "Write pcapng; '-' is the standard output", "FILE");
        write.Aliases.Add("-w");
        var count = Inputs.Number("--count", 1, int.MaxValue, "Stop after this many packets", "N");
        count.Aliases.Add("-c");
        var seconds = Inputs.Number("--duration", 1, 86400, "Stop after this many seconds", "SECONDS");
        var snap = Inputs.Number("--snap", LeastSnap, LongestFrame, "Octets to keep of a packet", "OCTETS");
        var size = Inputs.Number("--file-size", 1, 1_000_000, "Start a new file after this many megabytes", "MB");
        var files = Inputs.Number("--files", 2, 1000, "Keep this many files: the oldest is written over (with --file-size)", "N");
        var quiet = new Option<bool>("--quiet", "-q") { Description = "No line for each packet, only what they show in the end" };
        var state = StatusCommand.StateOption();
        var command = new CliCommand(
            "capture",
            "Capture by object at the right places of this node or of several, decode, and say what the packets show (exit code 1 when an error is among it)",
            "capture --service web", "capture --service web --on all --write web.pcapng", "capture --endpoint web1 --duration 10 --write web1.pcapng", "capture --vip 192.0.2.100", "capture --read node1.pcapng --read node2.pcapng", "capture --network app --filter 'tcp port 80' --file-size 100 --files 10 -w ring.pcapng")
        { service, endpoint, network, node, vip, on, nodeLimit, withoutApi, filter, read, write, count, seconds, snap, size, files, quiet, state };
        command.Validators.Add(result =>
        {
            var targets = new Option[] { service, endpoint, network, node, vip }.Count(option => result.GetResult(option) is { Implicit: false });
            if (targets > 1)
                result.AddError(Inputs.Complaint("more than one object is given", "name one of --service, --endpoint, --network, --node, --vip; narrow it with --filter"));
            if (targets > 0 && result.GetResult(read) is { Implicit: false })
                result.AddError(Inputs.Complaint("--read and an object are given", "a file has its own packets: narrow them with --filter"));
            if (result.GetResult(on) is { Implicit: false } && result.GetResult(read) is { Implicit: false })
                result.AddError(Inputs.Complaint("--read and --on are given", "files are read here: give each with --read"));
            if (result.GetValue(nodeLimit) is not null && result.GetResult(on) is null or { Implicit: true })
                result.AddError(Inputs.Complaint("--node-limit is given without --on", "name the nodes with --on"));
            if (result.GetValue(files) is not null && result.GetValue(size) is null)
                result.AddError(Inputs.Complaint("--files is given without --file-size", "say how large each file may become, such as --file-size 100"));
            if (result.GetValue(size) is not null && result.GetValue(write) is null or "-")
                result.AddError(Inputs.Complaint("--file-size is given without a file to write", "name one with --write"));
        });
        command.SetAction(async (parsed, cancellation) =>
        {
            var snapshot = await Snapshot(shell, parsed, parsed.GetValue(state)!, cancellation).ConfigureAwait(false);
            var options = new CaptureOptions
            {
                Filter = parsed.GetValue(filter) ?? "",
                Write = parsed.GetValue(write),
                MostPackets = parsed.GetValue(count),
                Duration = parsed.GetValue(seconds) is { } s ? TimeSpan.FromSeconds(s) : null,
                SnapLength = parsed.GetValue(snap) ?? LongestFrame,
                FileOctets = parsed.GetValue(size) is { } mb ? mb * 1_000_000L : null,
                Files = parsed.GetValue(files),
                Lines = !parsed.GetValue(quiet),
                Json = shell.WantsJson(parsed),
            };
            using var session = new CaptureSession(options, snapshot?.Registry, parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error);
            if (parsed.GetValue(read) is { Length: > 0 } paths)
                return session.Read(paths, cancellation);
            var target = new CaptureTarget
            {
                Service = parsed.GetValue(service),
                Endpoint = parsed.GetValue(endpoint),
                Network = parsed.GetValue(network),
                Node = parsed.GetValue(node),
                Vip = parsed.GetValue(vip) is { } address ? IPAddress.Parse(address) : null,
                Filter = options.Filter,
                WithoutApi = parsed.GetValue(withoutApi),
            };
            if (snapshot is null)
                throw new CommandFailure(ExitCodes.Failed, "this node is no member of a cluster, so there is nothing of it to capture", "join a cluster first, name its state directory with --state, or read a file with --read");
            if (parsed.GetValue(on) is { Length: > 0 } names)
            {
                using var api = shell.Connect(parsed);
                return await new CaptureOnNodes(api, snapshot.Registry, snapshot.NodeId, parsed.InvocationConfiguration.Error) { MegabytesOfNode = parsed.GetValue(nodeLimit) }
                    .Run(session, names, target, options, cancellation).ConfigureAwait(false);
            }
            return session.Live(new CapturePlan(snapshot.Registry, snapshot.NodeId, UnderlayInterface.Of(snapshot.Registry, snapshot.NodeId)).Points(target), cancellation);
        });
        return command;
    }

    /// <summary>From the daemon, or from its disk when it does not answer; null when neither knows a cluster.</summary>
    private static async Task<Known?> Snapshot(Shell shell, ParseResult parsed, string state, CancellationToken cancellation)
    {
        using var api = shell.Connect(parsed);
        try
        {
            var status = await api.Get("/v1/status", OverlayNetJson.Default.StatusReport, cancellation).ConfigureAwait(false);
            return status.NodeId is { } id ? new Known(id, await api.Get("/v1/snapshot", OverlayNetJson.Default.RegistrySnapshot, cancellation).ConfigureAwait(false)) : null;
        }
        catch (DaemonUnreachable)
        {
            return Offline.KernelAndDisk.Look(state) is { NodeId: { } id, Snapshot: { } snapshot } ? new Known(id, snapshot) : null;
        }
    }

    private sealed record Known(string NodeId, RegistrySnapshot Registry);
}
