using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>
/// The difference between two states of a network that its tables and the departure of containers can bring about: it is
/// written without reading anything back.
/// </summary>
internal sealed class NetworkChange
{
    private readonly List<LocalEndpoint> left = [];
    private readonly List<RemoteEndpoint> come = [];
    private readonly List<RemoteEndpoint> gone = [];

    private NetworkChange()
    {
    }

    /// <summary>Null when more differs: then the network has to be compared as a whole.</summary>
    internal static NetworkChange? Between(OverlayNetwork before, OverlayNetwork after)
    {
        if (before with { Endpoints = after.Endpoints, Remotes = after.Remotes } != after)
            return null;
        var change = new NetworkChange();
        var endpoints = before.Endpoints.ToDictionary(endpoint => endpoint.Id);
        foreach (var endpoint in after.Endpoints)
        {
            if (!endpoints.Remove(endpoint.Id, out var was) || was != endpoint)
                return null;
        }
        change.left.AddRange(endpoints.Values);
        var remotes = new Dictionary<MacAddress, RemoteEndpoint>();
        foreach (var remote in before.Remotes)
        {
            if (!remotes.TryAdd(remote.Mac, remote))
                return null;
        }
        foreach (var remote in after.Remotes)
        {
            if (!remotes.Remove(remote.Mac, out var was))
                change.come.Add(remote);
            else if (!was.Vtep.Equals(remote.Vtep) || !was.Addresses.SequenceEqual(remote.Addresses))
                return null;
        }
        change.gone.AddRange(remotes.Values);
        // What moves between this node and another has a port and a tunnel entry at times; only a comparison sorts that out.
        var here = before.Endpoints.Select(endpoint => endpoint.Mac).ToHashSet();
        return change.come.Concat(change.gone).Any(remote => here.Contains(remote.Mac)) ? null : change;
    }

    /// <summary>Writes what is new, then takes away what goes; what is gone already is fine.</summary>
    /// <returns>False when the network's own links are not there: it has to be compared as a whole.</returns>
    internal bool Write(Reconciliation account, OverlayNetwork network, NetworkNamespace netns)
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        var links = new RouteLinks(socket);
        if (links.Get(NetworkReconciler.BridgeName) is not { } bridge || links.Get(NetworkReconciler.VxlanName) is not { } vxlan)
            return false;
        account.Send(network.Name, socket, Additions(bridge.Index, vxlan.Index));
        var ports = left.Select(endpoint => links.Get(endpoint.HostInterface)).OfType<Link>();
        account.SendRemovals(network.Name, socket, [.. Removals(bridge.Index, vxlan.Index), .. ports.Select(port => RouteLinks.Deleting(port.Index))]);
        return true;
    }

    /// <param name="bridge">Index of the bridge.</param>
    /// <param name="vxlan">Index of the VXLAN device.</param>
    internal List<RouteRequest> Additions(int bridge, int vxlan)
    {
        var requests = new List<RouteRequest>();
        foreach (var remote in come)
        {
            requests.Add(RouteFdb.Replacing(new FdbEntry { Interface = vxlan, Mac = remote.Mac, Vtep = remote.Vtep, Flags = NeighbourFlags.Master | NeighbourFlags.Self }));
            requests.AddRange(remote.Addresses.Select(address => RouteNeighbours.Replacing(new Neighbour(bridge, address, remote.Mac))));
        }
        return requests;
    }

    /// <inheritdoc cref="Additions"/>
    internal List<RouteRequest> Removals(int bridge, int vxlan)
    {
        var requests = new List<RouteRequest>();
        // An address that another endpoint has by now keeps its new entry.
        var kept = come.SelectMany(remote => remote.Addresses).ToHashSet<IPAddress>();
        foreach (var remote in gone)
        {
            requests.AddRange(remote.Addresses.Where(address => !kept.Contains(address)).Select(address => RouteNeighbours.Deleting(new Neighbour(bridge, address, remote.Mac))));
            requests.Add(RouteFdb.Deleting(new FdbEntry { Interface = vxlan, Mac = remote.Mac, Vtep = remote.Vtep, Flags = NeighbourFlags.Self }));
            requests.Add(RouteFdb.Deleting(new FdbEntry { Interface = vxlan, Mac = remote.Mac, Flags = NeighbourFlags.Master }));
        }
        return requests;
    }
}
