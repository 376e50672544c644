using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Dns;

namespace OverlayNet.Daemon.Planners;

/// <summary>
/// From a snapshot to what the DNS server of one node answers. The same input gives the same output; parts that did
/// not change since the plan before are the same objects, by which the server knows what it need not look at.
/// </summary>
public sealed class DnsPlanner(string nodeId, DnsForwardConfig forward, IReadOnlyList<IPAddress> fixedAddresses)
{
    private const int SrvUnit = 8, MostDnsWeight = 255;
    private Dictionary<string, (Service Source, List<Endpoint> Members, DnsService Planned)> _services = [];
    private Dictionary<string, (Endpoint Source, Node? Node, bool Panic, int Eighths, DnsEndpoint Planned)> _endpoints = [];
    private Dictionary<string, (Network Source, List<DnsService> Services, List<DnsEndpoint> Endpoints, DnsNetwork Planned)> _networks = [];

    private (IReadOnlyDictionary<string, Node>? Source, List<DnsNode> Planned) _nodes = (null, []);

    /// <param name="now">Weights of endpoints that start slowly depend on it.</param>
    /// <param name="suppressed">This node's endpoints that are known to be gone although the registry still has them; null: none.</param>
    public DnsConfig Plan(Snapshot snapshot, bool synced, DateTimeOffset now, IReadOnlySet<string>? suppressed = null)
    {
        bool Here(Endpoint endpoint) => suppressed?.Contains(endpoint.Id) != true;
        var services = new Dictionary<string, (Service, List<Endpoint>, DnsService)>(snapshot.Services.Count);
        var endpoints = new Dictionary<string, (Endpoint, Node?, bool, int, DnsEndpoint)>(snapshot.Endpoints.Count);
        var networks = new Dictionary<string, (Network, List<DnsService>, List<DnsEndpoint>, DnsNetwork)>();
        foreach (var network in LocalNetworks.Of(snapshot, nodeId))
        {
            var planned = new List<DnsService>();
            foreach (var service in snapshot.ServicesOf(network).OrderBy(s => s.Id, StringComparer.Ordinal))
                planned.Add(PlanService(snapshot, service, Here, now, services, endpoints));
            var alone = new List<DnsEndpoint>();
            foreach (var endpoint in snapshot.EndpointsOf(network).OrderBy(e => e.Id, StringComparer.Ordinal))
            {
                if (endpoint is { Kind: EndpointKind.Container, ServiceId: null } && IsNamed(endpoint) && Here(endpoint))
                    alone.Add(PlanEndpoint(snapshot, endpoint, panic: false, slowStart: TimeSpan.Zero, now, endpoints));
            }
            networks[network.Id] = (network, planned, alone, PlanNetwork(network, planned, alone));
        }
        (_services, _endpoints, _networks) = (services, endpoints, networks);
        var self = snapshot.Nodes.GetValueOrDefault(nodeId);
        return new DnsConfig
        {
            Synced = synced,
            Revision = snapshot.Revision,
            ClusterDomain = snapshot.ClusterDomain,
            DataCenter = self?.Dc ?? "dc1",
            NodeName = self?.Name ?? "",
            Networks = [.. networks.Values.Select(entry => entry.Item4).OrderBy(network => network.Id, StringComparer.Ordinal)],
            Nodes = PlanNodes(snapshot),
            Sources = PlanSources(snapshot),
            FixedAddresses = fixedAddresses,
            Forward = forward,
        };
    }

    private List<DnsNode> PlanNodes(Snapshot snapshot)
    {
        if (!ReferenceEquals(_nodes.Source, snapshot.Nodes))
            _nodes = (snapshot.Nodes, [.. snapshot.Nodes.Values.OrderBy(node => node.Name, StringComparer.Ordinal).Select(node => new DnsNode(node.Name, [node.Address]))]);
        return _nodes.Planned;
    }

