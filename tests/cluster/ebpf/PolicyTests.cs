using System.Net;
using System.Net.Sockets;
using OverlayNet.ClusterTests.Kernel;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>Which real server is chosen, and when there is none.</summary>
public sealed class PolicyTests : IDisposable
{
    private readonly SocketWorld world = new();

    [Theory]
    [InlineData("10.99.0.200")]
    [InlineData("fd99::200")]
    [InlineData("::ffff:10.99.0.200")]
    public void AVipWithoutRealServersRefusesAtOnce(string vip)
    {
        var address = IPAddress.Parse(vip);
        world.Container(0, 1).Dispose();
        world.Apply(world.Network(0, SocketWorld.Service((2, 0))));
        Assert.Equal(SocketError.ConnectionRefused, Refusal(() => world.Connect(0, 1, SocketType.Stream, address)));
        Assert.Equal(SocketError.ConnectionRefused, Refusal(() => world.Connect(0, 1, SocketType.Dgram, address)));
        var socket = world.Client(0, 1, SocketType.Dgram, address.AddressFamily);
        Assert.Equal(SocketError.ConnectionRefused, Refusal(() => socket.SendTo("hello"u8, new IPEndPoint(address, 80))));
    }

    [Fact]
    public void EqualWeightsTakeTurns()
    {
        world.Container(0, 1).Dispose();
        world.Apply(world.Network(0, SocketWorld.Service((2, 5), (3, 5), (4, 5))));
        Connect(300);
        Assert.Equal([100, 100, 100], Connections());
    }

