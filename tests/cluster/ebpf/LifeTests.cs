using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>Restarts, changes under load, drains, damage and removal.</summary>
public sealed class LifeTests : IDisposable
{
    private readonly SocketWorld world = new();

    [Fact]
    public void TheKernelGoesOnWithoutTheDaemonAndASuccessorChangesNothing()
    {
        Start((2, 1), (3, 1));
        using var before = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        var server = SocketWorld.Ask(before);
        var program = OwnProgram();
        world.Balancer.Dispose();

        // Nobody manages now: the pins carry on.
        Assert.Equal(server, SocketWorld.Ask(before));
        Assert.NotEqual(server, SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
        using var datagrams = world.Client(0, 1, SocketType.Dgram);
        var first = SocketWorld.AskFrom(datagrams, SocketWorld.Vip4);

        world.Balancer = new EbpfBalancer(world.Node);
        var network = world.Network(0, SocketWorld.Service((2, 1), (3, 1)));
        Assert.Empty(world.Balancer.Observe(world.Config(network)).Changes);
        Assert.DoesNotContain(world.Balancer.Apply(world.Config(network)).Changes, Ours);
        // The successor's program took the other's place.
        Assert.DoesNotContain(program, Programs());
        Assert.Contains(OwnProgram(), Programs());
        Assert.Equal(server, SocketWorld.Ask(before));
        Assert.Equal(new IPEndPoint(SocketWorld.Vip4, 80), before.RemoteEndPoint);
        Assert.Equal(first, SocketWorld.AskFrom(datagrams, SocketWorld.Vip4));
        Assert.Equal(2, Live());
    }

    [Fact]
    public void ASuccessorAppliesWhatChangedMeanwhile()
    {
        Start((2, 1), (3, 1));
        world.Serve(0, 4);
        world.Balancer.Dispose();
        world.Balancer = new EbpfBalancer(world.Node);
        var service = SocketWorld.Service((3, 0), (4, 2)) with { Ports = [new VipPort(VipPort.Tcp, 90, SocketWorld.Port)] };
        world.Apply(world.Network(0, service, service with { Id = "s2", Name = "new", Addresses = [IPAddress.Parse("10.99.0.201")] }));
        Assert.Empty(world.Balancer.Observe(world.Config(world.Network(0, service, service with { Id = "s2", Name = "new", Addresses = [IPAddress.Parse("10.99.0.201")] }))).Changes);
        for (var i = 0; i < 3; i++)
            Assert.StartsWith("0.4 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4, 90)));
        Assert.Equal(new IPEndPoint(SocketWorld.Vip4, 80), world.Connect(0, 1, SocketType.Dgram, SocketWorld.Vip4).RemoteEndPoint);
        Assert.Equal(["e3", "e4"], world.Balancer.ReadStatistics(VipConfig.Empty).Where(row => row.ServiceId == "s1").Select(row => row.EndpointId).Order());
    }

    [Fact]
    public void RemovalLeavesNothing()
    {
        Start((2, 1));
        var program = OwnProgram();
        Assert.Contains(program, Programs());
        SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4));
        world.Apply(world.Network(0, SocketWorld.Service((2, 1)) with { DrainSeconds = 0 }));
        world.Apply();
        Assert.DoesNotContain(world.Node, BpfFileSystem.List(EbpfBalancer.PinRoot));
        Assert.DoesNotContain(program, Programs());
        Assert.DoesNotContain(world.Balancer.Apply(VipConfig.Empty).Changes, Ours);
    }

