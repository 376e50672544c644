using System.Diagnostics;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>
/// Where the host's iptables drop what is forwarded (Docker sets that policy), an accept of ours in another chain does
/// not count: two rules of ours go into DOCKER-USER, or into FORWARD where there is no Docker. They use only what
/// iptables-nft can list, as a table with anything else becomes unusable to it.
/// </summary>
internal static class ForwardingPolicy
{
    private const string Filter = "filter", Forward = "FORWARD", DockerUser = "DOCKER-USER";

    internal static void Mend(Reconciliation account, OverlayConfig config, bool egress, NfTables kernel, NetworkNamespace host, string scope)
    {
        var mark = $"overlaynet-{config.NodeShortId}";
        var transit = TransitReconciler.OutsidePrefix + config.NodeShortId;
        foreach (var family in new[] { NfFamily.IPv4, NfFamily.IPv6 })
            MendTable(account, new NfTable(family, Filter), egress, kernel, mark, transit, scope);
        MendLegacy(account, egress, host, mark, transit, scope);
    }

    private static void MendTable(Reconciliation account, NfTable table, bool egress, NfTables kernel, string mark, string transit, string scope)
    {
        if (!kernel.Tables(table.Family).Any(info => info.Table == table))
            return;
        var chains = kernel.Chains(table).ToDictionary(info => info.Chain.Name, info => info.Chain);
        var place = Place(chains);
        string[] wanted = egress ? [$"{mark} out", $"{mark} back"] : [];
        foreach (var name in new[] { DockerUser, Forward }.Where(chains.ContainsKey))
        {
            var ours = kernel.Rules(table, name).Where(rule => rule.Comment?.StartsWith(mark + " ", StringComparison.Ordinal) == true).ToList();
            var here = name == place ? wanted : [];
            // The same comments in either order: each is inserted in front.
            if (ours.Select(rule => rule.Comment).Order(StringComparer.Ordinal).SequenceEqual(here.Order(StringComparer.Ordinal)))
                continue;
            account.Mend(scope, here.Length > 0 ? $"accept forwarding to and from {transit}* in chain {name} of {table}" : $"delete our rules in chain {name} of {table}", () =>
            {
                using var batch = new NfTablesBatch();
                foreach (var rule in ours)
                    batch.DeleteRule(table, name, rule.Handle);
                if (here.Length > 0)
                {
                    batch.AddRule(table, name, Firewall.Output(new NfExpressions(), transit).Counter().Verdict(NfVerdict.Accept), here[1], first: true);
                    batch.AddRule(table, name, Firewall.Input(new NfExpressions(), transit).Counter().Verdict(NfVerdict.Accept), here[0], first: true);
                }
                FirewallTable.Commit(kernel, batch);
            });
        }
    }

    private static string? Place(Dictionary<string, NfChain> chains) => chains.ContainsKey(DockerUser) ? DockerUser
        : chains.TryGetValue(Forward, out var forward) && forward is { Hook: NfHook.Forward, Policy: NfVerdictCode.Drop } ? Forward
        : null;

    /// <summary>The older iptables has tables of its own, which only its tool can change; they are there only when somebody used it.</summary>
    private static void MendLegacy(Reconciliation account, bool egress, NetworkNamespace host, string mark, string transit, string scope)
    {
        foreach (var (tool, names) in new[] { ("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names") })
        {
            var inUse = host.Run(() => File.Exists($"/proc/thread-self/net/{names}") && File.ReadLines($"/proc/thread-self/net/{names}").Contains(Filter));
            if (!inUse || Execute(host, tool, "-S") is not { } listing)
                continue;
            var place = listing.Contains($"-N {DockerUser}") ? DockerUser : listing.Contains($"-P {Forward} DROP") ? Forward : null;
            foreach (var chain in new[] { DockerUser, Forward })
            {
                foreach (var (option, direction) in new[] { ("-o", "back"), ("-i", "out") })
                {
                    var rule = $"-A {chain} {option} {transit}+ -m comment --comment \"{mark} {direction}\" -j ACCEPT";
                    string[] spec = [chain, option, $"{transit}+", "-m", "comment", "--comment", $"{mark} {direction}", "-j", "ACCEPT"];
                    var wanted = egress && chain == place;
                    if (wanted != listing.Contains(rule))
                        account.Mend(scope, $"{(wanted ? "insert" : "delete")} {tool} rule '{rule}'", () =>
                        {
                            if (Execute(host, tool, [wanted ? "-I" : "-D", .. spec]) is null)
                                throw new IOException($"{tool} refused; run 'journalctl -k' and '{tool} -S {chain}' to see why");
                        });
                }
            }
        }
    }

    /// <summary>Runs a tool in the host's namespace: the child starts in that of the thread that starts it.</summary>
    /// <returns>The lines it printed; null when it is not installed or failed.</returns>
    private static List<string>? Execute(NetworkNamespace host, string tool, params string[] arguments) => host.Run(() =>
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(tool, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            var errors = process.StandardError.ReadToEndAsync();
            var output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            errors.Wait();
            return process.ExitCode == 0 ? output.Split('\n').Select(line => line.Trim()).ToList() : null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    });
}
