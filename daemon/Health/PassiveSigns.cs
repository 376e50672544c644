using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// How this node's clients fare with the endpoints of services that wish to eject by it: their TCP sockets, and connection
/// tracking in their namespaces where that is what leads to real servers. What eBPF connected has the real server's address already.
/// </summary>
internal static class PassiveSigns
{
    // net/tcp_states.h, and enum tcp_conntrack.
    private const byte Established = 1, SynSent = 2, TrackedClose = 8, Tcp = 6;

    /// <summary>One lost segment is everyday; the second in a row waits for a peer that says nothing.</summary>
    private const int LeastRetransmits = 2;

    /// <summary>Services whose endpoints are looked at.</summary>
    public static IEnumerable<Service> Services(Snapshot snapshot) => snapshot.Services.Values.Where(service => service.Health is { EjectPercent: > 0 });

    /// <summary>Looks into the namespaces of this node's containers, one after another; those that cannot be read say nothing.</summary>
    public static IReadOnlyList<PassiveSign> Read(Snapshot snapshot, string nodeId)
    {
        var targets = Targets(snapshot);
        if (targets.Count == 0 || snapshot.Nodes.GetValueOrDefault(nodeId) is not { } node)
            return [];
        var signs = new Dictionary<string, (int Flows, int Troubled)>();
        NetworkNamespace.RunOnThread(() =>
        {
            foreach (var path in snapshot.EndpointsOf(node).Where(endpoint => endpoint.Kind == EndpointKind.Container && endpoint.Netns.Length > 0).Select(endpoint => endpoint.Netns).Distinct())
            {
                try
                {
                    using var netns = NetworkNamespace.Open(path);
                    using var conntrack = Conntrack.Open(netns);
                    using var netlink = NetlinkSocket.Open(NetlinkProtocol.SockDiag, netns);
                    Count(targets, conntrack.List(), [.. SockDiag.DumpFamilies(netlink, Tcp)], signs);
                }
                catch (KernelException)
                {
                    // It ended, or this kernel lacks what would tell: no sign is no proof either way.
                }
            }
        });
        return [.. signs.Select(entry => new PassiveSign { EndpointId = entry.Key, Flows = entry.Value.Flows, Troubled = entry.Value.Troubled })];
    }

    /// <summary>Pure: adds one namespace's connections to the counts.</summary>
    /// <param name="targets">Endpoints by their addresses.</param>
    internal static void Count(
        IReadOnlyDictionary<IPAddress, string> targets, IEnumerable<TrackedFlow> flows, IEnumerable<DiagSocket> sockets, Dictionary<string, (int Flows, int Troubled)> signs)
    {
        var servers = new Dictionary<(IPAddress, int, IPAddress, int), IPAddress>();
        foreach (var flow in flows.Where(flow => flow.HasDestinationNat && flow.Original.Protocol == Tcp))
        {
            var (original, server) = (flow.Original, flow.Reply.Source);
            if (flow.TcpState == TrackedClose)
                // Its socket is gone; the table remembers the reset for some seconds.
                Add(server, troubled: true);
            else
                servers[(original.Source, original.SourcePort, original.Destination, original.DestinationPort)] = server;
        }
        foreach (var socket in sockets.Where(socket => socket.State is Established or SynSent))
        {
            var (local, remote) = (Plain(socket.Local.Address), Plain(socket.Remote.Address));
            Add(servers.GetValueOrDefault((local, socket.Local.Port, remote, socket.Remote.Port), remote),
                socket.Retransmits >= (socket.State == SynSent ? 1 : LeastRetransmits));
        }

        void Add(IPAddress server, bool troubled)
        {
            if (!targets.TryGetValue(server, out var id))
                return;
            var (all, bad) = signs.GetValueOrDefault(id);
            signs[id] = (all + 1, bad + (troubled ? 1 : 0));
        }
    }

    private static Dictionary<IPAddress, string> Targets(Snapshot snapshot)
    {
        var targets = new Dictionary<IPAddress, string>();
        foreach (var endpoint in Services(snapshot).SelectMany(snapshot.EndpointsOf))
        {
            foreach (var address in new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>())
                targets[address] = endpoint.Id;
        }
        return targets;
    }

    private static IPAddress Plain(IPAddress address) => address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
}