    [Fact]
    public void SixtyConnectionsLiveThroughAnAdditionAndADrain()
    {
        Start((2, 1), (3, 1));
        world.Serve(0, 4);
        var connections = Enumerable.Range(0, 60).Select(_ => world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)).ToArray();
        var answers = connections.Select(SocketWorld.Ask).ToArray();
        world.Apply(world.Network(0, SocketWorld.Service((2, 1), (3, 1), (4, 1))));
        Assert.Equal(answers, connections.Select(SocketWorld.Ask));
        world.Apply(world.Network(0, SocketWorld.Service((2, 0), (3, 1), (4, 1))));
        Assert.Equal(answers, connections.Select(SocketWorld.Ask));
        for (var i = 0; i < 10; i++)
            Assert.DoesNotContain("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
        Assert.Equal(30, Live("e2"));
        foreach (var connection in connections)
            connection.Dispose();
        Assert.Equal(0, Live("e2"));
    }

    [Fact]
    public void ARemovedRealServersStreamsEndAtTheDeadline()
    {
        Start((2, 1), (3, 0));
        using var v4 = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        using var v6 = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip6);
        using var mapped = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4.MapToIPv6());
        using var direct = world.Connect(0, 1, SocketType.Stream, SocketWorld.Address4(2), SocketWorld.Port);
        var network = world.Network(0, SocketWorld.Service((3, 1)) with { DrainSeconds = 1 });
        var report = world.Balancer.Apply(world.Config(network));
        Assert.NotNull(report.NextDue);
        Assert.All([v4, v6, mapped], socket => Assert.StartsWith("0.2 ", SocketWorld.Ask(socket)));
        Assert.Equal(3, Live("e2"));
        Assert.True(SpinWait.SpinUntil(() => world.Balancer.Apply(world.Config(network)).Changes.Any(change => change.What.StartsWith("3 sockets")), 10_000));
        Assert.All([v4, v6, mapped], socket => Assert.Equal(SocketError.ConnectionAborted, Assert.Throws<SocketException>(() => socket.Receive(new byte[1])).SocketErrorCode));
        // A connection that was not translated is nobody's business.
        Assert.StartsWith("0.2 ", SocketWorld.Ask(direct));
        Assert.Null(world.Balancer.Apply(world.Config(network)).NextDue);
        Assert.Equal(["e3"], world.Balancer.ReadStatistics(VipConfig.Empty).Select(row => row.EndpointId));
    }

    [Fact]
    public void ADrainedRealServersStreamsEndAtTheDeadlineAlsoOverARestart()
    {
        Start((2, 1), (3, 0));
        using var drained = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(drained));
        var config = world.Config(world.Network(0, SocketWorld.Service((2, 0), (3, 1)) with { DrainSeconds = 2 }));
        Assert.NotNull(world.Balancer.Apply(config).NextDue);
        using var other = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(drained));
        world.Balancer.Dispose();
        world.Balancer = new EbpfBalancer(world.Node);
        Assert.NotNull(world.Balancer.Apply(config).NextDue);
        Assert.True(SpinWait.SpinUntil(() => world.Balancer.Apply(config).Changes.Any(change => change.What == "1 sockets of drained real servers destroyed"), 10_000));
        Assert.Throws<SocketException>(() => drained.Receive(new byte[1]));
        Assert.StartsWith("0.3 ", SocketWorld.Ask(other));
        Assert.Null(world.Balancer.Apply(config).NextDue);
        Assert.Empty(world.Balancer.Observe(config).Changes);
    }

    [Fact]
    public void ARemovedServicesStreamsEndAtTheDeadlineAndThenNothingIsLeft()
    {
        Start((2, 1));
        using var socket = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1)) with { DrainSeconds = 1 }));
        var without = world.Config(world.Network(0));
        world.Balancer.Apply(without);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(socket));
        Assert.Contains(world.Node, BpfFileSystem.List(EbpfBalancer.PinRoot));
        Assert.True(SpinWait.SpinUntil(() => world.Balancer.Apply(without).NextDue is null, 10_000));
        Assert.Throws<SocketException>(() => socket.Receive(new byte[1]));
        Assert.DoesNotContain(world.Node, BpfFileSystem.List(EbpfBalancer.PinRoot));
    }

    [Fact]
    public void ARemovedRealServersDatagramsMoveOnAtOnce()
    {
        Start((2, 1), (3, 0));
        using var unconnected = world.Client(0, 1, SocketType.Dgram);
        Assert.StartsWith("0.2 ", SocketWorld.AskFrom(unconnected, SocketWorld.Vip4).Answer);
        using var connected = world.Connect(0, 1, SocketType.Dgram, SocketWorld.Vip4);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(connected));
        using var stream = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        // At weight 0 flows go on.
        world.Apply(world.Network(0, SocketWorld.Service((2, 0), (3, 1))));
        Assert.StartsWith("0.2 ", SocketWorld.AskFrom(unconnected, SocketWorld.Vip4).Answer);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(connected));
        // With nobody left there is nowhere to go: what is connected stays until there is, or until the deadline.
        var empty = world.Config(world.Network(0, SocketWorld.Service()));
        Assert.NotNull(world.Balancer.Apply(empty).NextDue);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(connected));
        var report = world.Balancer.Apply(world.Config(world.Network(0, SocketWorld.Service((3, 1)))));
        if (!report.Changes.Any(change => change.What == "1 sockets moved to other real servers"))
            Assert.True(SpinWait.SpinUntil(() => world.Balancer.Apply(world.Config(world.Network(0, SocketWorld.Service((3, 1))))).Changes.Any(change => change.What == "1 sockets moved to other real servers"), 10_000));
        Assert.StartsWith("0.3 ", SocketWorld.AskFrom(unconnected, SocketWorld.Vip4).Answer);
        Assert.StartsWith("0.3 ", SocketWorld.Ask(connected));
        Assert.StartsWith("0.2 ", SocketWorld.Ask(stream));
        Assert.Equal((1, 1), (Live("e2"), Live("e3")));
    }

    [Fact]
    public void ARealServerThatComesBackKeepsItsConnections()
    {
        Start((2, 1));
        using var socket = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        world.Apply(world.Network(0, SocketWorld.Service()));
        Assert.Equal(1, Live("e2"));
        world.Balancer.Dispose();
        world.Balancer = new EbpfBalancer(world.Node);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))));
        Assert.Null(world.Balancer.Apply(world.Config(world.Network(0, SocketWorld.Service((2, 1))))).NextDue);
        Assert.StartsWith("0.2 ", SocketWorld.Ask(socket));
        Assert.Equal(1, Live("e2"));
    }

    [Fact]
    public void ASocketThatGoesElsewhereForgetsTheVip()
    {
        Start((2, 1));
        using var socket = world.Connect(0, 1, SocketType.Dgram, SocketWorld.Vip4);
        Assert.Equal(1, Live());
        socket.Connect(new IPEndPoint(SocketWorld.Address4(2), SocketWorld.Port));
        Assert.Equal(0, Live());
        SocketWorld.Ask(socket);
        EndPoint from = new IPEndPoint(IPAddress.Any, 0);
        socket.Send("hello"u8);
        socket.ReceiveFrom(new byte[64], ref from);
        Assert.Equal(new IPEndPoint(SocketWorld.Address4(2), SocketWorld.Port), from);
    }

    [Fact]
    public void AnEndedContainerIsReportedAsGoneAndForgotten()
    {
        Start((2, 1));
        world.Container(0, 5).Dispose();
        var network = world.Network(0, SocketWorld.Service((2, 1)));
        world.Apply(network);
        world.End(0, 5);
        var report = world.Balancer.Apply(world.Config(network));
        Assert.True(Assert.Single(report.Errors).NamespaceGone);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))));
        Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
    }

    [Fact]
    public void ANamespaceOfTheSameNameIsAnother()
    {
        Start((2, 1));
        using (var socket = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4))
            SocketWorld.Ask(socket);
        world.End(0, 1);
        world.Container(0, 1).Dispose();
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))));
        Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
    }

    [Fact]
    public void DaemonsShareAKernelWithoutTouchingEachOther()
    {
        using var neighbour = new SocketWorld();
        foreach (var one in (SocketWorld[])[world, neighbour])
        {
            one.Container(0, 1).Dispose();
            one.Serve(0, 2);
            one.Apply(one.Network(0, SocketWorld.Service((2, 1))));
        }
        Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
        Assert.Equal(0, neighbour.Balancer.ReadStatistics(VipConfig.Empty).Sum(row => row.Connections));
        world.Apply(world.Network(0, SocketWorld.Service((2, 1)) with { DrainSeconds = 0 }));
        world.Apply();
        Assert.StartsWith("0.2 ", SocketWorld.Ask(neighbour.Connect(0, 1, SocketType.Stream, SocketWorld.Vip6)));
        Assert.Contains(neighbour.Node, BpfFileSystem.List(EbpfBalancer.PinRoot));
    }

    [Fact]
    public void PinsWhoseContainersAreAllGoneAreSwept()
    {
        string dead, sleeping;
        using (var one = new SocketWorld())
        using (var two = new SocketWorld())
        {
            foreach (var other in (SocketWorld[])[one, two])
            {
                other.Container(0, 1).Dispose();
                other.Apply(other.Network(0, SocketWorld.Service((2, 1))));
                other.Balancer.Dispose();
            }
            (dead, sleeping) = (one.Node, two.Node);
            one.End(0, 1);
            Assert.Empty(OrphanedPins.Sweep([dead, sleeping], DateTimeOffset.UtcNow - TimeSpan.FromMinutes(10)));
            Assert.Equal([dead], OrphanedPins.Sweep([dead, sleeping, "none"], DateTimeOffset.UtcNow + TimeSpan.FromMinutes(1)));
            Assert.DoesNotContain(dead, BpfFileSystem.List(EbpfBalancer.PinRoot));
            Assert.Contains(sleeping, BpfFileSystem.List(EbpfBalancer.PinRoot));
        }
    }

    [Fact]
    public void DamageByOthersIsMended()
    {
        Start((2, 1));
        var network = world.Network(0, SocketWorld.Service((2, 1)));
        using (var link = BpfFileSystem.OpenLink($"{world.PinDirectory}/link_connect4"))
            link!.Detach();
        BpfFileSystem.Unpin($"{world.PinDirectory}/sockets");
        using (var frontends = BpfFileSystem.OpenMap($"{world.PinDirectory}/frontends"))
            frontends!.RemoveAll<FrontendKey>(frontends.Keys<FrontendKey>().ToArray());
        Assert.Equal(3, world.Balancer.Observe(world.Config(network)).Changes.Count(change => change.Mended));
        Assert.True(SpinWait.SpinUntil(() => world.Balancer.Apply(world.Config(network)).Changes.Count(change => change.Mended) == 3, 10_000));
        Assert.StartsWith("0.2 ", SocketWorld.Ask(world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4)));
        Assert.Contains("sockets", BpfFileSystem.List(world.PinDirectory));
        Assert.Empty(world.Balancer.Observe(world.Config(network)).Changes);
    }

    [Fact]
    public void TablesGrowUnderLiveConnections()
    {
        Start((2, 1));
        using var socket = world.Connect(0, 1, SocketType.Stream, SocketWorld.Vip4);
        using var datagrams = world.Client(0, 1, SocketType.Dgram);
        var first = SocketWorld.AskFrom(datagrams, SocketWorld.Vip4);
        var many = Enumerable.Range(0, 3000).Select(i => SocketWorld.Service((2, 1), (3, 1 + i % 3)) with
        {
            Id = $"m{i}",
            Name = $"m{i}",
            Addresses = [new IPAddress([10, 98, (byte)(i >> 8), (byte)i])],
        });
        world.Apply(world.Network(0, [SocketWorld.Service((2, 1)), .. many]));
        Assert.StartsWith("0.2 ", SocketWorld.Ask(socket));
        Assert.Equal(first, SocketWorld.AskFrom(datagrams, SocketWorld.Vip4));
        Assert.Equal(1, Live("e2", "s1"));
        world.Connect(0, 1, SocketType.Dgram, new IPAddress([10, 98, 11, 1]));
        Assert.Equal(1, world.Balancer.ReadStatistics(VipConfig.Empty).Where(row => row.ServiceId == $"m{(11 << 8) + 1}").Sum(row => row.Connections));
        socket.Dispose();
        Assert.Equal(0, Live("e2", "s1"));
        world.Balancer.Dispose();
        world.Balancer = new EbpfBalancer(world.Node);
        Assert.DoesNotContain(world.Balancer.Apply(world.Config(world.Network(0, [SocketWorld.Service((2, 1)), .. many]))).Changes, Ours);
    }

    [Fact]
    public void AfterAnyChangesTheTablesSayWhatTheConfigurationSays()
    {
        world.Container(0, 1).Dispose();
        var random = new Random(20250101);
        var config = new Dictionary<string, VipService>();
        for (var step = 0; step < 200; step++)
        {
            for (var change = random.Next(1, 4); change > 0; change--)
            {
                var id = $"s{random.Next(12)}";
                if (random.Next(5) == 0)
                    config.Remove(id);
                else
                    config[id] = RandomService(random, id);
            }
            if (random.Next(10) == 0)
            {
                world.Balancer.Dispose();
                world.Balancer = new EbpfBalancer(world.Node);
            }
            var network = world.Network(0, [.. config.Values]);
            world.Apply(network);
            Assert.Empty(world.Balancer.Observe(world.Config(network)).Changes);
            using var maps = SocketMaps.Adopt(world.PinDirectory);
            if (config.Count == 0)
            {
                Assert.Null(maps);
                continue;
            }
            TableReader.Check(maps!, network);
        }
    }

    public void Dispose() => world.Dispose();

    /// <summary>What other daemons left behind may be swept at any time.</summary>
    private static bool Ours(OverlayNet.Vip.Balancers.VipChange change) => !change.What.StartsWith("programs and tables of node ");

    private static VipService RandomService(Random random, string id) => new()
    {
        Id = id,
        Name = id,
        Addresses = random.Next(3) == 0 ? [SocketWorld.Address4(100 + int.Parse(id[1..]))]
            : [SocketWorld.Address4(100 + int.Parse(id[1..])), SocketWorld.Address6(100 + int.Parse(id[1..]))],
        Ports = [.. Enumerable.Range(1, random.Next(4)).Select(i => new VipPort(i % 2 == 0 ? VipPort.Udp : VipPort.Tcp, (ushort)(80 + i), (ushort)(8000 + random.Next(3))))],
        AffinitySeconds = random.Next(2) * 10,
        Scheduler = random.Next(4) == 0 ? "sh" : "wrr",
        DrainSeconds = random.Next(2) * 30,
        RealServers = [.. Enumerable.Range(1, 9).Where(_ => random.Next(2) == 0).Select(i => SocketWorld.Real(i, random.Next(4) * random.Next(20000)))],
    };

    private uint OwnProgram()
    {
        using var link = BpfFileSystem.OpenLink($"{world.PinDirectory}/link_connect4");
        return link!.Describe().ProgramId;
    }

    private static IReadOnlyList<uint> Programs() => BpfCgroup.Query(BpfCgroup.FindMount()!, BpfAttachType.CgroupInet4Connect);

    private void Start(params (int Number, int Weight)[] real)
    {
        world.Container(0, 1).Dispose();
        foreach (var (number, _) in real)
            world.Serve(0, number);
        world.Apply(world.Network(0, SocketWorld.Service(real)));
    }

    private long Live(string? endpoint = null, string? service = null) => world.Balancer.ReadStatistics(VipConfig.Empty)
        .Where(row => (endpoint is null || row.EndpointId == endpoint) && (service is null || row.ServiceId == service)).Sum(row => row.LiveFlows);
}
