using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Vip;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>One overlay network on one node as the balancers meet it: the network's namespace with a bridge, and containers on veths. No daemon.</summary>
public sealed class VipTopology : IDisposable
{
    private readonly List<VipContainer> containers = [];
    private readonly byte third;
    private int next = 10;

    /// <param name="third">Third octet of the subnet: equal ones overlap.</param>
    public VipTopology(int vni, byte third = 0)
    {
        this.third = third;
        Vni = vni;
        Network = new TestNamespace("net");
        Network.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0");
        Network.Run("ip", "link", "add", "br0", "address", "02:00:00:00:00:01", "type", "bridge", "forward_delay", "0");
        Network.Run("ip", "link", "set", "br0", "up");
        foreach (var address in new[] { Gateway4, NodeAddress4 })
            Network.Run("ip", "addr", "add", $"{address}/24", "dev", "br0");
        foreach (var address in new[] { Gateway6, NodeAddress6 })
            Network.Run("ip", "addr", "add", $"{address}/64", "dev", "br0", "nodad");
    }

    public int Vni { get; }
    public TestNamespace Network { get; }
    public IPAddress Gateway4 => V4(1);
    public IPAddress Gateway6 => V6(1);
    public IPAddress NodeAddress4 => V4(2);
    public IPAddress NodeAddress6 => V6(2);
    public IPAddress Vip4 => V4(200);
    public IPAddress Vip6 => V6(200);
    public IReadOnlyList<VipContainer> Containers => containers;

    public IPAddress V4(int host) => IPAddress.Parse($"10.77.{third}.{host}");

    public IPAddress V6(int host) => IPAddress.Parse($"fd77:0:0:{third:x}::{host:x}");

    public VipContainer AddContainer(string name)
    {
        var host = next++;
        var container = new VipContainer(name, new TestNamespace(name), V4(host), V6(host), MacAddress.Parse($"02:00:00:00:01:{host:x2}"), $"v{host}");
        container.Namespace.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0");
        Network.Run("ip", "link", "add", container.BridgePort, "type", "veth", "peer", "name", "eth0", "address", container.Mac.ToString(), "netns", container.Namespace.Name);
        Network.Run("ip", "link", "set", container.BridgePort, "master", "br0", "up");
        container.Namespace.Run("ip", "link", "set", "eth0", "up");
        container.Namespace.Run("ip", "addr", "add", $"{container.Address4}/24", "dev", "eth0");
        container.Namespace.Run("ip", "addr", "add", $"{container.Address6}/64", "dev", "eth0", "nodad");
        container.Namespace.Run("ip", "route", "add", "default", "via", Gateway4.ToString());
        container.Namespace.Run("ip", "-6", "route", "add", "default", "via", Gateway6.ToString());
        containers.Add(container);
        return container;
    }

    public VipService Service(IEnumerable<VipContainer> servers, params VipPort[] ports) => new()
    {
        Id = "s1",
        Name = "web",
        Addresses = [Vip4, Vip6],
        Ports = ports,
        DrainSeconds = 3600,
        RealServers = [.. servers.Select(server => server.AsServer(8))],
    };

    public VipConfig Config(params VipService[] services) => new() { Revision = 1, Networks = [AsNetwork(services)] };

    public VipNetwork AsNetwork(params VipService[] services) => new()
    {
        Id = $"n{Vni}",
        Name = $"net{Vni}",
        Vni = Vni,
        Netns = Network.Name,
        Subnet4 = IPNetwork.Parse($"{V4(0)}/24"),
        Subnet6 = IPNetwork.Parse($"{V6(0)}/64"),
        NodeAddress4 = NodeAddress4,
        NodeAddress6 = NodeAddress6,
        Tasks = [.. containers.Where(container => container.Attached).Select(container => container.AsTask())],
        Services = services,
    };

    public void Dispose()
    {
        foreach (var container in containers)
            container.Dispose();
        Network.Dispose();
    }
}

/// <summary>A container: a namespace with one interface.</summary>
public sealed record VipContainer(string Name, TestNamespace Namespace, IPAddress Address4, IPAddress Address6, MacAddress Mac, string BridgePort) : IDisposable
{
    public bool Attached { get; set; } = true;

    public IPAddress Address(bool v6) => v6 ? Address6 : Address4;

    public VipTask AsTask() => new()
    {
        EndpointId = $"e-{Name}",
        NetnsPath = Namespace.Path,
        Interface = "eth0",
        BridgePort = BridgePort,
        Address4 = Address4,
        Address6 = Address6,
        Mac = Mac,
    };

    public RealServer AsServer(int weight) => new()
    {
        EndpointId = $"e-{Name}",
        Address4 = Address4,
        Address6 = Address6,
        Mac = Mac,
        Weight = weight,
        Local = true,
    };

    public void Dispose() => Namespace.Dispose();
}