    [Fact]
    public void WeightsAreMetCloselyAlsoOverFewConnections()
    {
        world.Container(0, 1).Dispose();
        world.Apply(world.Network(0, SocketWorld.Service((2, 8), (3, 2))));
        Connect(100);
        Assert.InRange(Connections()[0], 77, 83);
        Connect(1900);
        Assert.InRange(Connections()[0], 1590, 1610);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1), (3, 65535))));
        var before = Connections()[0];
        Connect(1000);
        Assert.InRange(Connections()[0] - before, 0, 1);
    }

    [Fact]
    public void AnAddressOfOneFamilyOnlyServesThatFamily()
    {
        world.Container(0, 1).Dispose();
        world.Serve(0, 2);
        world.Serve(0, 3);
        world.Apply(world.Network(0, SocketWorld.Service() with
        {
            RealServers = [SocketWorld.Real(2) with { Address6 = null }, SocketWorld.Real(3) with { Address4 = null }],
        }));
        for (var i = 0; i < 4; i++)
        {
            Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
            Assert.StartsWith("0.3 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip6)));
        }
    }

    [Fact]
    public void AffinityHoldsAClientUntilItsTimeAndItsRealServerAreOver()
    {
        world.Container(0, 1).Dispose();
        var service = SocketWorld.Service((2, 1), (3, 1), (4, 1)) with { AffinitySeconds = 1 };
        world.Apply(world.Network(0, service));
        Connect(20);
        var first = Connections();
        Assert.Contains(20, first);
        var favourite = first.IndexOf(20);
        Assert.True(SpinWait.SpinUntil(
            () =>
            {
                // Nobody asks for longer than the affinity lasts, so that it runs out in between.
                Thread.Sleep(1100);
                Connect(1);
                return Connections()[favourite] < Connections().Sum();
            }, 20_000));

        world.Apply(world.Network(0, service with { AffinitySeconds = 3600 }));
        Connect(20);
        var second = Connections();
        favourite = second.IndexOf(second.Max());
        world.Apply(world.Network(0, service with
        {
            AffinitySeconds = 3600,
            RealServers = [.. service.RealServers.Select((real, i) => i == favourite ? real with { Weight = 0 } : real)],
        }));
        Connect(20);
        Assert.Equal(second[favourite], Connections()[favourite]);
    }

    [Fact]
    public void TheClientDecidesUnderASourceHash()
    {
        for (var client = 1; client <= 8; client++)
            world.Container(0, client).Dispose();
        world.Apply(world.Network(0, SocketWorld.Service((11, 1), (12, 1), (13, 2)) with { Scheduler = "sh" }));
        for (var client = 1; client <= 8; client++)
        {
            var before = Connections();
            Connect(5, client);
            Assert.Contains(5, Connections().Zip(before, (after, start) => after - start));
        }
        Assert.True(Connections().Count(connections => connections > 0) > 1);
    }

    [Fact]
    public void WithoutPortsEveryPortGoesToTheSamePort()
    {
        world.Container(0, 1).Dispose();
        world.Serve(0, 2, 7001);
        world.Serve(0, 2, 7002);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1)) with { Ports = [] }));
        foreach (var port in (ushort[])[7001, 7002])
        {
            Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4, port)));
            Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Dgram, SocketWorld.Vip6, port)));
        }
    }

    [Fact]
    public void APortThatIsNotServedFallsThrough()
    {
        world.Container(0, 1).Dispose();
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))));
        using var socket = world.Connect(0, 1, SocketType.Dgram, SocketWorld.Vip4, 81);
        Assert.Equal(new IPEndPoint(SocketWorld.Vip4, 81), socket.RemoteEndPoint);
        Assert.Equal([0], Connections());
    }

    [Fact]
    public void ARealServerReachesItsOwnVip()
    {
        world.Serve(0, 2);
        world.Serve(0, 3);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1), (3, 1))));
        var answers = Enumerable.Range(0, 4).Select(_ => SocketWorld.Ask(world.Connect(0, 2, SocketType.Stream, SocketWorld.Vip4))).Order().ToArray();
        Assert.Equal(["0.2 10.99.0.2", "0.2 10.99.0.2", "0.3 10.99.0.2", "0.3 10.99.0.2"], answers);
    }

    [Fact]
    public void NetworksWithTheSameSubnetAndVipStayApart()
    {
        foreach (var network in (int[])[0, 1])
        {
            world.Container(network, 1).Dispose();
            world.Serve(network, 2);
        }
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))), world.Network(1, SocketWorld.Service((2, 1))));
        foreach (var network in (int[])[0, 1, 0, 1])
        {
            Assert.Equal($"{network}.2 10.99.0.1", SocketWorld.Ask(world.Connect(network, 1, SocketType.Stream, SocketWorld.Vip4)));
            using var socket = world.Client(network, 1, SocketType.Dgram, AddressFamily.InterNetworkV6);
            Assert.Equal($"{network}.2 fd99::1", SocketWorld.AskFrom(socket, SocketWorld.Vip6).Answer);
        }
        // One of them without the service: its VIP is not the other's.
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))), world.Network(1));
        using var alone = world.Client(1, 1, SocketType.Dgram);
        alone.Connect(new IPEndPoint(SocketWorld.Vip4, 80));
        Assert.Equal(new IPEndPoint(SocketWorld.Vip4, 80), alone.RemoteEndPoint);
        Assert.Equal([("n0", 2L), ("n1", 2L)], Statistics().Select(row => (row.NetworkId, row.Connections!.Value)).Order());
    }

    [Fact]
    public void AContainerOnTwoNetworksReachesTheVipsOfBoth()
    {
        world.Container(0, 1).Dispose();
        world.Container(1, 1).Dispose();
        world.Serve(0, 2);
        var other = world.Network(1, SocketWorld.Service((2, 1)) with { Addresses = [IPAddress.Parse("10.99.0.201")] });
        world.Apply(
            world.Network(0, SocketWorld.Service((2, 1))),
            other with { Tasks = [.. other.Tasks, world.Network(0).Tasks.Single(task => task.EndpointId == "e1")] });
        Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
        // The wires of the test do not lead to the other network: that the address was translated is what counts.
        world.Connect(0, 1, SocketType.Dgram, IPAddress.Parse("10.99.0.201"));
        Assert.Equal(1, Statistics().Single(row => row.NetworkId == "n1").Connections);
    }

    [Fact]
    public void DatagramsOfOneSocketToSeveralVipsAreAnsweredFromEach()
    {
        world.Container(0, 1).Dispose();
        world.Serve(0, 2);
        world.Serve(0, 3);
        var other = IPAddress.Parse("10.99.0.201");
        world.Apply(world.Network(0,
            SocketWorld.Service((2, 1)),
            SocketWorld.Service((3, 1)) with { Id = "s2", Name = "other", Addresses = [other] }));
        using var socket = world.Client(0, 1, SocketType.Dgram);
        for (var i = 0; i < 5; i++)
        {
            Assert.Equal(("0.2 10.99.0.1", new IPEndPoint(SocketWorld.Vip4, 80)), SocketWorld.AskFrom(socket, SocketWorld.Vip4));
            Assert.Equal(("0.3 10.99.0.1", new IPEndPoint(other, 80)), SocketWorld.AskFrom(socket, other));
            Assert.Equal(("0.3 10.99.0.1", new IPEndPoint(SocketWorld.Address4(3), SocketWorld.Port)), SocketWorld.AskFrom(
                world.Client(0, 1, SocketType.Dgram), SocketWorld.Address4(3), SocketWorld.Port));
        }
    }

    [Fact]
    public void AProcessInAnotherCgroupIsReached()
    {
        var cgroup = $"{OverlayNet.Kernel.Bpf.BpfCgroup.FindMount()}/{world.Node}";
        Directory.CreateDirectory(cgroup);
        try
        {
            world.Container(0, 1).Dispose();
            world.Serve(0, 2);
            world.Apply(world.Network(0, SocketWorld.Service((2, 1))));
            using var process = Shell.Start("sh", "-c",
                $"echo $$ > {cgroup}/cgroup.procs; echo hello | nsenter --net={world.Path(0, 1)} socat -T2 - TCP:10.99.0.200:80");
            Assert.StartsWith("0.2 10.99.0.1", process.StandardOutput.ReadToEnd());
            process.WaitForExit();
        }
        finally
        {
            Assert.True(SpinWait.SpinUntil(() => File.ReadAllText($"{cgroup}/cgroup.procs").Length == 0, 5000));
            Directory.Delete(cgroup);
        }
    }

    [Fact]
    public void APartOfTheHierarchyIsNotEnough()
    {
        var cgroup = $"{OverlayNet.Kernel.Bpf.BpfCgroup.FindMount()}/{world.Node}-part";
        Directory.CreateDirectory(cgroup);
        try
        {
            using var balancer = new EbpfBalancer(world.Node + "-part", cgroup: cgroup);
            Assert.False(balancer.Availability.Usable);
            Assert.Contains("--cgroupns=host", balancer.Availability.Reason);
            Assert.NotEmpty(balancer.Apply(VipConfig.Empty).Errors);
        }
        finally
        {
            Directory.Delete(cgroup);
        }
        using var nowhere = new EbpfBalancer(world.Node + "-none", cgroup: "/sys/fs/cgroup/none");
        Assert.Contains("/sys/fs/cgroup/none", nowhere.Availability.Reason);
    }

    [Fact]
    public void SchedulersThatCountConnectionsAreRefused()
    {
        foreach (var scheduler in (string[])["lc", "wlc", "sed", "nq"])
            Assert.Contains(scheduler, world.Balancer.Refuses(SocketWorld.Service() with { Scheduler = scheduler }));
        foreach (var scheduler in (string[])["rr", "wrr", "sh", "mh"])
            Assert.Null(world.Balancer.Refuses(SocketWorld.Service() with { Scheduler = scheduler }));
    }

    public void Dispose() => world.Dispose();

    private static SocketError Refusal(Action action) => Assert.Throws<SocketException>(action).SocketErrorCode;

    /// <summary>Datagram sockets connect without a word on the wire: only the choice is looked at.</summary>
    private void Connect(int times, int client = 1)
    {
        using var netns = world.Container(0, client);
        netns.Run(() =>
        {
            for (var i = 0; i < times; i++)
            {
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
                socket.Connect(new IPEndPoint(SocketWorld.Vip4, 80));
            }
        });
    }

    private IReadOnlyList<RealServerStatistics> Statistics() => world.Balancer.ReadStatistics(VipConfig.Empty);

    private List<long> Connections() => [.. Statistics().OrderBy(row => row.EndpointId, StringComparer.Ordinal).Select(row => row.Connections!.Value)];
}
