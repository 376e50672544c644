using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>
/// Which instance each connection of a container through a VIP went to, as whatever carries it has noted it: connection tracking in the container's namespace (nft), the
/// socket itself (ebpf), IPVS in the network's namespace (ipvs).
/// </summary>
internal static class VipConnections
{
    private const byte Tcp = 6, Udp = 17;

    /// <exception cref="RegistryException">404: the endpoint is not on this node; 409: its namespace cannot be read.</exception>
    public static List<VipConnection> Of(Snapshot snapshot, string nodeId, string reference, string? network)
    {
        var client = Resolve.Endpoint(snapshot, reference, network);
        if (client.NodeId != nodeId)
            throw Refuse.NotFound("endpoint", reference, "it is not on this node, and its connections are known on its own node only",
                $"ask on node {snapshot.Nodes.GetValueOrDefault(client.NodeId)?.Name ?? client.NodeId}");
        try
        {
            using var netns = NamespaceIdentity.Open(client.Netns, client.NetnsIdentity);
            using var conntrack = Conntrack.Open(netns);
            using var around = NamedNamespaces.OpenPinned(ObjectNames.Netns(nodeId, snapshot.Networks[client.NetworkId]));
            return Name(snapshot, client, [.. Tracked(conntrack.List()), .. Bound(EbpfConnections.Of(ObjectNames.ShortId(nodeId), netns)), .. Directed(client, IpvsConnections.Of(around))]);
        }
        catch (KernelException e)
        {
            throw Refuse.Conflict("namespace-unreadable", "endpoint", client.Name, $"its connections cannot be read: {e.Message}", "see 'overlaynet doctor'");
        }
    }

    /// <summary>One that a VIP has led to a real server.</summary>
    internal sealed record Led(byte Protocol, IPEndPoint Client, IPEndPoint Vip, IPEndPoint Server, bool Live);

    /// <summary>Pure: flows whose destination is translated.</summary>
    internal static IEnumerable<Led> Tracked(IEnumerable<TrackedFlow> flows) => flows.Where(flow => flow.HasDestinationNat && flow.Original.Protocol is Tcp or Udp)
        .Select(flow => new Led(flow.Original.Protocol, new IPEndPoint(flow.Original.Source, flow.Original.SourcePort), new IPEndPoint(flow.Original.Destination, flow.Original.DestinationPort),
            new IPEndPoint(flow.Reply.Source, flow.Reply.SourcePort), flow.IsLive));

    private static IEnumerable<Led> Bound(IEnumerable<BoundSocket> sockets) =>
        sockets.Select(socket => new Led(socket.Protocol, socket.Local, socket.Vip, socket.Server, socket.Live));

    /// <summary>Pure: of one client, as IPVS follows those of the whole network.</summary>
    internal static IEnumerable<Led> Directed(Endpoint client, IEnumerable<IpvsConnection> connections) => connections
        .Where(connection => connection.Protocol is Tcp or Udp && (connection.Client.Address.Equals(client.Address4) || connection.Client.Address.Equals(client.Address6)))
        .Select(connection => new Led(connection.Protocol, connection.Client, connection.Vip, connection.Server, connection.Protocol == Udp || connection.State is "ESTABLISHED" or "SYN_RECV"));

    /// <summary>Pure: those that lead from a VIP of the network, with the names of what is at both ends.</summary>
    internal static List<VipConnection> Name(Snapshot snapshot, Endpoint client, IEnumerable<Led> all)
    {
        var network = snapshot.Networks[client.NetworkId];
        var services = snapshot.ServicesOf(network).SelectMany(service => new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>().Select(vip => (vip, service))).ToDictionary(pair => pair.vip, pair => pair.service);
        var endpoints = snapshot.EndpointsOf(network).SelectMany(endpoint => new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>().Select(address => (address, endpoint)))
            .GroupBy(pair => pair.address).ToDictionary(group => group.Key, group => group.First().endpoint);
        var connections = new List<VipConnection>();
        foreach (var one in all)
        {
            if (!services.TryGetValue(one.Vip.Address, out var service))
                continue;
            var server = endpoints.GetValueOrDefault(one.Server.Address);
            connections.Add(new VipConnection
            {
                Protocol = one.Protocol == Tcp ? PortProtocol.Tcp : PortProtocol.Udp,
                Source = one.Client.Address,
                SourcePort = one.Client.Port,
                Vip = one.Vip.Address,
                VipPort = one.Vip.Port,
                Service = service.Name,
                Server = one.Server.Address,
                ServerPort = one.Server.Port,
                Endpoint = server?.Name,
                Node = server is null ? null : snapshot.Nodes.GetValueOrDefault(server.NodeId)?.Name ?? server.NodeId,
                Live = one.Live,
            });
        }
        return [.. connections.OrderBy(one => one.Service, StringComparer.Ordinal).ThenBy(one => one.SourcePort)];
    }
}
