using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Planners;

/// <summary>A small registry for planner tests: two nodes, one dual-stack network, one service.</summary>
internal static class TestRegistry
{
    public const string NodeA = "aaaaaaaaaaaa", NodeB = "bbbbbbbbbbbb", Net = "netnetnetnet", Web = "webwebwebweb";

    public static Network Network(string id = Net, string name = "app", int vni = 4097) => new()
    {
        Id = id,
        Name = name,
        Vni = vni,
        Subnet4 = IPNetwork.Parse("10.96.0.0/24"),
        Subnet6 = IPNetwork.Parse("fd00:96::/64"),
        Gateway4 = IPAddress.Parse("10.96.0.1"),
        Gateway6 = IPAddress.Parse("fd00:96::1"),
        GatewayMac = "02:00:00:00:00:01",
    };

    public static Node Node(string id, string name, string address) => new()
    {
        Id = id,
        Name = name,
        Dc = "dc1",
        Address = IPAddress.Parse(address),
    };

    public static Service Service(EndpointMode mode = EndpointMode.Vip) => new()
    {
        Id = Web,
        Name = "web",
        NetworkId = Net,
        EndpointMode = mode,
        Vip4 = mode == EndpointMode.Vip ? IPAddress.Parse("10.96.0.10") : null,
        Ports = [new ServicePort { Port = 80, Target = 8080 }],
    };

    public static Endpoint Endpoint(string id, string node, int host, EndpointState state = EndpointState.Healthy, string? service = Web, string network = Net, string netns = "/run/netns/x") => new()
    {
        Id = id,
        Name = id,
        NodeId = node,
        NetworkId = network,
        ServiceId = service,
        Address4 = IPAddress.Parse($"10.96.0.{host}"),
        Address6 = IPAddress.Parse($"fd00:96::{host}"),
        Mac = $"02:00:00:00:00:{host:x2}",
        State = state,
        Netns = netns,
    };

    public static Endpoint Own(string node, int host, string network = Net) => Endpoint(Snapshot.NodeEndpointId(node, network), node, host, service: null, network: network) with
    {
        Kind = EndpointKind.Node,
        Netns = "",
    };

    public static Snapshot With(IEnumerable<Endpoint> endpoints, IEnumerable<Network>? networks = null, IEnumerable<Service>? services = null) => Snapshot.From(new RegistrySnapshot
    {
        ClusterId = "c",
        ClusterDomain = "overlay.internal",
        Revision = 7,
        Nodes = [Node(NodeA, "a", "192.0.2.1"), Node(NodeB, "b", "192.0.2.2")],
        Networks = [.. networks ?? [Network()]],
        Services = [.. services ?? [Service()]],
        Endpoints = [.. endpoints],
    });
}
