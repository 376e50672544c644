using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Vip;

namespace OverlayNet.Daemon.Planners;

/// <summary>From a snapshot to what the balancers of one node are to do. Pure: the same snapshot and moment give the same plan.</summary>
public static class VipPlanner
{
    /// <param name="suppressed">This node's endpoints that are known to be gone.</param>
    /// <param name="now">Weights of endpoints that start slowly depend on it.</param>
    /// <param name="planned">What a network was planned as from the same basis, which need not be done again; null: it must.</param>
    public static VipConfig Plan(Snapshot snapshot, string nodeId, IReadOnlySet<string> suppressed, DateTimeOffset now, Func<Network, VipNetwork?>? planned = null) => new()
    {
        Revision = snapshot.Revision,
        Networks =
        [
            .. LocalNetworks.Of(snapshot, nodeId)
                .OrderBy(network => network.Vni)
                .Select(network => planned?.Invoke(network) ?? PlanNetwork(snapshot, nodeId, network, suppressed, now)),
        ],
    };

    /// <summary>
    /// <paramref name="next"/> plus the services that only <paramref name="previous"/> has: what must be in place
    /// until no name points at them any more. <paramref name="next"/> itself when there are none.
    /// </summary>
    public static VipConfig Union(VipConfig previous, VipConfig next)
    {
        var before = previous.Networks.ToDictionary(network => network.Id);
        if (!next.Networks.Any(network => before.GetValueOrDefault(network.Id) is { } old
            && old.Services.ExceptBy(network.Services.Select(service => service.Id), service => service.Id).Any()))
            return next;
        return next with
        {
            Networks =
            [
                .. next.Networks.Select(network => before.GetValueOrDefault(network.Id) is { } old
                    ? network with
                    {
                        Services =
                        [
                            .. network.Services,
                            .. old.Services.ExceptBy(network.Services.Select(service => service.Id), service => service.Id),
                        ],
                    }
                    : network),
            ],
        };
    }

    /// <summary>Whether <paramref name="next"/> sends traffic anywhere that <paramref name="previous"/> does not: then paths must be there first.</summary>
    public static bool Adds(VipConfig previous, VipConfig next)
    {
        var before = previous.Networks.ToDictionary(network => network.Id);
        return next.Networks.Any(network => !before.TryGetValue(network.Id, out var old)
            || (!ReferenceEquals(old, network)
                && (network.Tasks.ExceptBy(old.Tasks.Select(task => task.EndpointId), task => task.EndpointId).Any()
                    || network.Services.Any(service => old.Services.FirstOrDefault(was => was.Id == service.Id) is not { } was || Adds(was, service)))));
    }

    private static bool Adds(VipService previous, VipService next)
    {
        var weights = previous.RealServers.ToDictionary(server => server.EndpointId, server => server.Weight);
        return !next.Addresses.SequenceEqual(previous.Addresses)
            || !next.Ports.SequenceEqual(previous.Ports)
            || !next.Fronts.SequenceEqual(previous.Fronts)
            || next.RealServers.Any(server => !weights.TryGetValue(server.EndpointId, out var weight) || server.Weight > weight);
    }

    private static VipNetwork PlanNetwork(Snapshot snapshot, string nodeId, Network network, IReadOnlySet<string> suppressed, DateTimeOffset now)
    {
        var own = snapshot.NodeEndpoint(nodeId, network.Id);
        var fronts = Fronts(snapshot, nodeId, network);
        return new VipNetwork
        {
            Id = network.Id,
            Name = network.Name,
            Vni = network.Vni,
            Netns = ObjectNames.Netns(nodeId, network),
            Subnet4 = network.Subnet4,
            Subnet6 = network.Subnet6,
            NodeAddress4 = own?.Address4,
            NodeAddress6 = own?.Address6,
            Tasks =
            [
                .. snapshot.EndpointsOf(network)
                    .Where(endpoint => endpoint is { Kind: EndpointKind.Container, Netns.Length: > 0 } && endpoint.NodeId == nodeId && !suppressed.Contains(endpoint.Id))
                    .OrderBy(endpoint => endpoint.Id, StringComparer.Ordinal)
                    .Select(endpoint => new VipTask
                    {
                        EndpointId = endpoint.Id,
                        NetnsPath = endpoint.Netns,
                        Interface = endpoint.Interface,
                        BridgePort = ObjectNames.HostVeth(endpoint),
                        Address4 = endpoint.Address4,
                        Address6 = endpoint.Address6,
                        Mac = MacAddress.Parse(endpoint.Mac),
                    }),
            ],
            Services =
            [
                .. snapshot.ServicesOf(network)
                    .Where(service => service.EndpointMode == EndpointMode.Vip)
                    .OrderBy(service => service.Id, StringComparer.Ordinal)
                    .Select(service => PlanService(snapshot, nodeId, service, suppressed, now) with { Fronts = [.. fronts[service.Id]] }),
            ],
        };
    }

