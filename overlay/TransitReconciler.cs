using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>The link that leads a network outside through its host; internal networks have none.</summary>
internal sealed class TransitReconciler(Reconciliation account, OverlayConfig config, OverlayNetwork network, OwnershipMark mark, NetworkNamespace host, NetworkNamespace netns)
{
    internal const string InsideName = "up0";

    // Also the pattern of the host's packet filter rules.
    internal const string OutsidePrefix = "oe";

    /// <summary>Name of the host's end: the node's short id and the VNI keep it apart from any other.</summary>
    internal static string OutsideName(OverlayConfig config, OverlayNetwork network) => $"{OutsidePrefix}{config.NodeShortId}{network.Vni:x6}";

    /// <returns>The transit as it shall be; null when there is none. The inside addresses are the caller's to set.</returns>
    internal Transit? Run(NetlinkSocket socket, RouteLinks links)
    {
        var inside = links.Get(InsideName);
        if (network.Internal)
        {
            if (inside is not null)
                account.Mend(network.Name, $"delete link {InsideName} of an internal network", () => links.Delete(inside.Index));
            return null;
        }
        using var hostSocket = NetlinkSocket.Open(NetlinkProtocol.Route, host);
        var hostLinks = new RouteLinks(hostSocket);
        var name = OutsideName(config, network);
        if (inside is not null && (inside.LinkNetnsId is null || inside.LinkNetnsId != links.NetnsId(host) || hostLinks.Get(inside.Parent)?.Name != name))
        {
            account.Mend(network.Name, $"delete link {InsideName} that does not lead to the host", () => links.Delete(inside.Index));
            inside = links.Get(InsideName);
        }
        if (inside is null)
        {
            if (!account.Mend(network.Name, $"add transit link {name}", () => hostLinks.Add(new VethSpec { Name = name, PeerName = InsideName, PeerNetnsFd = netns.Fd })))
                return null;
            inside = links.Get(InsideName);
        }
        if (inside is null || hostLinks.Get(name) is not { } outside)
            return null;
        account.Send(network.Name, socket, [.. LinkDifference.Requests(inside, new LinkChange { Up = true, Mtu = config.UnderlayMtu })]);
        account.Send(network.Name, hostSocket, [.. LinkDifference.Requests(outside, new LinkChange { Up = true, Mtu = config.UnderlayMtu, Alias = mark.ToString() })]);
        var transit = new Transit(inside.Index, EnsureOutside(hostSocket, outside));
        EnsureHostRoutes(hostSocket, outside, transit);
        return transit;
    }

    private void EnsureHostRoutes(NetlinkSocket hostSocket, Link outside, Transit transit)
    {
        var routes = new List<Route>();
        foreach (var (inside, own) in network.HostAccess ? transit.Pairs : [])
        {
            if ((own.AddressFamily == AddressFamily.InterNetwork ? network.Subnet4 : network.Subnet6) is { } subnet)
                routes.Add(new Route { Destination = subnet, Gateway = inside, Interface = outside.Index, Source = own });
        }
        account.Send(network.Name, hostSocket, RouteTable.Difference(routes, new RouteRoutes(hostSocket).Dump(), [outside.Index]));
    }

    private List<(IPAddress, IPAddress)> EnsureOutside(NetlinkSocket hostSocket, Link outside)
    {
        var actual = new RouteAddresses(hostSocket).Dump();
        // The kernel remembers the place; a new link takes the first free one.
        var place = actual.Where(address => address.Interface == outside.Index).Select(address => TransitAddresses.PlaceOf(address.Address)).FirstOrDefault(found => found is not null)
            ?? TransitAddresses.Free(actual.Select(address => address.Address));
        List<(IPAddress Inside, IPAddress Outside)> pairs = [];
        if (network.Subnet4 is not null)
            pairs.Add(TransitAddresses.Pair4(place));
        if (network.Subnet6 is not null)
            pairs.Add(TransitAddresses.Pair6(place));
        var wanted = new AddressTable();
        // The IPv4 address keeps the place also where only IPv6 is used.
        wanted.Want(outside.Index, TransitAddresses.Pair4(place).Outside, 31);
        foreach (var pair in pairs.Where(pair => pair.Outside.AddressFamily == AddressFamily.InterNetworkV6))
            wanted.Want(outside.Index, pair.Outside, 127);
        account.Send(network.Name, hostSocket, wanted.Difference(actual, [outside.Index]));
        return pairs;
    }
}
