using System.Net;
using System.Net.Sockets;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>
/// What a VIP is to its users, whichever writer makes it work. A writer joins by a derived class; it overrides nothing.
/// </summary>
public abstract class BalancerConformance : IDisposable
{
    private const int Port = 80;
    private readonly List<IDisposable> things = [];
    private readonly IBalancer balancer;
    private readonly VipTopology net;

    protected BalancerConformance(IBalancer balancer)
    {
        this.balancer = balancer;
        Assert.True(balancer.Availability.Usable, balancer.Availability.Reason);
        net = Own(new VipTopology(4711));
    }

    public void Dispose()
    {
        foreach (var thing in Enumerable.Reverse(things))
            thing.Dispose();
        balancer.Dispose();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Weights_8_and_2_are_kept_within_three_points_over_2000_connections(bool v6)
    {
        var (client, servers) = Start(2, v6);
        Apply(net.Service(servers, TcpPort()) with { RealServers = [servers[0].AsServer(8), servers[1].AsServer(2)] });
        var counts = VipTraffic.Spread(client.Namespace, Vip(v6), Port, 2000);
        Assert.InRange(counts[servers[0].Name] / 20.0, 77, 83);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_server_sees_the_client_and_shares_are_even(bool v6)
    {
        var (client, servers) = Start(3, v6);
        Apply(net.Service(servers, TcpPort()));
        var counts = new Dictionary<string, int>();
        for (var i = 0; i < 300; i++)
        {
            using var connection = Connect(client, v6);
            Assert.Equal(client.Address(v6), connection.SeenAs);
            counts[connection.Server] = counts.GetValueOrDefault(connection.Server) + 1;
        }
        Assert.All(servers, server => Assert.InRange(counts[server.Name], 80, 120));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Adding_a_server_resets_no_live_connection_and_the_new_one_takes_its_share(bool v6)
    {
        var (client, servers) = Start(3, v6);
        Apply(net.Service(servers[..2], TcpPort()));
        var live = Live(client, v6);
        Apply(net.Service(servers, TcpPort()));
        Assert.Equal(60, live.Count(connection => connection.IsAlive()));
        Assert.InRange(VipTraffic.Spread(client.Namespace, Vip(v6), Port, 300)[servers[2].Name], 70, 130);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Removing_a_killed_server_resets_only_its_own_connections(bool v6)
    {
        var (client, servers) = Start(3, v6, out var running);
        Apply(net.Service(servers, TcpPort()));
        var live = Live(client, v6);
        running[2].Dispose();
        Apply(net.Service(servers[..2], TcpPort()));
        Assert.All(live.Where(connection => connection.Server != servers[2].Name), connection => Assert.True(connection.IsAlive()));
        Assert.DoesNotContain(servers[2].Name, VipTraffic.Spread(client.Namespace, Vip(v6), Port, 60).Keys);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_draining_server_keeps_its_connections_and_gets_no_new_ones(bool v6)
    {
        var (client, servers) = Start(3, v6);
        Apply(net.Service(servers, TcpPort()));
        var live = Live(client, v6);
        var draining = net.Service(servers, TcpPort());
        Apply(draining with { RealServers = [servers[0].AsServer(8), servers[1].AsServer(8), servers[2].AsServer(0)] });
        Assert.Equal(60, live.Count(connection => connection.IsAlive()));
        Assert.DoesNotContain(servers[2].Name, VipTraffic.Spread(client.Namespace, Vip(v6), Port, 60).Keys);
        var onDraining = live.Count(connection => connection.Server == servers[2].Name);
        Assert.Equal(onDraining, LiveFlows(draining, servers[2]));
        foreach (var connection in live)
            connection.Dispose();
        Assert.True(SpinWait.SpinUntil(() => LiveFlows(draining, servers[2]) == 0, 10_000), "draining never ended");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_last_draining_server_leaves_a_VIP_that_refuses(bool v6)
    {
        var (client, servers) = Start(1, v6);
        Apply(net.Service(servers, TcpPort()));
        using var live = Connect(client, v6);
        Apply(net.Service(servers, TcpPort()) with { RealServers = [servers[0].AsServer(0)] });
        Assert.True(live.IsAlive());
        AssertRefused(client, v6, Port);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_VIP_without_servers_and_a_port_that_is_not_served_refuse_at_once(bool v6)
    {
        var (client, servers) = Start(1, v6);
        Apply(net.Service([], TcpPort()));
        AssertRefused(client, v6, Port);
        Apply(net.Service(servers, TcpPort()));
        AssertRefused(client, v6, 81);
        using var udp = VipTraffic.Socket(client.Namespace, Vip(v6).AddressFamily, SocketType.Dgram);
        udp.ReceiveTimeout = 2000;
        var error = Record.Exception(() =>
        {
            udp.Connect(new IPEndPoint(Vip(v6), 53));
            udp.Send("?"u8);
            udp.Receive(new byte[10]);
        });
        // A datagram refused on its way out is EPERM to its sender, one refused further on is ECONNREFUSED.
        Assert.True(Assert.IsType<SocketException>(error).SocketErrorCode is SocketError.ConnectionRefused or SocketError.AccessDenied, error.Message);
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void Udp_to_a_server_on_the_wildcard_is_answered_from_the_VIP(bool v6, bool connected)
    {
        var (client, servers) = Start(2, v6, tcp: false);
        foreach (var server in servers)
            Own(TestServer.Udp(server, v6 ? IPAddress.IPv6Any : IPAddress.Any, 5353));
        Apply(net.Service(servers, new VipPort(VipPort.Udp, 53, 5353)));
        var seen = new HashSet<string>();
        for (var i = 0; i < 20; i++)
        {
            var (server, seenAs, from) = VipTraffic.Ask(client.Namespace, Vip(v6), 53, connected);
            Assert.Equal(client.Address(v6), seenAs);
            Assert.Equal(new IPEndPoint(Vip(v6), 53), from);
            seen.Add(server);
        }
        Assert.Equal(2, seen.Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Udp_datagrams_larger_than_a_packet_arrive_whole(bool v6)
    {
        var (client, servers) = Start(2, v6, tcp: false);
        foreach (var server in servers)
            Own(TestServer.Udp(server, v6 ? IPAddress.IPv6Any : IPAddress.Any, 53));
        Apply(net.Service(servers, new VipPort(VipPort.Udp, 53, 53)));
        for (var i = 0; i < 10; i++)
            VipTraffic.Ask(client.Namespace, Vip(v6), 53, connected: true, size: 9000);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_closed_port_behind_the_VIP_is_refused_to_the_sender_of_a_datagram(bool v6)
    {
        var (client, servers) = Start(1, v6, tcp: false);
        Apply(net.Service(servers, new VipPort(VipPort.Udp, 53, 5353)));
        using var socket = IcmpErrors.ConnectedDatagram(client, Vip(v6), 53);
        socket.Send("?"u8);
        Assert.Equal(SocketError.ConnectionRefused, Assert.Throws<SocketException>(() => socket.Receive(new byte[10])).SocketErrorCode);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_smaller_path_mtu_is_learnt_through_the_VIP(bool v6)
    {
        var (client, servers) = Start(1, v6, tcp: false);
        using var server = VipTraffic.Socket(servers[0].Namespace, Vip(v6).AddressFamily, SocketType.Dgram);
        server.Bind(new IPEndPoint(v6 ? IPAddress.IPv6Any : IPAddress.Any, 5353));
        server.ReceiveTimeout = 5000;
        Apply(net.Service(servers, new VipPort(VipPort.Udp, 53, 5353)));
        using var socket = IcmpErrors.ConnectedDatagram(client, Vip(v6), 53);
        socket.Send(new byte[1000]);
        EndPoint from = new IPEndPoint(v6 ? IPAddress.IPv6Any : IPAddress.Any, 0);
        server.ReceiveFrom(new byte[2000], ref from);
        // What a router between the server and its network would say of that datagram.
        IcmpErrors.SendTooBig(servers[0], (IPEndPoint)from, new IPEndPoint(servers[0].Address(v6), 5353), mtu: 1300);
        Assert.True(SpinWait.SpinUntil(() => IcmpErrors.PathMtu(socket) == 1300, 5000), $"the path MTU is {IcmpErrors.PathMtu(socket)}");
    }

    [Fact]
    public void A_client_that_is_refused_over_IPv6_first_still_gets_every_server_over_IPv4()
    {
        var (client, servers) = Start(2, v6: false);
        Apply(net.Service(servers, TcpPort()));
        var counts = new Dictionary<string, int>();
        for (var i = 0; i < 40; i++)
        {
            Assert.Throws<SocketException>(() => VipTraffic.Connect(client.Namespace, Vip(true), Port).Dispose());
            using var connection = Connect(client, v6: false);
            counts[connection.Server] = counts.GetValueOrDefault(connection.Server) + 1;
        }
        Assert.All(servers, server => Assert.InRange(counts.GetValueOrDefault(server.Name), 8, 32));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_udp_client_moves_on_when_its_server_is_removed(bool v6)
    {
        var (client, servers) = Start(2, v6, tcp: false);
        foreach (var server in servers)
            Own(TestServer.Udp(server, v6 ? IPAddress.IPv6Any : IPAddress.Any, 53));
        var port = new VipPort(VipPort.Udp, 53, 53);
        Apply(net.Service(servers, port));
        using var socket = VipTraffic.Socket(client.Namespace, Vip(v6).AddressFamily, SocketType.Dgram);
        var (first, _, _) = VipTraffic.Ask(client.Namespace, Vip(v6), 53, connected: true, socket: socket);
        Apply(net.Service(servers.Where(server => server.Name != first), port));
        string second;
        try
        {
            (second, _, _) = VipTraffic.Ask(client.Namespace, Vip(v6), 53, connected: true, socket: socket);
        }
        catch (SocketException)
        {
            // A writer that translates at connect can only tell a connected socket that its server has gone.
            (second, _, _) = VipTraffic.Ask(client.Namespace, Vip(v6), 53, connected: true);
        }
        Assert.NotEqual(first, second);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_server_calling_its_own_VIP_is_balanced_like_anybody(bool v6)
    {
        var (_, servers) = Start(2, v6);
        Apply(net.Service(servers, TcpPort()));
        var counts = VipTraffic.Spread(servers[0].Namespace, Vip(v6), Port, 40);
        Assert.InRange(counts[servers[0].Name], 8, 32);
        Assert.InRange(counts[servers[1].Name], 8, 32);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_port_is_mapped_to_the_servers_port(bool v6)
    {
        var (client, servers) = Start(2, v6, tcp: false);
        foreach (var server in servers)
            Own(TestServer.Tcp(server, server.Address(v6), 8080));
        Apply(net.Service(servers, new VipPort(VipPort.Tcp, Port, 8080)));
        Assert.Equal(2, VipTraffic.Spread(client.Namespace, Vip(v6), Port, 20).Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_service_without_ports_serves_every_port(bool v6)
    {
        var (client, servers) = Start(2, v6);
        foreach (var server in servers)
            Own(TestServer.Udp(server, server.Address(v6), 777));
        Apply(net.Service(servers));
        Assert.Equal(2, VipTraffic.Spread(client.Namespace, Vip(v6), Port, 20).Count);
        VipTraffic.Ask(client.Namespace, Vip(v6), 777, connected: true);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public virtual void Affinity_binds_a_client_to_a_server_until_the_time_is_over_or_the_server_goes(bool v6)
    {
        var (client, servers) = Start(3, v6);
        var service = net.Service(servers, TcpPort()) with { AffinitySeconds = 2 };
        Apply(service);
        var bound = Assert.Single(VipTraffic.Spread(client.Namespace, Vip(v6), Port, 30)).Key;
        Apply(service with { RealServers = [.. servers.Where(server => server.Name != bound).Select(server => server.AsServer(8))] });
        var other = Assert.Single(VipTraffic.Spread(client.Namespace, Vip(v6), Port, 30)).Key;
        Assert.NotEqual(bound, other);
        // Idle for longer than the binding lasts, each time: sooner or later another server has the turn.
        var seen = new HashSet<string> { other };
        Assert.True(SpinWait.SpinUntil(() =>
        {
            Thread.Sleep(2100);
            using var connection = Connect(client, v6);
            seen.Add(connection.Server);
            return seen.Count > 1;
        }, 30_000));
    }

    [Theory]
    [InlineData("sh")]
    [InlineData("mh")]
    public void Hashing_schedulers_send_a_client_to_one_server(string scheduler)
    {
        var (client, servers) = Start(3, v6: false);
        Apply(net.Service(servers, TcpPort()) with { Scheduler = scheduler });
        Assert.Single(VipTraffic.Spread(client.Namespace, net.Vip4, Port, 30));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_VIP_answers_ping(bool v6)
    {
        var (client, servers) = Start(2, v6);
        Apply(net.Service(servers, TcpPort()));
        client.Namespace.Run("ping", "-c", "2", "-i", "0.2", "-W", "2", Vip(v6).ToString());
    }

    [Fact]
    public void Two_isolated_networks_with_the_same_subnet_keep_apart()
    {
        var (client, servers) = Start(1, v6: false);
        var other = Own(new VipTopology(4712));
        var theirs = other.AddContainer("theirs");
        var theirClient = other.AddContainer("asks");
        Own(TestServer.Tcp(theirs, theirs.Address4, Port));
        Assert.Equal(net.Vip4, other.Vip4);
        Report(new VipConfig { Networks = [net.AsNetwork(net.Service(servers, TcpPort())), other.AsNetwork(other.Service([theirs], TcpPort()))] });
        Assert.Equal([servers[0].Name], VipTraffic.Spread(client.Namespace, net.Vip4, Port, 10).Keys);
        Assert.Equal(["theirs"], VipTraffic.Spread(theirClient.Namespace, net.Vip4, Port, 10).Keys);
    }

    [Fact]
    public void The_node_itself_reaches_a_VIP_from_the_networks_namespace()
    {
        var (_, servers) = Start(2, v6: false);
        Apply(net.Service(servers, TcpPort()));
        Assert.Equal(2, VipTraffic.Spread(net.Network, net.Vip4, Port, 20).Count);
    }

    [Fact]
    public void Applying_again_changes_nothing_and_a_removed_service_leaves_nothing()
    {
        var (client, servers) = Start(2, v6: false);
        var service = net.Service(servers, TcpPort());
        Apply(service);
        Assert.Empty(Apply(service).Changes);
        Assert.Empty(balancer.Observe(net.Config(service)).Changes);
        Assert.NotEmpty(balancer.Observe(net.Config(service with { RealServers = [servers[0].AsServer(8)] })).Changes);
        Assert.Equal(2, VipTraffic.Spread(client.Namespace, net.Vip4, Port, 20).Count);
        Apply();
        Assert.ThrowsAny<Exception>(() => VipTraffic.Connect(client.Namespace, net.Vip4, Port).Dispose());
        Report(VipConfig.Empty);
    }

    [Fact]
    public void A_container_that_has_gone_does_not_stop_the_others()
    {
        var (client, servers) = Start(2, v6: false);
        var gone = net.AddContainer("gone");
        gone.Namespace.Dispose();
        var report = balancer.Apply(net.Config(net.Service(servers, TcpPort())));
        Assert.All(report.Errors, error => Assert.True(error.NamespaceGone, error.Message));
        Assert.Equal(2, VipTraffic.Spread(client.Namespace, net.Vip4, Port, 20).Count);
    }

    protected VipTopology Net => net;

    protected IBalancer Balancer => balancer;

    protected static VipPort TcpPort() => new(VipPort.Tcp, Port, Port);

    protected IPAddress Vip(bool v6) => v6 ? net.Vip6 : net.Vip4;

    protected T Own<T>(T thing) where T : IDisposable
    {
        things.Add(thing);
        return thing;
    }

    protected (VipContainer Client, VipContainer[] Servers) Start(int count, bool v6, bool tcp = true) => Start(count, v6, out _, tcp);

    /// <summary>A client and servers bound to their own address only.</summary>
    protected (VipContainer Client, VipContainer[] Servers) Start(int count, bool v6, out TestServer[] running, bool tcp = true)
    {
        var client = net.AddContainer("client");
        VipContainer[] servers = [.. Enumerable.Range(1, count).Select(i => net.AddContainer($"s{i}"))];
        running = tcp ? [.. servers.Select(server => Own(TestServer.Tcp(server, server.Address(v6), Port)))] : [];
        return (client, servers);
    }

    protected BalancerReport Apply(params VipService[] services) => Report(net.Config(services));

    protected BalancerReport Report(VipConfig config)
    {
        var report = balancer.Apply(config);
        Assert.Empty(report.Errors);
        return report;
    }

    private TestConnection Connect(VipContainer client, bool v6) => VipTraffic.Connect(client.Namespace, Vip(v6), Port);

    private List<TestConnection> Live(VipContainer client, bool v6) => [.. Enumerable.Range(0, 60).Select(_ => Own(Connect(client, v6)))];

    private long LiveFlows(VipService service, VipContainer server) =>
        balancer.ReadStatistics(net.Config(service)).Where(entry => entry.EndpointId == $"e-{server.Name}").Sum(entry => entry.LiveFlows);

    private void AssertRefused(VipContainer client, bool v6, int port)
    {
        // At once: not after a second, when a lost first packet is sent again. A busy machine may be that slow now and then by itself.
        Assert.Contains(Enumerable.Range(0, 5), _ =>
        {
            var clock = System.Diagnostics.Stopwatch.StartNew();
            var error = Assert.Throws<SocketException>(() => VipTraffic.Connect(client.Namespace, Vip(v6), port).Dispose());
            Assert.Equal(SocketError.ConnectionRefused, error.SocketErrorCode);
            return clock.ElapsedMilliseconds < 900;
        });
    }
}
