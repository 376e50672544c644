using System.CommandLine;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Bundle;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis;
using OverlayNet.Tools.Offline;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet bundle</c>: everything somebody else needs to see of this node, without what would let them in.</summary>
internal static class BundleCommand
{
    private const string Extension = ".tar.gz";

    public static Command Create(Shell shell)
    {
        var file = new Argument<string>("FILE") { Description = "Archive to write, such as node1.tar.gz; must not exist" };
        file.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !token.Value.EndsWith(Extension, StringComparison.Ordinal) && !token.Value.EndsWith(".tgz", StringComparison.Ordinal))
                result.AddError(Inputs.Complaint($"FILE '{token.Value}' does not end in {Extension} or .tgz", "name the archive it will be, such as node1.tar.gz"));
        });
        var state = StatusCommand.StateOption();
        var command = new CliCommand(
            "bundle", "Write status, doctor, events, snapshot, and the kernel's tables of this node's namespaces into an archive, keys and tokens taken out; works without its daemon",
            "bundle node1.tar.gz", "bundle --state /var/lib/overlaynet /tmp/node1.tar.gz")
        { file, state };
        command.SetAction(async (parsed, cancellation) =>
        {
            var path = parsed.GetValue(file)!;
            if (File.Exists(path))
                throw new CommandFailure(ExitCodes.BadInput, $"FILE '{path}' exists", "name another, or remove it");
            var entries = await Write(shell, parsed, path, parsed.GetValue(state)!, cancellation).ConfigureAwait(false);
            parsed.InvocationConfiguration.Output.WriteLine($"{path}: {Text.Number(entries)} files, private keys and tokens taken out; names and addresses are in it");
            return ExitCodes.Ok;
        });
        return command;
    }

    private static async Task<int> Write(Shell shell, ParseResult parsed, string path, string state, CancellationToken cancellation)
    {
        using var node = await NodeView.Open(shell, parsed, state, cancellation).ConfigureAwait(false);
        var now = TimeProvider.System.GetUtcNow();
        using var bundle = new SupportBundle(path, $"overlaynet-{node?.Name ?? Environment.MachineName}", now);
        bundle.Add("written.txt", $"{now:O} on {Environment.MachineName}\n{Environment.OSVersion}\n");
        var report = await DoctorCommand.Examine(shell, parsed, node?.State ?? state, fix: false, cancellation).ConfigureAwait(false);
        bundle.Add("doctor.json", JsonSerializer.Serialize(report, OverlayNetJson.Default.DoctorReport));
        var status = node?.Status ?? KernelAndDisk.Look(node?.State ?? state).ToStatus(node?.Why ?? "it does not answer");
        bundle.Add("status.json", JsonSerializer.Serialize(status, OverlayNetJson.Default.StatusReport));
        if (node is not null)
            bundle.Add("snapshot.json", JsonSerializer.Serialize(node.Snapshot, OverlayNetJson.Default.RegistrySnapshot));
        if (node?.Condition == DaemonCondition.Running)
            await Answers(shell, parsed, bundle, cancellation).ConfigureAwait(false);
        else
            bundle.AddFile("events.ndjson", Path.Combine(node?.State ?? state, "events.ndjson"));
        if (node is not null)
            Namespaces(bundle, node);
        bundle.AddFile("config.yaml", "/etc/overlaynet/overlaynetd.yaml");
        bundle.AddOutput("host/uname.txt", null, "uname", "-a");
        bundle.AddFile("host/os-release.txt", "/etc/os-release");
        bundle.AddFile("host/resolv.conf", "/etc/resolv.conf");
        bundle.AddFile("host/modules.txt", "/proc/modules");
        bundle.AddOutput("host/memory.txt", null, "free", "-m");
        bundle.AddOutput("log.txt", null, "journalctl", "-u", "overlaynetd", "-u", "overlaynet-keeper", "-n", "5000", "--no-pager", "-o", "short-iso-precise");
        return bundle.Entries;
    }

    private static async Task Answers(Shell shell, ParseResult parsed, SupportBundle bundle, CancellationToken cancellation)
    {
        using var api = shell.Connect(parsed);
        foreach (var (name, request) in new[] { ("events.ndjson", "/v1/events"), ("vips.json", "/v1/vip-explain"), ("dns-table.json", "/v1/dns/table"), ("dns-upstreams.json", "/v1/dns/upstreams") })
        {
            try
            {
                bundle.Add(name, System.Text.Encoding.UTF8.GetString(await api.Get(request, cancellation).ConfigureAwait(false)));
            }
            catch (Exception e) when (e is DaemonUnreachable or CommandFailure)
            {
                bundle.Add($"{name}.missing", e.Message + "\n");
            }
        }
    }

    /// <summary>The host's, the networks' and the containers' own tables, as the usual tools print them.</summary>
    private static void Namespaces(SupportBundle bundle, NodeView node)
    {
        Tables(bundle, "host", node.Host);
        foreach (var network in node.Networks)
            Tables(bundle, $"network-{network.Name}", NamedNamespaces.PathOf(ObjectNames.Netns(node.NodeId, network)));
        foreach (var endpoint in node.Snapshot.Endpoints.Where(endpoint => endpoint is { Kind: EndpointKind.Container, Netns.Length: > 0 } && endpoint.NodeId == node.NodeId))
            Tables(bundle, $"endpoint-{endpoint.Name}", endpoint.Netns);
    }

    private static void Tables(SupportBundle bundle, string name, string path)
    {
        try
        {
            using var netns = NamespaceReading.Open(path);
            Tables(bundle, name, netns);
        }
        catch (KernelException e)
        {
            bundle.Add($"{name}/missing.txt", e.Message + "\n");
        }
    }

    private static void Tables(SupportBundle bundle, string name, NetworkNamespace netns)
    {
        bundle.AddOutput($"{name}/links.json", netns, "ip", "-j", "-d", "-s", "link", "show");
        bundle.AddOutput($"{name}/addresses.json", netns, "ip", "-j", "address", "show");
        bundle.AddOutput($"{name}/routes.json", netns, "ip", "-j", "route", "show", "table", "all");
        bundle.AddOutput($"{name}/routes6.json", netns, "ip", "-j", "-6", "route", "show", "table", "all");
        bundle.AddOutput($"{name}/neighbours.json", netns, "ip", "-j", "neigh", "show");
        bundle.AddOutput($"{name}/fdb.json", netns, "bridge", "-j", "fdb", "show");
        bundle.AddOutput($"{name}/rules.json", netns, "nft", "-j", "list", "ruleset");
        bundle.AddOutput($"{name}/sockets.txt", netns, "ss", "-tuna");
    }
}
