using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Capture.Live;

/// <summary>What to capture, by object; null where nothing was asked for.</summary>
internal sealed record CaptureTarget
{
    public string? Service { get; init; }
    public string? Endpoint { get; init; }
    public string? Network { get; init; }
    public string? Node { get; init; }
    public IPAddress? Vip { get; init; }

    /// <summary>In pcap-filter(7)'s words; narrows every point that sees inner packets, and the underlay for node and VIP.</summary>
    public string Filter { get; init; } = "";

    /// <summary>Leaves out what daemons say to each other: a capture that is sent to another node must not take itself.</summary>
    public bool WithoutApi { get; init; }
}

/// <summary>
/// Picks the points on this node where packets of an object pass: the containers' ports and the tunnel in the network's
/// namespace, and the underlay. Pure: takes the registry's snapshot and gives points.
/// </summary>
/// <param name="underlay">Name of the interface that has this node's underlay address.</param>
internal sealed class CapturePlan(RegistrySnapshot snapshot, string nodeId, string underlay, int vxlanPort = 4789)
{
    private const int MostNamedVteps = 16;
    private readonly string _nodeId = nodeId;
    private readonly RegistrySnapshot _snapshot = snapshot;
    private readonly string _underlay = underlay;
    private readonly int _vxlanPort = vxlanPort;

    /// <exception cref="CommandFailure">There is no such object, or nothing of it is on this node.</exception>
    public IReadOnlyList<CapturePoint> Points(CaptureTarget target)
    {
        if (target.WithoutApi)
        {
            var api = string.Join(" and ", _snapshot.Nodes.Select(node => node.ApiPort).Distinct().Select(port => $"not tcp port {Text.Number(port)}"));
            return [.. Points(target with { WithoutApi = false }).Select(point => point.Netns is null ? point with { Filter = Both(api, point.Filter) } : point)];
        }
        if (target.Endpoint is { } endpointName)
            return Endpoint(Find(_snapshot.Endpoints, "endpoint", endpointName, e => e.Id, e => e.Name), target.Filter);
        if (target.Service is { } serviceName)
            return Service(Find(_snapshot.Services, "service", serviceName, s => s.Id, s => s.Name), target.Filter);
        if (target.Network is { } networkName)
            return Network(Find(_snapshot.Networks, "network", networkName, n => n.Id, n => n.Name), target.Filter);
        if (target.Node is { } nodeName)
            return [Underlay(NodeFilter(Find(_snapshot.Nodes, "node", nodeName, n => n.Id, n => n.Name)), target.Filter)];
        if (target.Vip is { } vip)
            return Vip(vip, target.Filter);
        return [Underlay($"udp port {Text.Number(_vxlanPort)} or ip proto 112 or ip6 proto 112", target.Filter)];
    }

    private List<CapturePoint> Endpoint(Endpoint endpoint, string filter)
    {
        var network = _snapshot.Networks.First(n => n.Id == endpoint.NetworkId);
        if (endpoint.NodeId == _nodeId)
            return [Port(endpoint, network, filter)];
        var node = _snapshot.Nodes.First(n => n.Id == endpoint.NodeId);
        return
        [
            TunnelPoint(network, Both(Hosts([endpoint.Address4, endpoint.Address6]), filter)),
            Underlay($"udp port {Text.Number(_vxlanPort)} and host {node.Address}", ""),
        ];
    }

    private List<CapturePoint> Service(Service service, string filter)
    {
        var network = _snapshot.Networks.First(n => n.Id == service.NetworkId);
        var members = _snapshot.Endpoints.Where(e => e.ServiceId == service.Id).ToList();
        var hosts = Hosts([service.Vip4, service.Vip6, .. members.SelectMany(e => new[] { e.Address4, e.Address6 })]);
        // Clients are any endpoint of the network, so every port here, narrowed to the service's addresses.
        return Network(network, Both(hosts, filter));
    }

