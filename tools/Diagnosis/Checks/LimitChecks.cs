using System.Globalization;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Tables of the kernel that have a limit: connections that are followed, neighbours.</summary>
internal static class LimitChecks
{
    private const double Full = 0.95, Near = 0.8;

    public static IEnumerable<Diagnosed> Run(CheckupInput input)
    {
        foreach (var (what, netns) in Places(input))
        {
            using (netns)
            {
                var (count, most) = netns.Run(() => (Read("net/netfilter/nf_conntrack_count"), Read("net/netfilter/nf_conntrack_max")));
                foreach (var finding in Conntrack(what, count, most))
                    yield return finding;
            }
        }
        // One table for all namespaces; permanent entries are not counted.
        var entries = input.Host.Neighbours.Concat(input.Networks.SelectMany(network => network.Reading?.Neighbours ?? []).Concat(input.Networks.SelectMany(network => network.Local).SelectMany(local => local.Reading?.Neighbours ?? [])))
            .Where(entry => !entry.State.HasFlag(NeighbourState.Permanent) && !entry.State.HasFlag(NeighbourState.NoArp)).ToList();
        foreach (var (family, v6) in new[] { ("ipv4", false), ("ipv6", true) })
        {
            foreach (var finding in Neighbours(family, entries.Count(entry => entry.Address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 == v6), Read($"net/{family}/neigh/default/gc_thresh3")))
                yield return finding;
        }
    }

    /// <param name="most">Null: connections are not followed, or it cannot be read.</param>
    public static IEnumerable<Diagnosed> Conntrack(string where, long? count, long? most)
    {
        if (count is not { } used || most is not (> 0 and var limit) || used < limit * Near)
            yield break;
        var message = string.Create(CultureInfo.InvariantCulture, $"{used} of {limit} connections are followed in {where}");
        var remedy = string.Create(CultureInfo.InvariantCulture, $"sysctl -w net.netfilter.nf_conntrack_max={limit * 4}, and look for who opens them: conntrack -L");
        yield return used >= limit * Full
            ? Diagnosed.Error("limit.conntrack", where, $"{message}: new ones are dropped", null, remedy)
            : Diagnosed.Warning("limit.conntrack", where, message, null, remedy);
    }

    /// <param name="most">gc_thresh3; null: only the first namespace may read it.</param>
    public static IEnumerable<Diagnosed> Neighbours(string family, long count, long? most)
    {
        if (most is not (> 0 and var limit) || count < limit * Near)
            yield break;
        yield return Diagnosed.Error("limit.neighbours", family, string.Create(CultureInfo.InvariantCulture, $"{count} of {limit} neighbours are known: beyond that new addresses cannot be reached"), null, string.Create(CultureInfo.InvariantCulture, $"sysctl -w net.{family}.neigh.default.gc_thresh3={limit * 4} (and gc_thresh2, gc_thresh1 below it)"));
    }

    private static IEnumerable<(string What, NetworkNamespace Netns)> Places(CheckupInput input)
    {
        yield return ("the host", NetworkNamespace.Open($"/proc/self/fd/{input.Node.Host.Fd.ToString(CultureInfo.InvariantCulture)}"));
        foreach (var network in input.Networks.Where(network => network.Reading is not null))
        {
            yield return ($"network {network.Network.Name}", NamedNamespaces.OpenPinned(network.Netns));
            foreach (var (endpoint, _) in network.Local.Where(local => local.Reading is not null))
                yield return ($"endpoint {endpoint.Name}", NamespaceReading.Open(endpoint.Netns));
        }
    }

    private static long? Read(string name) => long.TryParse(Sysctl.Read(name), NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;
}
