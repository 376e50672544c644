using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// The virtual addresses on the network's bridge, and the routes that deliver packets to them. The bridge answers ARP and
/// ND for them, to this node's own endpoints only: neither is flooded into the tunnel. So each client's packets end at its own
/// node's director, and there is one on every node.
/// </summary>
internal sealed class VirtualAddresses
{
    /// <summary>Marks addresses and routes as made by this writer (ip -details shows it as proto).</summary>
    private const byte Maker = 0x56;
    private const byte ScopeHost = 254;
    private const uint LocalTable = 255;
    private readonly RouteAddresses addresses;
    private readonly RouteRoutes routes;
    private readonly VipNetwork network;
    private readonly int bridge;

    private VirtualAddresses(NetlinkSocket socket, VipNetwork network, int bridge, IReadOnlySet<IPAddress> wanted)
    {
        addresses = new RouteAddresses(socket);
        routes = new RouteRoutes(socket);
        this.network = network;
        this.bridge = bridge;
        var there = bridge == 0 ? [] : addresses.Dump().Where(address => address.Interface == bridge && IsVirtual(address)).ToList();
        Missing = [.. wanted.Where(address => !there.Any(one => one.Address.Equals(address)))];
        Surplus = [.. there.Where(address => !wanted.Contains(address.Address))];
        Wanted = wanted;
    }

    internal IReadOnlyList<IPAddress> Missing { get; }
    internal IReadOnlyList<LinkAddress> Surplus { get; }
    private IReadOnlySet<IPAddress> Wanted { get; }

    /// <summary>Looks at the namespace of a route socket.</summary>
    /// <exception cref="IOException">It has no bridge, or several, and addresses are wanted.</exception>
    internal static VirtualAddresses Read(NetlinkSocket socket, VipNetwork network, IReadOnlySet<IPAddress> wanted)
    {
        var bridges = new RouteLinks(socket).Dump().Where(link => link.Kind == "bridge").ToList();
        if (bridges.Count != 1 && wanted.Count > 0)
            throw new IOException($"network namespace {network.Netns} has {bridges.Count} bridges; virtual addresses go on the one of the network");
        return new VirtualAddresses(socket, network, bridges.Count == 1 ? bridges[0].Index : 0, wanted);
    }

    internal void Add(IPAddress address) => addresses.Replace(address.AddressFamily == AddressFamily.InterNetworkV6
        // Never the source of anything by itself: deprecated, as in IPv4 scope host. No duplicate detection: every node has it.
        ? new LinkAddress
        {
            Interface = bridge,
            Address = address,
            PrefixLength = 128,
            Flags = AddressFlags.NoDad | AddressFlags.NoPrefixRoute,
            PreferredLifetime = TimeSpan.Zero,
            Protocol = Maker,
        }
        : new LinkAddress { Interface = bridge, Address = address, PrefixLength = 32, Scope = ScopeHost, Protocol = Maker });

    internal void Remove(LinkAddress address) => addresses.Delete(address);

    /// <summary>
    /// What the node itself sends to a virtual address has the node's own as its source: the kernel's own route says the
    /// virtual one, and a server that is asked by its own service's address answers into the void.
    /// </summary>
    /// <returns>What must change, as text and deed.</returns>
    internal List<(string What, Action Deed)> RouteDifference()
    {
        var changes = new List<(string, Action)>();
        var local = routes.Dump().Where(route => route is { Table: LocalTable, Type: RouteType.Local } && route.Interface == bridge && bridge != 0).ToList();
        foreach (var address in Wanted)
        {
            var source = address.AddressFamily == AddressFamily.InterNetworkV6 ? network.NodeAddress6 : network.NodeAddress4;
            if (source is null)
                continue;
            var destination = new IPNetwork(address, address.GetAddressBytes().Length * 8);
            var own = local.Where(route => route.Destination == destination && route.Protocol == Maker && source.Equals(route.Source)).ToList();
            var others = local.Where(route => route.Destination == destination && !own.Contains(route)).ToList();
            var wanted = new Route
            {
                Destination = destination,
                Interface = bridge,
                Source = source,
                Table = LocalTable,
                Type = RouteType.Local,
                Scope = ScopeHost,
                Protocol = Maker,
            };
            if (own.Count == 0)
                changes.Add(($"local route to {address} with source {source}", () => routes.Replace(wanted)));
            // In IPv4 the replacement takes the place of the kernel's; in IPv6 it stands beside it.
            if (address.AddressFamily == AddressFamily.InterNetworkV6)
                changes.AddRange(others.Select(other => ($"local route to {address} of the kernel removed", (Action)(() => routes.Delete(other)))));
        }
        changes.AddRange(local.Where(route => route.Protocol == Maker && !Wanted.Contains(route.Destination.BaseAddress))
            .Select(stale => ($"local route to {stale.Destination.BaseAddress} removed", (Action)(() => routes.Delete(stale)))));
        return changes;
    }

    /// <summary>Kernels before 5.18 do not keep who made an address: there its shape tells.</summary>
    private static bool IsVirtual(LinkAddress address) => address.Protocol switch
    {
        Maker => true,
        0 => address.Address.AddressFamily == AddressFamily.InterNetworkV6
            ? address.PrefixLength == 128 && (address.Flags & AddressFlags.Deprecated) != 0
            : address.PrefixLength == 32 && address.Scope == ScopeHost,
        _ => false,
    };
}
