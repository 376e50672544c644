using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Overlay;

namespace OverlayNet.Daemon.Planners;

/// <summary>What the planner knows of its node beyond the registry.</summary>
/// <param name="UnderlayMtu">In bytes.</param>
/// <param name="VxlanPort">UDP.</param>
/// <param name="ResolverAddresses">The fixed addresses of the node's resolver.</param>
public sealed record NodeFacts(string NodeId, IPAddress UnderlayAddress, int UnderlayMtu, int VxlanPort, IReadOnlyList<IPAddress> ResolverAddresses);

/// <summary>From a snapshot to the networks one node is to have. Pure.</summary>
public static class OverlayPlanner
{
    /// <param name="suppressed">This node's endpoints that are known to be gone.</param>
    /// <param name="planned">What a network was planned as from the same basis, which need not be done again; null: it must.</param>
    public static OverlayConfig Plan(Snapshot snapshot, NodeFacts node, IReadOnlySet<string> suppressed, Func<Network, OverlayNetwork?>? planned = null) => new()
    {
        ClusterId = snapshot.ClusterId,
        NodeId = node.NodeId,
        NodeShortId = ObjectNames.ShortId(node.NodeId),
        UnderlayAddress = node.UnderlayAddress,
        UnderlayMtu = node.UnderlayMtu,
        VxlanPort = node.VxlanPort,
        ResolverAddresses = node.ResolverAddresses,
        Networks =
        [
            .. LocalNetworks.Of(snapshot, node.NodeId)
                .OrderBy(network => network.Vni)
                .Select(network => planned?.Invoke(network) ?? PlanNetwork(snapshot, node, network, suppressed)),
        ],
    };

    /// <summary>
    /// <paramref name="next"/> plus what only <paramref name="previous"/> has: the state to pass through while names and
    /// balancers may still point at what is going away. <paramref name="next"/> itself when nothing goes.
    /// </summary>
    public static OverlayConfig Union(OverlayConfig previous, OverlayConfig next)
    {
        var after = next.Networks.ToDictionary(network => network.Netns);
        if (previous.Networks.All(old => after.TryGetValue(old.Netns, out var network)
            && (ReferenceEquals(old, network) || !old.Remotes.ExceptBy(network.Remotes.Select(remote => remote.Mac), remote => remote.Mac).Any())))
            return next;
        return next with
        {
            Networks =
            [
                .. next.Networks.Select(network => previous.Networks.FirstOrDefault(old => old.Netns == network.Netns) is { } old && !ReferenceEquals(old, network)
                    ? network with { Remotes = [.. network.Remotes, .. old.Remotes.ExceptBy(network.Remotes.Select(remote => remote.Mac), remote => remote.Mac)] }
                    : network),
                .. previous.Networks.Where(old => !after.ContainsKey(old.Netns)),
            ],
        };
    }

    /// <summary>The host can tell networks apart by their addresses only.</summary>
    private static bool SharesSubnet(Snapshot snapshot, Network network) => snapshot.Networks.Values.Any(other =>
        other.Id != network.Id && (Overlap(other.Subnet4, network.Subnet4) || Overlap(other.Subnet6, network.Subnet6)));

    private static bool Overlap(IPNetwork? one, IPNetwork? two) =>
        one is { } a && two is { } b && Registry.Prefixes.Overlap(a, b);

    /// <summary>Whether <paramref name="next"/> has a network, an endpoint or a way to one that <paramref name="previous"/> has not.</summary>
    public static bool Adds(OverlayConfig previous, OverlayConfig next)
    {
        var before = previous.Networks.ToDictionary(network => network.Netns);
        return next.Networks.Any(network => !before.TryGetValue(network.Netns, out var old)
            || (!ReferenceEquals(old, network)
                && (network.Endpoints.ExceptBy(old.Endpoints.Select(endpoint => endpoint.Id), endpoint => endpoint.Id).Any()
                    || network.Remotes.ExceptBy(old.Remotes.Select(remote => (remote.Mac, remote.Vtep)), remote => (remote.Mac, remote.Vtep)).Any())));
    }

    private static OverlayNetwork PlanNetwork(Snapshot snapshot, NodeFacts node, Network network, IReadOnlySet<string> suppressed)
    {
        var own = snapshot.NodeEndpoint(node.NodeId, network.Id)!;
        var endpoints = snapshot.EndpointsOf(network).OrderBy(endpoint => endpoint.Id, StringComparer.Ordinal).ToList();
        return new OverlayNetwork
        {
            Name = network.Name,
            Netns = ObjectNames.Netns(node.NodeId, network),
            Vni = network.Vni,
            Subnet4 = network.Subnet4,
            Subnet6 = network.Subnet6,
            Gateway4 = network.Gateway4,
            Gateway6 = network.Gateway6,
            GatewayMac = MacAddress.Parse(network.GatewayMac),
            Node = new NodeEndpoint { Address4 = own.Address4, Address6 = own.Address6, Mac = MacAddress.Parse(own.Mac) },
            Mtu = network.Mtu,
            Internal = network.Internal,
            HostAccess = !network.Internal && !SharesSubnet(snapshot, network),
            Endpoints =
            [
                .. endpoints
                    .Where(endpoint => endpoint.NodeId == node.NodeId && endpoint is { Kind: EndpointKind.Container, Netns.Length: > 0 } && !suppressed.Contains(endpoint.Id))
                    .Select(endpoint => new LocalEndpoint
                    {
                        Id = endpoint.Id,
                        HostInterface = ObjectNames.HostVeth(endpoint),
                        Netns = endpoint.Netns,
                        NetnsIdentity = endpoint.NetnsIdentity,
                        Interface = endpoint.Interface,
                        RuntimeConfigured = RuntimeLabels.IsConfiguredByRuntime(endpoint),
                        HandOver = RuntimeLabels.IsConfiguredByRuntime(endpoint) && endpoint.State == EndpointState.Starting ? ObjectNames.HandOver(endpoint) : null,
                        Mac = MacAddress.Parse(endpoint.Mac),
                        Address4 = endpoint.Address4,
                        Address6 = endpoint.Address6,
                    }),
            ],
            Remotes =
            [
                .. endpoints
                    .Where(endpoint => endpoint.NodeId != node.NodeId && snapshot.Nodes.ContainsKey(endpoint.NodeId))
                    .Select(endpoint => new RemoteEndpoint
                    {
                        Mac = MacAddress.Parse(endpoint.Mac),
                        Vtep = snapshot.Nodes[endpoint.NodeId].Address,
                        Addresses = [.. new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>()],
                    }),
            ],
        };
    }
}
