using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>
/// The static tables of one network: the bridge's FDB, the VXLAN device's FDB and the bridge's neighbours, from
/// which ARP and ND for what lies behind the VXLAN port are answered. Nothing is learnt and nothing is flooded to the
/// underlay, so these tables are all that can send a packet there.
/// </summary>
internal sealed class ForwardingTables
{
    private readonly int bridge;
    private readonly int vxlan;
    private readonly Dictionary<MacAddress, int> ports = [];
    private readonly Dictionary<MacAddress, IPAddress> vteps = [];
    private readonly Dictionary<IPAddress, MacAddress> neighbours = [];

    /// <param name="bridge">Index of the bridge.</param>
    /// <param name="vxlan">Index of the VXLAN device.</param>
    internal ForwardingTables(int bridge, int vxlan)
    {
        this.bridge = bridge;
        this.vxlan = vxlan;
    }

    /// <summary>A MAC behind a port of this node.</summary>
    /// <param name="port">Index of the port.</param>
    internal void Local(MacAddress mac, int port) => ports[mac] = port;

    internal void Remote(RemoteEndpoint remote)
    {
        // While an endpoint moves here, its old place may still be in the desired state: the port wins.
        if (!ports.TryAdd(remote.Mac, vxlan))
            return;
        vteps[remote.Mac] = remote.Vtep;
        foreach (var address in remote.Addresses)
            neighbours[address] = remote.Mac;
    }

    internal void Extra(ExtraNeighbour extra)
    {
        // Suppression answers for a neighbour whose MAC the FDB has behind the VXLAN port; without a VTEP frames end there.
        ports.TryAdd(extra.Mac, vxlan);
        if (extra.Vtep is { } vtep)
            vteps.TryAdd(extra.Mac, vtep);
        neighbours[extra.Address] = extra.Mac;
    }

    /// <summary>What to send so that the kernel's tables become these: first what is new, then what goes.</summary>
    /// <param name="fdb">All FDB entries of the namespace.</param>
    /// <param name="table">All neighbours of the bridge.</param>
    internal List<RouteRequest> Difference(IEnumerable<FdbEntry> fdb, IEnumerable<Neighbour> table)
    {
        List<RouteRequest> add = [], remove = [];
        var bridged = new HashSet<MacAddress>();
        var tunnelled = new HashSet<MacAddress>();
        var known = new HashSet<IPAddress>();
        foreach (var entry in fdb)
        {
            if (entry.Flags.HasFlag(NeighbourFlags.Self) && entry.Interface == vxlan)
            {
                if (vteps.TryGetValue(entry.Mac, out var vtep) && vtep.Equals(entry.Vtep) && entry.Vni is null && entry.Port is null)
                    tunnelled.Add(entry.Mac);
                else if (!vteps.ContainsKey(entry.Mac))
                    remove.Add(RouteFdb.Deleting(entry with { Flags = NeighbourFlags.Self }));
            }
            // Permanent: the addresses of the bridge's own devices.
            else if (entry.Bridge == bridge && !entry.Flags.HasFlag(NeighbourFlags.Self) && !entry.State.HasFlag(NeighbourState.Permanent))
            {
                if (ports.TryGetValue(entry.Mac, out var port) && port == entry.Interface && entry.State.HasFlag(NeighbourState.NoArp))
                    bridged.Add(entry.Mac);
                else if (!ports.ContainsKey(entry.Mac))
                    remove.Add(RouteFdb.Deleting(new FdbEntry { Interface = entry.Interface, Mac = entry.Mac, Vlan = entry.Vlan, Flags = NeighbourFlags.Master }));
            }
        }
        foreach (var neighbour in table)
        {
            if (neighbour.Interface != bridge || !neighbour.State.HasFlag(NeighbourState.Permanent))
                continue;
            if (!neighbours.TryGetValue(neighbour.Address, out var mac))
                remove.Add(RouteNeighbours.Deleting(neighbour));
            else if (neighbour.Mac == mac)
                known.Add(neighbour.Address);
        }
        foreach (var (mac, port) in ports)
        {
            var vtep = vteps.GetValueOrDefault(mac);
            var missing = (bridged.Contains(mac) ? 0 : NeighbourFlags.Master) | (vtep is null || tunnelled.Contains(mac) ? 0 : NeighbourFlags.Self);
            if (missing != 0)
                add.Add(RouteFdb.Replacing(new FdbEntry { Interface = port, Mac = mac, Vtep = missing.HasFlag(NeighbourFlags.Self) ? vtep : null, Flags = missing }));
        }
        foreach (var (address, mac) in neighbours)
        {
            if (!known.Contains(address))
                add.Add(RouteNeighbours.Replacing(new Neighbour(bridge, address, mac)));
        }
        return [.. add, .. remove];
    }
}
