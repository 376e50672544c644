using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Balancers;

namespace OverlayNet.Vip.Ingress;

/// <summary>
/// Published ports: every node answers on its own addresses, whichever writer serves the VIP itself. A server on this node sees the client's
/// address; one elsewhere sees this node's, as its answer must come back here. Not thread-safe.
/// </summary>
/// <param name="owner">Tells this node's tables from those of another daemon on the same host.</param>
/// <param name="hostNamespace">Path of the host's namespace; null: that of the process.</param>
public sealed class PublishedPorts(string owner, string? hostNamespace = null)
{
    private const string Name = "ingress";
    private static readonly NfFamily[] Families = [NfFamily.IPv4, NfFamily.IPv6];
    private readonly HashSet<int> publishNothing = [];

    /// <summary>Makes the kernel publish exactly this; adopts what is there.</summary>
    public BalancerReport Apply(VipConfig config) => Run(config, write: true);

    /// <summary>What <see cref="Apply"/> would change; reads only.</summary>
    public BalancerReport Observe(VipConfig config) => Run(config, write: false);

    private BalancerReport Run(VipConfig config, bool write)
    {
        var changes = new List<VipChange>();
        var errors = new List<VipError>();
        var hostTables = new List<(string Network, WholeTable Table)>();
        foreach (var network in config.Networks)
        {
            try
            {
                hostTables.AddRange(Inside(network, write, changes).Select(table => (network.Name, table)));
            }
            catch (KernelException e)
            {
                errors.Add(new VipError(Name, network.Name, null, network.Netns, e.Message, e is not NetlinkException && e.Errno == 2));
            }
        }
        try
        {
            Host(config, hostTables, write, changes);
        }
        catch (KernelException e)
        {
            errors.Add(new VipError(Name, "all", null, "host", e.Message));
        }
        return new BalancerReport { Changes = changes, Errors = errors };
    }

    private List<WholeTable> Inside(VipNetwork network, bool write, List<VipChange> changes)
    {
        var hostTables = new List<WholeTable>();
        var published = Families.Select(family => (Family: family, Ports: IngressTables.PortsOf(network, family))).ToList();
        // Most networks publish nothing and never did: they cost no look into their namespace after the first.
        var nothing = published.All(entry => entry.Ports.Count == 0);
        if (nothing && publishNothing.Contains(network.Vni))
            return hostTables;
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        using var nft = NfTables.Open(netns);
        var uplink = UplinkAddresses(netns, network.Uplink);
        foreach (var (family, ports) in published)
        {
            var inside = uplink.FirstOrDefault(address => IngressTables.FamilyOf(address) == family);
            if (ports.Count == 0 || inside is null)
            {
                var stale = IngressTables.InsideTable(family, network.Vni);
                if (nft.Tables(family).Any(table => table.Table == stale))
                {
                    changes.Add(new VipChange(Name, network.Name, network.Netns, $"{stale} removed"));
                    if (write)
                        WholeTable.Remove(nft, stale);
                }
                continue;
            }
            var table = IngressTables.Inside(family, network, ports);
            Mend(nft, table, network.Name, network.Netns, write, changes);
            hostTables.Add(IngressTables.Host(family, owner, network.Vni, ports, inside));
        }
        if (nothing && write)
            publishNothing.Add(network.Vni);
        else
            publishNothing.Remove(network.Vni);
        return hostTables;
    }

    private void Host(VipConfig config, List<(string Network, WholeTable Table)> tables, bool write, List<VipChange> changes)
    {
        using var netns = NetworkNamespace.Open(hostNamespace ?? "/proc/self/ns/net");
        using var nft = NfTables.Open(netns);
        foreach (var (network, table) in tables)
            Mend(nft, table, network, "host", write, changes);
        var prefix = IngressTables.HostPrefix(owner);
        foreach (var there in nft.Tables().Where(info => info.Table.Name.StartsWith(prefix, StringComparison.Ordinal)).ToList())
        {
            if (tables.Any(wanted => wanted.Table.Table == there.Table))
                continue;
            var network = config.Networks.FirstOrDefault(network => IngressTables.HostTable(there.Table.Family, owner, network.Vni) == there.Table);
            changes.Add(new VipChange(Name, network?.Name ?? "removed", "host", $"{there.Table} removed"));
            if (write)
                WholeTable.Remove(nft, there.Table);
        }
    }

    private static void Mend(NfTables nft, WholeTable table, string network, string where, bool write, List<VipChange> changes)
    {
        if (table.IsIn(nft))
            return;
        changes.Add(new VipChange(Name, network, where, $"{table.Table} written"));
        if (write)
            table.Replace(nft);
    }

    private static List<IPAddress> UplinkAddresses(NetworkNamespace netns, string uplink)
    {
        using var route = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        var link = new RouteLinks(route).Get(uplink);
        return link is null ? [] : [.. new RouteAddresses(route).Dump()
            .Where(address => address.Interface == link.Index && !address.Address.IsIPv6LinkLocal).Select(address => address.Address)];
    }
}
