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

    /// <summary>Ports that are ours on the host by now, by table: whoever comes later does not get them.</summary>
    private readonly Dictionary<NfTable, HashSet<(byte Protocol, ushort Port)>> granted = [];

    /// <summary>Makes the kernel publish exactly this; adopts what is there.</summary>
    public BalancerReport Apply(VipConfig config) => Run(config, write: true);

    /// <summary>What <see cref="Apply"/> would change; reads only.</summary>
    public BalancerReport Observe(VipConfig config) => Run(config, write: false);

    private BalancerReport Run(VipConfig config, bool write)
    {
        var changes = new List<VipChange>();
        var errors = new List<VipError>();
        var hostTables = new List<HostTable>();
        foreach (var network in config.Networks)
        {
            try
            {
                hostTables.AddRange(Inside(network, write, changes));
            }
            catch (KernelException e)
            {
                errors.Add(new VipError(Name, network.Name, null, network.Netns, e.Message, e is not NetlinkException && e.Errno == 2));
            }
        }
        try
        {
            Host(config, hostTables, write, changes, errors);
        }
        catch (KernelException e)
        {
            errors.Add(new VipError(Name, "all", null, "host", e.Message));
        }
        return new BalancerReport { Changes = changes, Errors = errors };
    }

    /// <summary>What a network wants of the host for one family.</summary>
    private sealed record HostTable(VipNetwork Network, NfFamily Family, IReadOnlyList<IngressTables.Port> Ports, IReadOnlyList<VipFront> Fronts, IPAddress Inside)
    {
        internal NfTable Table(string owner) => IngressTables.HostTable(Family, owner, Network.Vni);
    }

    private List<HostTable> Inside(VipNetwork network, bool write, List<VipChange> changes)
    {
        var hostTables = new List<HostTable>();
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
            var fronts = IngressTables.FrontsOf(network, family);
            // What only a floating address answers is not published on the node's own.
            var own = ports.Where(port => !fronts.Any(front => front.Inside == port.Published && front.Protocol == port.Protocol)).ToList();
            hostTables.Add(new HostTable(network, family, own, fronts, inside));
        }
        if (nothing && write)
            publishNothing.Add(network.Vni);
        else
            publishNothing.Remove(network.Vni);
        return hostTables;
    }

    private void Host(VipConfig config, List<HostTable> tables, bool write, List<VipChange> changes, List<VipError> errors)
    {
        using var netns = NetworkNamespace.Open(hostNamespace ?? "/proc/self/ns/net");
        using var nft = NfTables.Open(netns);
        var there = nft.Tables().Select(info => info.Table).ToHashSet();
        foreach (var wanted in tables)
        {
            var ports = Free(netns, nft, wanted, there, write, errors);
            Mend(nft, IngressTables.Host(wanted.Family, owner, wanted.Network.Vni, ports, wanted.Inside, wanted.Fronts), wanted.Network.Name, "host", write, changes);
        }
        var prefix = IngressTables.HostPrefix(owner);
        foreach (var table in there.Where(table => table.Name.StartsWith(prefix, StringComparison.Ordinal)))
        {
            if (tables.Any(wanted => wanted.Table(owner) == table))
                continue;
            var network = config.Networks.FirstOrDefault(network => IngressTables.HostTable(table.Family, owner, network.Vni) == table);
            changes.Add(new VipChange(Name, network?.Name ?? "removed", "host", $"{table} removed"));
            if (!write)
                continue;
            WholeTable.Remove(nft, table);
            granted.Remove(table);
        }
    }

    /// <summary>
    /// The ports that are ours already and those nobody holds. A port that a process of this host listens on stays that process's: taking its
    /// connections away would be worse than not publishing, and is said. It is looked at again with every pass.
    /// </summary>
    private List<IngressTables.Port> Free(NetworkNamespace netns, NfTables nft, HostTable wanted, HashSet<NfTable> there, bool write, List<VipError> errors)
    {
        var table = wanted.Table(owner);
        if (!granted.TryGetValue(table, out var ours))
            ours = there.Contains(table) ? [.. IngressTables.PublishedIn(nft, table)] : [];
        var free = new List<IngressTables.Port>();
        foreach (var port in wanted.Ports)
        {
            if (!ours.Contains((port.Protocol, port.Published)) && netns.Run(() => PortHolder.Find(port.Protocol, port.Published, beyondLoopback: true)) is { } holder)
            {
                var service = wanted.Network.Services.FirstOrDefault(service => service.Ports.Any(own => own.Protocol == port.Protocol && own.Published == port.Published));
                var text = $"{holder}: it is not published on this node; end that process or publish another port";
                if (!errors.Any(error => error.Message == text))
                    errors.Add(new VipError(Name, wanted.Network.Name, service?.Name, "host", text));
                continue;
            }
            free.Add(port);
        }
        if (write)
            granted[table] = [.. free.Select(port => (port.Protocol, port.Published))];
        return free;
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