    private DnsService PlanService(
        Snapshot snapshot,
        Service service,
        Func<Endpoint, bool> here,
        DateTimeOffset now,
        Dictionary<string, (Service, List<Endpoint>, DnsService)> services,
        Dictionary<string, (Endpoint, Node?, bool, int, DnsEndpoint)> endpoints)
    {
        var panic = PanicMode.On(snapshot, service);
        var members = snapshot.EndpointsOf(service).Where(e => (IsNamed(e) || service.PublishNotReady) && here(e)).OrderBy(e => e.Id, StringComparer.Ordinal).ToList();
        var planned = members.ConvertAll(member => PlanEndpoint(snapshot, member, panic, TimeSpan.FromSeconds(service.SlowStartSeconds), now, endpoints));
        if (!_services.TryGetValue(service.Id, out var before)
            || !ReferenceEquals(before.Source, service)
            || !before.Planned.Endpoints.SequenceEqual(planned, ReferenceEqualityComparer.Instance))
        {
            before = (service, members, new DnsService
            {
                Name = service.Name,
                Aliases = service.Aliases,
                Mode = service.EndpointMode == EndpointMode.Vip ? DnsServiceMode.Vip : DnsServiceMode.RoundRobin,
                VipV4 = service.Vip4,
                VipV6 = service.Vip6,
                Ports =
                [
                    .. service.Ports.Select(port => new DnsPort(
                        port.Name ?? WellKnownPorts.NameOf(port),
                        port.Protocol == PortProtocol.Tcp ? "tcp" : "udp",
                        port.Target,
                        port.Port)),
                ],
                Endpoints = planned,
                PublishNotReady = service.PublishNotReady,
            });
        }
        services[service.Id] = before;
        return before.Planned;
    }

    private DnsEndpoint PlanEndpoint(
        Snapshot snapshot,
        Endpoint endpoint,
        bool panic,
        TimeSpan slowStart,
        DateTimeOffset now,
        Dictionary<string, (Endpoint, Node?, bool, int, DnsEndpoint)> endpoints)
    {
        var node = snapshot.Nodes.GetValueOrDefault(endpoint.NodeId);
        var seen = PanicMode.Seen(endpoint, panic);
        var eighths = Weights.Eighths(seen, node, slowStart, now);
        if (!_endpoints.TryGetValue(endpoint.Id, out var before)
            || !ReferenceEquals(before.Source, endpoint)
            || !ReferenceEquals(before.Node, node)
            || before.Panic != panic
            || before.Eighths != eighths)
        {
            before = (endpoint, node, panic, eighths, new DnsEndpoint
            {
                Id = endpoint.Id,
                Name = endpoint.Name,
                Addresses = [.. new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>()],
                Weight = Math.Min(endpoint.Weight * SrvUnit, MostDnsWeight),
                State = Weights.StateOf(seen, node) switch
                {
                    EndpointState.Healthy => DnsEndpointState.Healthy,
                    EndpointState.Recovering => DnsEndpointState.Recovering,
                    EndpointState.Draining => DnsEndpointState.Draining,
                    _ => DnsEndpointState.Unhealthy,
                },
                // One without a share of its own (all are down: Serving names them all the same) counts whole.
                Eighths = eighths == 0 ? 8 : eighths,
                Aliases = endpoint.Aliases,
                Node = node?.Name ?? endpoint.NodeId,
            });
        }
        endpoints[endpoint.Id] = before;
        return before.Planned;
    }

    private DnsNetwork PlanNetwork(Network network, List<DnsService> services, List<DnsEndpoint> endpoints)
    {
        if (_networks.TryGetValue(network.Id, out var before)
            && ReferenceEquals(before.Source, network)
            && before.Services.SequenceEqual(services, ReferenceEqualityComparer.Instance)
            && before.Endpoints.SequenceEqual(endpoints, ReferenceEqualityComparer.Instance))
            return before.Planned;
        return new DnsNetwork
        {
            Id = network.Id,
            Name = network.Name,
            Subnets = [.. new[] { network.Subnet4, network.Subnet6 }.OfType<IPNetwork>()],
            ListenerAddresses = [.. new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>()],
            Services = services,
            Endpoints = endpoints,
            Internal = network.Internal,
        };
    }

    /// <summary>A container on several networks asks each network's server from its address there and sees the names of all.</summary>
    private List<DnsSource> PlanSources(Snapshot snapshot)
    {
        var sources = new List<DnsSource>();
        var containers = snapshot.Endpoints.Values
            .Where(endpoint => endpoint.NodeId == nodeId && endpoint is { Kind: EndpointKind.Container, Netns.Length: > 0 })
            .GroupBy(endpoint => endpoint.Netns);
        foreach (var container in containers)
        {
            var all = container.Select(endpoint => endpoint.NetworkId).Distinct().Order(StringComparer.Ordinal).ToList();
            if (all.Count < 2)
                continue;
            foreach (var endpoint in container)
            {
                foreach (var address in new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>())
                    sources.Add(new DnsSource(endpoint.NetworkId, address, all));
            }
        }
        return sources;
    }

    private static bool IsNamed(Endpoint endpoint) => endpoint.State != EndpointState.Starting;
}