    private List<CapturePoint> Network(Network network, string filter)
    {
        var local = _snapshot.Endpoints.Where(e => e.NetworkId == network.Id && e.NodeId == _nodeId).ToList();
        if (local.Count == 0)
            throw new CommandFailure(ExitCodes.BadInput, $"network {network.Name} is not on this node", "run it on a node that has endpoints of the network; 'overlaynet endpoint ls' shows where they are");
        var vteps = _snapshot.Endpoints.Where(e => e.NetworkId == network.Id && e.NodeId != _nodeId)
            .Select(e => _snapshot.Nodes.FirstOrDefault(n => n.Id == e.NodeId)?.Address).OfType<IPAddress>().Distinct().ToList();
        List<CapturePoint> points = [.. local.Where(e => e.Kind == EndpointKind.Container).Select(e => Port(e, network, filter)), TunnelPoint(network, filter)];
        if (vteps.Count > 0)
        {
            // The VNI lies in octets 4 to 6 of the payload behind the UDP header.
            var vni = $"udp port {Text.Number(_vxlanPort)} and {(vteps[0].AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork ? $"udp[12:4] & 0xffffff00 = 0x{network.Vni << 8:x}" : $"ip6[52:4] & 0xffffff00 = 0x{network.Vni << 8:x}")}";
            points.Add(Underlay(vteps.Count > MostNamedVteps ? vni : $"{vni} and ({string.Join(" or ", vteps.Select(v => $"host {v}"))})", ""));
        }
        return points;
    }

    private List<CapturePoint> Vip(IPAddress vip, string filter)
    {
        if (_snapshot.Services.FirstOrDefault(s => vip.Equals(s.Vip4) || vip.Equals(s.Vip6)) is { } service)
            return Service(service, filter);
        var resolution = vip.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork ? $"(arp and host {vip}) or ip proto 112" : "icmp6 or ip6 proto 112";
        return [Underlay($"host {vip} or {resolution}", filter)];
    }

    private string NodeFilter(Node node) => node.Id == _nodeId ? $"udp port {Text.Number(_vxlanPort)} or ip proto 112 or ip6 proto 112 or tcp port {Text.Number(node.ApiPort)}" : $"host {node.Address}";

    private CapturePoint Port(Endpoint endpoint, Network network, string filter) =>
        new(endpoint.Name, Netns(network), ObjectNames.HostVeth(endpoint), filter, $"port of endpoint {endpoint.Name} in network {network.Name}");

    private CapturePoint TunnelPoint(Network network, string filter) =>
        new($"{network.Name}/vxlan", Netns(network), ObjectNames.Tunnel, filter, $"tunnel of network {network.Name}, VNI {Text.Number(network.Vni)}, before encapsulation");

    private CapturePoint Underlay(string filter, string more) => new("underlay", null, _underlay, Both(filter, more), "underlay interface of this node");

    private string Netns(Network network) => Kernel.NamedNamespaces.PathOf(ObjectNames.Netns(_nodeId, network));

    private static string Hosts(IEnumerable<IPAddress?> addresses) =>
        string.Join(" or ", addresses.OfType<IPAddress>().Distinct().Select(address => $"host {address}"));

    private static string Both(string first, string second) => (first.Length, second.Length) switch
    {
        (0, _) => second,
        (_, 0) => first,
        _ => $"({first}) and ({second})",
    };

    private static T Find<T>(IReadOnlyList<T> all, string noun, string reference, Func<T, string> id, Func<T, string> name)
    {
        var found = all.Where(x => name(x) == reference).ToList();
        if (found.Count == 0)
            found = [.. all.Where(x => id(x).StartsWith(reference, StringComparison.Ordinal))];
        return found.Count switch
        {
            1 => found[0],
            0 => throw new CommandFailure(ExitCodes.BadInput, $"there is no {noun} '{reference}'", $"see 'overlaynet {noun} ls'"),
            _ => throw new CommandFailure(ExitCodes.BadInput, $"'{reference}' means {Text.Number(found.Count)} {noun}s: {string.Join(", ", found.Select(x => $"{name(x)} ({Text.ShortId(id(x))})"))}", "give more of the id"),
        };
    }
}