    /// <summary>
    /// The ports of floating VIPs that services of a network answer here, by service. They are in place on every node that may hold
    /// the VIP: which of them answers is the gate's and the address's matter, so a take-over has nothing to write.
    /// </summary>
    private static ILookup<string, VipFront> Fronts(Snapshot snapshot, string nodeId, Network network)
    {
        var fronts = new List<(string ServiceId, VipFront Front)>();
        var taken = snapshot.ServicesOf(network).SelectMany(service => service.Ports).Select(port => port.Published).ToHashSet();
        var inside = (int)ushort.MaxValue;
        foreach (var vip in snapshot.Vips.Values.OrderBy(vip => vip.Id, StringComparer.Ordinal))
        {
            if (vip.ServiceId is null || !snapshot.Services.TryGetValue(vip.ServiceId, out var service) || service.NetworkId != network.Id
                || !snapshot.Nodes.TryGetValue(nodeId, out var node) || FloatingVipRules.PriorityOf(vip, node) == 0)
                continue;
            foreach (var port in vip.Ports)
            {
                while (taken.Contains(inside))
                    inside--;
                // Where the service maps the port itself, its mapping counts.
                var target = service.Ports.FirstOrDefault(p => p.Port == port.Target && p.Protocol == port.Protocol)?.Target ?? port.Target;
                foreach (var address in vip.Addresses)
                    fronts.Add((service.Id, new VipFront(Vip.Vrrp.VirtualAddress.Parse(address).Address, port.Protocol == PortProtocol.Tcp ? VipPort.Tcp : VipPort.Udp, (ushort)port.Port, (ushort)target, (ushort)inside)));
                inside--;
            }
        }
        return fronts.ToLookup(entry => entry.ServiceId, entry => entry.Front);
    }

    private static VipService PlanService(Snapshot snapshot, string nodeId, Service service, IReadOnlySet<string> suppressed, DateTimeOffset now) => new()
    {
        Id = service.Id,
        Name = service.Name,
        Addresses = [.. new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>()],
        Ports =
        [
            .. service.Ports.Select(port => new VipPort(
                port.Protocol == PortProtocol.Tcp ? VipPort.Tcp : VipPort.Udp,
                (ushort)port.Port,
                (ushort)port.Target,
                (ushort)port.Published,
                port.Mode == PublishMode.Host,
                service.PublishPolicy == PublishPolicy.Local)),
        ],
        Scheduler = service.Scheduler,
        AffinitySeconds = service.AffinitySeconds,
        Balancer = service.Balancer.ToString().ToLowerInvariant(),
        DrainSeconds = service.DrainSeconds,
        RealServers =
        [
            .. Seen(snapshot, service)
                .Where(endpoint => Weights.IsRealServer(endpoint) && !suppressed.Contains(endpoint.Id))
                .OrderBy(endpoint => endpoint.Id, StringComparer.Ordinal)
                .Select(endpoint => new RealServer
                {
                    EndpointId = endpoint.Id,
                    Address4 = endpoint.Address4,
                    Address6 = endpoint.Address6,
                    Mac = MacAddress.Parse(endpoint.Mac),
                    Weight = Weights.Balanced(endpoint, snapshot.Nodes.GetValueOrDefault(endpoint.NodeId), service, now),
                    Local = endpoint.NodeId == nodeId,
                }),
        ],
    };

    private static IEnumerable<Endpoint> Seen(Snapshot snapshot, Service service)
    {
        var panic = PanicMode.On(snapshot, service);
        return snapshot.EndpointsOf(service).Select(endpoint => PanicMode.Seen(endpoint, panic));
    }
}
