using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>Which instance each connection of a container through a VIP went to, as connection tracking in its namespace has it.</summary>
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
            return Read(snapshot, client, conntrack.List());
        }
        catch (KernelException e)
        {
            throw Refuse.Conflict("namespace-unreadable", "endpoint", client.Name, $"connection tracking in its namespace cannot be read: {e.Message}", "see 'overlaynet doctor'");
        }
    }

    /// <summary>Pure: the flows that lead to a VIP, with the names of what is at both ends.</summary>
    internal static List<VipConnection> Read(Snapshot snapshot, Endpoint client, IEnumerable<TrackedFlow> flows)
    {
        var network = snapshot.Networks[client.NetworkId];
        var services = snapshot.ServicesOf(network).SelectMany(service => new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>().Select(vip => (vip, service))).ToDictionary(pair => pair.vip, pair => pair.service);
        var endpoints = snapshot.EndpointsOf(network).SelectMany(endpoint => new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>().Select(address => (address, endpoint)))
            .GroupBy(pair => pair.address).ToDictionary(group => group.Key, group => group.First().endpoint);
        var connections = new List<VipConnection>();
        // Several namespaces share one table in the kernel, but a listing is of one.
        foreach (var flow in flows.Where(flow => flow.HasDestinationNat && flow.Original.Protocol is Tcp or Udp))
        {
            if (!services.TryGetValue(flow.Original.Destination, out var service))
                continue;
            var server = endpoints.GetValueOrDefault(flow.Reply.Source);
            connections.Add(new VipConnection
            {
                Protocol = flow.Original.Protocol == Tcp ? PortProtocol.Tcp : PortProtocol.Udp,
                Source = flow.Original.Source,
                SourcePort = flow.Original.SourcePort,
                Vip = flow.Original.Destination,
                VipPort = flow.Original.DestinationPort,
                Service = service.Name,
                Server = flow.Reply.Source,
                ServerPort = flow.Reply.SourcePort,
                Endpoint = server?.Name,
                Node = server is null ? null : snapshot.Nodes.GetValueOrDefault(server.NodeId)?.Name ?? server.NodeId,
                Live = flow.IsLive,
            });
        }
        return [.. connections.OrderBy(one => one.Service, StringComparer.Ordinal).ThenBy(one => one.SourcePort)];
    }
}
