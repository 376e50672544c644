using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>Makes one network's namespace on this node as desired: bridge, VXLAN device, the node's own link, routes, tables.</summary>
internal sealed class NetworkReconciler(Reconciliation account, OverlayConfig config, OverlayNetwork network, NetworkNamespace host, NetworkNamespace netns)
{
    internal const string BridgeName = "br0", VxlanName = "vx0", NodeName = "node0", NodePortName = "node0p";

    /// <summary>A port of this node: nothing is learnt from it and nothing unknown is sent to it; broadcasts are.</summary>
    internal static readonly BridgePortOptions LocalPort = new()
    {
        Learning = false,
        UnicastFlood = false,
        MulticastFlood = true,
        BroadcastFlood = true,
        NeighbourSuppress = false,
        Hairpin = false,
    };

    // Nothing is ever flooded to the underlay; ARP and ND for what lies there are answered on this node.
    private static readonly BridgePortOptions TunnelPort = new()
    {
        Learning = false,
        UnicastFlood = false,
        MulticastFlood = false,
        BroadcastFlood = false,
        NeighbourSuppress = true,
        Hairpin = false,
    };

    // Links the kernel itself puts into every new namespace when the module is loaded.
    private static readonly HashSet<string> FallbackKinds = ["ifb", "dummy", "sit", "ipip", "ip6tnl", "gre", "gretap", "erspan", "ip6gre", "vti", "vti6"];

    private static readonly BridgeOptions Bridge = new() { MulticastSnooping = false, Stp = false, DefaultPvid = 0, ForwardDelay = TimeSpan.Zero };

    private readonly OwnershipMark mark = new(config.ClusterId, config.NodeId, network.Name);
    private readonly int mtu = network.Mtu > 0 ? network.Mtu : OverlayMtu.Of(config.UnderlayAddress, config.UnderlayMtu);

