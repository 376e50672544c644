using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>Attaches the containers of one network on this node, and takes off those that are no longer desired.</summary>
internal sealed class EndpointReconciler(Reconciliation account, OverlayNetwork network, OwnershipMark mark, int mtu, NetlinkSocket socket)
{
    private const string PortPrefix = "ve";
    private readonly RouteLinks links = new(socket);

    internal void Run(Link bridge, ForwardingTables tables)
    {
        var present = links.Dump().ToDictionary(link => link.Name);
        var wanted = network.Endpoints.Select(endpoint => endpoint.HostInterface).ToHashSet();
        foreach (var stale in present.Values)
        {
            if (stale.Kind == "veth" && stale.Name.StartsWith(PortPrefix, StringComparison.Ordinal) && !wanted.Contains(stale.Name))
                account.Mend(network.Name, $"delete port {stale.Name} of an endpoint that is not desired ({stale.Alias ?? "unmarked"})", () => links.Delete(stale.Index));
        }
        foreach (var endpoint in network.Endpoints)
        {
            var outcome = EndpointOutcome.Failed;
            string? @interface = null;
            var port = present.GetValueOrDefault(endpoint.HostInterface);
            account.Try(network.Name, $"attach endpoint {endpoint.Id}", () => (outcome, @interface) = endpoint.RuntimeConfigured
                ? AttachByRuntime(endpoint, port, bridge, tables)
                : Attach(endpoint, port, bridge, tables));
            account.Endpoint(endpoint.Id, outcome, @interface);
        }
    }

    private (EndpointOutcome, string?) Attach(LocalEndpoint endpoint, Link? port, Link bridge, ForwardingTables tables)
    {
        NetworkNamespace container;
        try
        {
            container = NamespaceIdentity.Open(endpoint.Netns, endpoint.NetnsIdentity);
        }
        catch (KernelException)
        {
            // Deleted, the stale file of a name that nothing is mounted on any more, or a process number used again.
            return (EndpointOutcome.Gone, null);
        }
        using (container)
        {
            if (port is not null && (port.LinkNetnsId is null || port.LinkNetnsId != links.NetnsId(container)))
            {
                if (!account.Mend(network.Name, $"delete port {port.Name}: its container is another namespace now", () => links.Delete(port.Index)))
                    return (EndpointOutcome.Failed, null);
                port = null;
            }
            using var inside = NetlinkSocket.Open(NetlinkProtocol.Route, container);
            var insideLinks = new RouteLinks(inside);
            if (port is null)
            {
                if (!account.Mend(network.Name, $"add endpoint {endpoint.Id} ({endpoint.HostInterface}) in {endpoint.Netns}", () => MakePair(endpoint, bridge, container, insideLinks)))
                    return (EndpointOutcome.Failed, null);
                port = links.Get(endpoint.HostInterface);
            }
            if (port is null || insideLinks.Get(port.Parent) is not { } peer)
                return (EndpointOutcome.Failed, null);
            var fine = MendPort(endpoint, port, bridge, tables);
            fine &= MendInside(endpoint, container, inside, insideLinks, peer);
            return (fine || account.DryRun ? EndpointOutcome.Ready : EndpointOutcome.Failed, peer.Name);
        }
    }

    /// <summary>
    /// The runtime takes the container's end from the host's namespace and configures it. Its namespace may come into
    /// being later than the pair; the pair ends with it.
    /// </summary>
    private (EndpointOutcome, string?) AttachByRuntime(LocalEndpoint endpoint, Link? port, Link bridge, ForwardingTables tables)
    {
        using var container = OpenOrNull(endpoint.Netns);
        // The runtime has done its part once and will not again: a pair that was lost since is made inside.
        if (endpoint.HandOver is null && container is not null && (port?.LinkNetnsId is null || port.LinkNetnsId != links.NetnsId(container)))
            return Attach(endpoint, port, bridge, tables);
        if (port is null)
        {
            if (endpoint.HandOver is not { } name)
                return (EndpointOutcome.Gone, null);
            if (!account.Mend(network.Name, $"add endpoint {endpoint.Id} ({endpoint.HostInterface}), to be taken over as {name}", () => MakePairForRuntime(endpoint, name, bridge)))
                return (EndpointOutcome.Failed, null);
            port = links.Get(endpoint.HostInterface);
        }
        if (port is null)
            return (EndpointOutcome.Failed, null);
        if (!MendPort(endpoint, port, bridge, tables) && !account.DryRun)
            return (EndpointOutcome.Failed, null);
        if (container is null || port.LinkNetnsId is null || port.LinkNetnsId != links.NetnsId(container))
            return (EndpointOutcome.Pending, null);
        using var inside = NetlinkSocket.Open(NetlinkProtocol.Route, container);
        return new RouteLinks(inside).Get(port.Parent) is { IsUp: true } peer
            ? (EndpointOutcome.Ready, peer.Name)
            : (EndpointOutcome.Pending, null);
    }

