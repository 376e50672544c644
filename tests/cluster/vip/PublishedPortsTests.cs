using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Vip;
using OverlayNet.Vip.Ingress;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>Published ports: a client outside, a host, and behind it the network's namespace.</summary>
public sealed class PublishedPortsTests : IDisposable
{
    private readonly VipTopology net = new(4713);
    private readonly TestNamespace host = new("host");
    private readonly TestNamespace world = new("world");
    private readonly List<IDisposable> servers = [];
    private readonly PublishedPorts ingress;

    public PublishedPortsTests()
    {
        host.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0");
        world.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0");
        host.Run("ip", "link", "add", "oe0", "type", "veth", "peer", "name", "up0", "netns", net.Network.Name);
        host.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", world.Name);
        Address(host, "oe0", "169.254.64.0/31", "fd6f::/127");
        Address(net.Network, "up0", "169.254.64.1/31", "fd6f::1/127");
        Address(host, "eth0", "192.0.2.1/24", "2001:db8::1/64");
        Address(world, "eth0", "192.0.2.2/24", "2001:db8::2/64");
        net.Network.Run("ip", "route", "add", "default", "via", "169.254.64.0");
        net.Network.Run("ip", "-6", "route", "add", "default", "via", "fd6f::");
        ingress = new PublishedPorts("test", host.Path);
    }