    /// <summary>Brings the network to its desired state as far as the kernel lets it.</summary>
    internal void Run()
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        var links = new RouteLinks(socket);
        if (!Own(socket, links))
            return;
        MendSysctls(NamespaceSysctls.Network);
        if (Ensure(socket, links, BridgeName, WantedBridge(), () => links.Add(NewBridge()), "bridge") is not { } bridge
            || !RemoveOtherVxlan(links)
            || Ensure(socket, links, VxlanName, WantedTunnel(bridge.Index), () => AddVxlan(), "vxlan") is not { } vxlan)
            return;
        var tables = new ForwardingTables(bridge.Index, vxlan.Index);
        var nodeLink = EnsureNode(socket, links, bridge, tables);
        new EndpointReconciler(account, network, mark, mtu, socket).Run(bridge, tables);
        var transit = new TransitReconciler(account, config, network, mark, host, netns).Run(socket, links);
        string[] addressed = [BridgeName, .. nodeLink is null ? Array.Empty<string>() : [NodeName], .. transit is null ? Array.Empty<string>() : [TransitReconciler.InsideName]];
        MendSysctls(addressed.SelectMany(NamespaceSysctls.AddressedLink));
        EnsureAddresses(socket, bridge, nodeLink, transit);
        EnsureTables(socket, bridge.Index, tables);
        account.Try(network.Name, "set the packet filter", () => Firewall.Network(account, network, netns));
    }

    private BridgeSpec NewBridge() => new() { Name = BridgeName, Mac = network.GatewayMac, Mtu = mtu, Options = Bridge };

    private LinkChange WantedBridge() => new() { Mac = network.GatewayMac, Mtu = mtu, Up = true, Bridge = Bridge };

    private LinkChange WantedTunnel(int bridge) => new() { Master = bridge, Mtu = mtu, Up = true, Port = TunnelPort };

    /// <summary>Refuses a namespace that somebody else marked or filled; marks a fresh one.</summary>
    private bool Own(NetlinkSocket socket, RouteLinks links)
    {
        var all = links.Dump();
        var loopback = all.FirstOrDefault(link => link.Name == "lo");
        if (loopback is null)
            return false;
        if (loopback.Alias == mark.ToString())
        {
            account.Send(network.Name, socket, [.. LinkDifference.Requests(loopback, new LinkChange { Up = true })]);
            return true;
        }
        // Ours may have died between making the namespace and marking it; then nothing is in it yet.
        if (loopback.Alias is null && all.All(link => link.Kind is null || FallbackKinds.Contains(link.Kind)))
            return account.Send(network.Name, socket, [.. LinkDifference.Requests(loopback, new LinkChange { Alias = mark.ToString(), Up = true })]);
        account.Fail(network.Name, $"use network namespace {network.Netns}",
            loopback.Alias is null
                ? "it has links but no mark of ours: remove it (ip netns del) or rename the network"
                : $"it is marked '{loopback.Alias}', not '{mark}': another cluster or node uses the name");
        return false;
    }

    /// <summary>A device whose settings cannot be changed in place goes.</summary>
    /// <returns>False when it is still there.</returns>
    private bool RemoveOtherVxlan(RouteLinks links)
    {
        if (links.Get(VxlanName) is not { } present)
            return true;
        // Without a number its underlay is this very namespace, as when somebody made it by hand.
        if (present is { Vxlan: { Learning: false } seen, LinkNetnsId: not null }
            && seen.Vni == network.Vni && seen.Port == config.VxlanPort && config.UnderlayAddress.Equals(seen.Local))
            return true;
        var settings = present.Vxlan is { } other ? $"VNI {other.Vni}, port {other.Port}, local {other.Local}" : $"kind {present.Kind}";
        return account.Mend(network.Name, $"delete {VxlanName} with other settings ({settings})", () => links.Delete(present.Index));
    }

    private void AddVxlan()
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, host);
        new RouteLinks(socket).Add(new VxlanSpec
        {
            Name = VxlanName,
            Mtu = mtu,
            NetnsFd = netns.Fd,
            Options = new VxlanOptions
            {
                Vni = network.Vni,
                Port = config.VxlanPort,
                Local = config.UnderlayAddress,
                // Sent with a checksum all the same: not every network passes UDP over IPv6 without (RFC 6936 section 4).
                UdpZeroChecksum6Rx = true,
            },
        });
    }

    /// <summary>Finds or makes a link of a kind and brings it to what is wanted; one of another kind in its place goes.</summary>
    private Link? Ensure(NetlinkSocket socket, RouteLinks links, string name, LinkChange wanted, Action make, string kind)
    {
        var link = links.Get(name);
        if (link is not null && link.Kind != kind)
        {
            if (!account.Mend(network.Name, $"delete {link.Kind} {name} in the place of a {kind}", () => links.Delete(link.Index)))
                return null;
            link = null;
        }
        if (link is null)
        {
            if (!account.Mend(network.Name, $"add {kind} {name}", make))
                return null;
            link = links.Get(name);
        }
        if (link is not null)
            account.Send(network.Name, socket, [.. LinkDifference.Requests(link, wanted)]);
        return link;
    }

    /// <summary>The node's own link: a pair of which one end is a port of the bridge and the other has the node's address.</summary>
    private Link? EnsureNode(NetlinkSocket socket, RouteLinks links, Link bridge, ForwardingTables tables)
    {
        if (network.Node is not { } node)
        {
            if (links.Get(NodeName) is { } stale)
                account.Mend(network.Name, $"delete link {NodeName}", () => links.Delete(stale.Index));
            return null;
        }
        var pair = new VethSpec { Name = NodeName, Mac = node.Mac, Mtu = mtu, PeerName = NodePortName, PeerMtu = mtu };
        var link = Ensure(socket, links, NodeName, new LinkChange { Mac = node.Mac, Mtu = mtu, Up = true }, () => links.Add(pair), "veth");
        if (link is null || links.Get(NodePortName) is not { Kind: "veth" } port)
            return null;
        account.Send(network.Name, socket, [.. LinkDifference.Requests(port, new LinkChange { Master = bridge.Index, Mtu = mtu, Up = true, Port = LocalPort })]);
        tables.Local(node.Mac, port.Index);
        return link;
    }

    private void MendSysctls(IEnumerable<(string Name, string Value)> wanted)
    {
        var different = netns.Run(() => NamespaceSysctls.Different(wanted));
        foreach (var (name, value) in different)
            account.Mend(network.Name, $"set {name} = {value}", () => netns.SetSysctl(name, value));
    }

    private void EnsureAddresses(NetlinkSocket socket, Link bridge, Link? nodeLink, Transit? transit)
    {
        var addresses = new AddressTable();
        var routes = new List<Route>();
        foreach (var (subnet, gateway, own) in new[] { (network.Subnet4, network.Gateway4, network.Node?.Address4), (network.Subnet6, network.Gateway6, network.Node?.Address6) })
        {
            if (subnet is not { } prefix)
                continue;
            // A host prefix: the gateway must never be chosen as a source, so it brings no route to the subnet.
            if (gateway is not null)
                addresses.Want(bridge.Index, gateway, OnlyHost(gateway));
            if (nodeLink is not null && own is not null)
            {
                addresses.Want(nodeLink.Index, own, prefix.PrefixLength);
                routes.Add(new Route { Destination = prefix, Interface = nodeLink.Index, Source = own });
            }
            else
            {
                routes.Add(new Route { Destination = prefix, Interface = bridge.Index });
            }
        }
        foreach (var resolver in config.ResolverAddresses)
            addresses.Want(Loopback, resolver, OnlyHost(resolver));
        List<int> ours = [bridge.Index];
        if (nodeLink is not null)
            ours.Add(nodeLink.Index);
        if (transit is not null)
        {
            ours.Add(transit.Interface);
            foreach (var (inside, outside) in transit.Pairs)
            {
                addresses.Want(transit.Interface, inside, OnlyHost(inside) - 1);
                routes.Add(new Route { Destination = Default(inside), Gateway = outside, Interface = transit.Interface });
            }
        }
        account.Send(network.Name, socket, addresses.Difference(new RouteAddresses(socket).Dump(), ours));
        account.Send(network.Name, socket, RouteTable.Difference(routes, new RouteRoutes(socket).Dump(), ours));
    }

    private void EnsureTables(NetlinkSocket socket, int bridge, ForwardingTables tables)
    {
        foreach (var remote in network.Remotes)
            tables.Remote(remote);
        foreach (var extra in network.ExtraNeighbours)
            tables.Extra(extra);
        account.Send(network.Name, socket, tables.Difference(new RouteFdb(socket).Dump(), new RouteNeighbours(socket).Dump(bridge)));
    }

    // Every namespace's loopback link has index 1.
    private const int Loopback = 1;

    private static int OnlyHost(IPAddress address) => address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 ? 128 : 32;

    private static IPNetwork Default(IPAddress family) => new(OnlyHost(family) == 128 ? IPAddress.IPv6Any : IPAddress.Any, 0);
}