    private void MakePairForRuntime(LocalEndpoint endpoint, string name, Link bridge)
    {
        using var host = NetworkNamespace.OpenHost();
        links.Add(new VethSpec
        {
            Name = endpoint.HostInterface,
            Mtu = mtu,
            Master = bridge.Index,
            PeerName = name,
            PeerMac = endpoint.Mac,
            PeerMtu = mtu,
            PeerNetnsFd = host.Fd,
        });
    }

    private bool MendPort(LocalEndpoint endpoint, Link port, Link bridge, ForwardingTables tables)
    {
        tables.Local(endpoint.Mac, port.Index);
        return account.Send(network.Name, socket, [.. LinkDifference.Requests(port, new LinkChange
        {
            Master = bridge.Index,
            Mtu = mtu,
            Up = true,
            Alias = mark.Endpoint(endpoint.Id),
            Port = NetworkReconciler.LocalPort,
        })]);
    }

    private static NetworkNamespace? OpenOrNull(string path)
    {
        try
        {
            return NetworkNamespace.Open(path);
        }
        catch (KernelException)
        {
            // Not there yet, or not any more.
            return null;
        }
    }

    private void MakePair(LocalEndpoint endpoint, Link bridge, NetworkNamespace container, RouteLinks insideLinks)
    {
        var taken = insideLinks.Dump().Select(link => link.Name).ToHashSet();
        links.Add(new VethSpec
        {
            Name = endpoint.HostInterface,
            Mtu = mtu,
            Master = bridge.Index,
            PeerName = InterfaceName.Free(endpoint.Interface, taken),
            PeerMac = endpoint.Mac,
            PeerMtu = mtu,
            PeerNetnsFd = container.Fd,
        });
    }

    private bool MendInside(LocalEndpoint endpoint, NetworkNamespace container, NetlinkSocket inside, RouteLinks insideLinks, Link peer)
    {
        var addresses = new AddressTable();
        List<(IPNetwork Subnet, IPAddress Address, IPAddress? Gateway)> families = [];
        if (endpoint.Address4 is { } address4 && network.Subnet4 is { } subnet4)
            families.Add((subnet4, address4, network.Gateway4));
        if (endpoint.Address6 is { } address6 && network.Subnet6 is { } subnet6)
            families.Add((subnet6, address6, network.Gateway6));
        if (endpoint.Address6 is not null)
        {
            // Runtimes switch IPv6 off in containers of their own IPv4-only networks.
            foreach (var (name, value) in container.Run(() => NamespaceSysctls.Different([($"net/ipv6/conf/{peer.Name}/disable_ipv6", "0")])))
                account.Mend(network.Name, $"set {name} = {value} in {endpoint.Netns}", () => container.SetSysctl(name, value));
        }
        List<RouteRequest> requests = [.. LinkDifference.Requests(peer, new LinkChange { Mac = endpoint.Mac, Mtu = mtu, Up = true })];
        if (insideLinks.Get("lo") is { IsUp: false } loopback)
            requests.AddRange(LinkDifference.Requests(loopback, new LinkChange { Up = true }));
        foreach (var family in families)
            addresses.Want(peer.Index, family.Address, family.Subnet.PrefixLength);
        // Other addresses on the link are the container's own business, unless they are an older one of this endpoint.
        var actual = new RouteAddresses(inside).Dump().Where(address => families.Any(family =>
            family.Subnet.Contains(address.Address) && family.Subnet.PrefixLength == address.PrefixLength));
        requests.AddRange(addresses.Difference(actual, [peer.Index]));
        var present = new RouteRoutes(inside).Dump();
        foreach (var (subnet, address, gateway) in families)
            requests.AddRange(Routes(peer.Index, subnet, address, gateway, present));
        return account.Send(network.Name, inside, requests);
    }

    private IEnumerable<RouteRequest> Routes(int peer, IPNetwork subnet, IPAddress address, IPAddress? gateway, List<Route> present)
    {
        var connected = new Route { Destination = subnet, Interface = peer, Source = address };
        if (!present.Any(route => route.Destination == subnet && route.Interface == peer && address.Equals(route.Source)))
            yield return RouteRoutes.Replacing(connected);
        if (gateway is null)
            yield break;
        var @default = new Route { Destination = NetworkPrefix.Containing(gateway, 0), Gateway = gateway, Interface = peer };
        var defaults = present.Where(route => route.Table == 254 && route.Type == RouteType.Unicast && route.Destination == @default.Destination).ToList();
        var ours = defaults.FirstOrDefault(route => route.Interface == peer && gateway.Equals(route.Gateway));
        if (network.Internal && ours is not null)
            yield return RouteRoutes.Deleting(ours);
        // The first network that a container joins leads outside; a second default route would only split its traffic.
        else if (!network.Internal && defaults.Count == 0)
            yield return RouteRoutes.Replacing(@default);
    }
}