    public void Dispose()
    {
        foreach (var server in servers)
            server.Dispose();
        net.Dispose();
        world.Dispose();
        host.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_server_on_the_ingress_node_sees_the_client_and_one_elsewhere_the_node(bool v6)
    {
        var (near, far) = (net.AddContainer("near"), net.AddContainer("far"));
        far.Attached = false;
        Serve(v6, near, far);
        Apply(Service(near.AsServer(8), far.AsServer(8) with { Local = false }));
        var seen = new Dictionary<string, IPAddress>();
        for (var i = 0; i < 8; i++)
        {
            using var connection = VipTraffic.Connect(world, Outside(v6), 8080);
            seen[connection.Server] = connection.SeenAs;
        }
        Assert.Equal(IPAddress.Parse(v6 ? "2001:db8::2" : "192.0.2.2"), seen["near"]);
        Assert.Equal(v6 ? net.NodeAddress6 : net.NodeAddress4, seen["far"]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_host_reaches_its_own_published_port_and_weights_hold(bool v6)
    {
        var (a, b) = (net.AddContainer("a"), net.AddContainer("b"));
        Serve(v6, a, b);
        Apply(Service(a.AsServer(8), b.AsServer(2)));
        Assert.InRange(VipTraffic.Spread(host, Outside(v6), 8080, 100)["a"], 75, 85);
    }

    [Fact]
    public void Mode_host_answers_only_where_a_server_is_and_only_with_it()
    {
        var (near, far) = (net.AddContainer("near"), net.AddContainer("far"));
        Serve(false, near, far);
        Apply(Service(hostOnly: true, near.AsServer(8), far.AsServer(8) with { Local = false }));
        Assert.Equal(["near"], VipTraffic.Spread(world, Outside(false), 8080, 10).Keys);
        Apply(Service(hostOnly: true, far.AsServer(8) with { Local = false }));
        Assert.Equal(SocketError.ConnectionRefused, Assert.Throws<SocketException>(() => VipTraffic.Connect(world, Outside(false), 8080)).SocketErrorCode);
    }

    [Fact]
    public void Policy_local_uses_only_servers_of_the_node_and_refuses_without_one()
    {
        var (near, far) = (net.AddContainer("near"), net.AddContainer("far"));
        Serve(false, near, far);
        var service = net.Service([], new VipPort(VipPort.Tcp, 80, 80, Published: 8080, PublishLocalOnly: true));
        Apply(service with { RealServers = [near.AsServer(2), far.AsServer(8) with { Local = false }] });
        using (var connection = VipTraffic.Connect(world, Outside(false), 8080))
            Assert.Equal(IPAddress.Parse("192.0.2.2"), connection.SeenAs);
        Assert.Equal(["near"], VipTraffic.Spread(world, Outside(false), 8080, 10).Keys);
        Apply(service with { RealServers = [far.AsServer(8) with { Local = false }] });
        Assert.Equal(SocketError.ConnectionRefused, Assert.Throws<SocketException>(() => VipTraffic.Connect(world, Outside(false), 8080)).SocketErrorCode);
        // It is the service's port all the same: nobody else's server is reached by it.
        Assert.Contains("8080", host.Run("nft", "list", "ruleset"), StringComparison.Ordinal);
    }

    [Fact]
    public void Without_servers_it_refuses_and_unpublished_it_leaves_nothing()
    {
        var only = net.AddContainer("only");
        Serve(false, only);
        Apply(Service());
        Assert.Equal(SocketError.ConnectionRefused, Assert.Throws<SocketException>(() => VipTraffic.Connect(world, Outside(false), 8080)).SocketErrorCode);
        var service = Service(only.AsServer(8));
        Apply(service);
        Assert.Empty(Apply(service).Changes);
        Assert.Empty(new PublishedPorts("test", host.Path).Apply(net.Config(service)).Changes);
        Assert.Contains("dnat to", host.Run("nft", "list", "ruleset"), StringComparison.Ordinal);
        Assert.Contains("dnat to", net.Network.Run("nft", "list", "ruleset"), StringComparison.Ordinal);
        host.Run("nft", "flush", "ruleset");
        Assert.NotEmpty(Apply(service).Changes);
        using (VipTraffic.Connect(world, Outside(false), 8080))
        {
        }
        Apply(service with { Ports = [new VipPort(VipPort.Tcp, 80, 80)] });
        Assert.Equal("", host.Run("nft", "list", "ruleset"));
        Assert.Equal("", net.Network.Run("nft", "list", "ruleset"));
    }

    [Fact]
    public void Udp_is_published_too()
    {
        var only = net.AddContainer("only");
        servers.Add(TestServer.Udp(only, IPAddress.Any, 53));
        Apply(net.Service([], new VipPort(VipPort.Udp, 53, 53, Published: 5300)) with { RealServers = [only.AsServer(1)] });
        Assert.Equal(new IPEndPoint(Outside(false), 5300), VipTraffic.Ask(world, Outside(false), 5300, connected: true).From);
    }

    [Fact]
    public void A_port_that_a_process_holds_stays_its_own_until_it_ends_and_is_not_taken_from_a_service_later()
    {
        var only = net.AddContainer("only");
        Serve(false, only);
        var service = Service(only.AsServer(8));
        using (var holder = Listen(Outside(false)))
        {
            var error = Assert.Single(ingress.Apply(net.Config(service)).Errors);
            Assert.Equal("web", error.Service);
            Assert.Contains($"tcp port 8080 is held by ", error.Message, StringComparison.Ordinal);
            Assert.Contains($"(pid {Environment.ProcessId})", error.Message, StringComparison.Ordinal);
            using var client = VipTraffic.Socket(world, AddressFamily.InterNetwork, SocketType.Stream);
            client.Connect(new IPEndPoint(Outside(false), 8080));
            using var accepted = holder.Accept();
        }
        Apply(service);
        // Published now: who comes later does not get it, and another process of ours adopts that.
        using (Listen(Outside(false)))
        {
            Apply(service);
            Assert.Empty(new PublishedPorts("test", host.Path).Apply(net.Config(service)).Errors);
            using var connection = VipTraffic.Connect(world, Outside(false), 8080);
            Assert.Equal("only", connection.Server);
        }
    }

    [Fact]
    public void A_listener_on_the_loopback_interface_holds_no_published_port()
    {
        var only = net.AddContainer("only");
        Serve(false, only);
        using (Listen(IPAddress.Loopback))
            Apply(Service(only.AsServer(8)));
        using (VipTraffic.Connect(world, Outside(false), 8080))
        {
        }
    }

    [Fact]
    public void The_process_that_holds_a_port_is_named()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        var port = (ushort)((IPEndPoint)listener.LocalEndPoint!).Port;
        var holder = PortHolder.Find(VipPort.Tcp, port);
        Assert.Equal(Environment.ProcessId, holder?.Process);
        Assert.Contains($"tcp port {port} is held by ", holder!.ToString(), StringComparison.Ordinal);
        listener.Dispose();
        Assert.Null(PortHolder.Find(VipPort.Tcp, port));
    }

    private Socket Listen(IPAddress address)
    {
        var socket = VipTraffic.Socket(host, address.AddressFamily, SocketType.Stream);
        socket.Bind(new IPEndPoint(address, 8080));
        socket.Listen();
        return socket;
    }

    private static void Address(TestNamespace netns, string link, string v4, string v6)
    {
        netns.Run("ip", "link", "set", link, "up");
        netns.Run("ip", "addr", "add", v4, "dev", link);
        netns.Run("ip", "addr", "add", v6, "dev", link, "nodad");
    }

    private static IPAddress Outside(bool v6) => IPAddress.Parse(v6 ? "2001:db8::1" : "192.0.2.1");

    private void Serve(bool v6, params VipContainer[] containers)
    {
        foreach (var container in containers)
            servers.Add(TestServer.Tcp(container, container.Address(v6), 80));
    }

    private VipService Service(params RealServer[] real) => Service(false, real);

    private VipService Service(bool hostOnly, params RealServer[] real) =>
        net.Service([], new VipPort(VipPort.Tcp, 80, 80, Published: 8080, PublishHostOnly: hostOnly)) with { RealServers = real };

    private OverlayNet.Vip.Balancers.BalancerReport Apply(params VipService[] services)
    {
        var report = ingress.Apply(net.Config(services));
        Assert.Empty(report.Errors);
        return report;
    }
}
