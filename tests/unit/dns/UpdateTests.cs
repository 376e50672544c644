using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

/// <summary>Updates by difference must end where a fresh start from the same state ends.</summary>
public sealed class UpdateTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void AnyHistoryEndsInTheSameTable(int seed)
    {
        var random = new Random(seed);
        using var server = new DnsServer(new DnsServerOptions(), NullLogger.Instance);
        var config = RandomConfig(random);
        for (var step = 0; step < 150; step++)
        {
            config = Mutate(config, random) with { Revision = step };
            server.Apply(config);
            if (step % 3 == 0)
                Assert.Equal(FreshDump(config), Dump(server));
        }
    }

    [Fact]
    public void AFreshCopyOfTheSameStateChangesNothing()
    {
        using var server = new DnsServer(new DnsServerOptions(), NullLogger.Instance);
        server.Apply(SampleConfig.Config);
        var before = Dump(server);
        var copy = SampleConfig.Config with
        {
            Networks =
            [
                .. SampleConfig.Config.Networks.Select(n => n with
                {
                    Services = [.. n.Services.Select(s => s with { Endpoints = [.. s.Endpoints.Select(e => e with { })] })],
                    Endpoints = [.. n.Endpoints.Select(e => e with { Addresses = [.. e.Addresses] })],
                }),
            ],
        };
        server.Apply(copy);
        Assert.Equal(before, Dump(server));
    }

    [Fact]
    public void NamesThatMoveBetweenObjectsFollowThem()
    {
        using var server = new DnsTestServer(SampleConfig.Config);
        var blue = new DnsService { Name = "blue", Aliases = ["app"], VipV4 = IPAddress.Parse("10.1.9.1") };
        var green = new DnsService { Name = "green", VipV4 = IPAddress.Parse("10.1.9.2") };
        var network = SampleConfig.Front with { Services = [blue, green] };
        server.Server.Apply(SampleConfig.Config with { Networks = [network] });
        Assert.Equal(["10.1.9.1"], server.Ask("app", RrType.A).Data);

        network = network with { Services = [blue with { Aliases = [] }, green with { Aliases = ["app"] }] };
        server.Server.Apply(SampleConfig.Config with { Networks = [network] });
        Assert.Equal(["10.1.9.2"], server.Ask("app", RrType.A).Data);
        Assert.Equal((int)Rcode.NxDomain, server.Ask("web", RrType.A).Rcode);
    }

    [Fact]
    public async Task ANameThatMovesIsNeverAbsent()
    {
        using var server = new DnsTestServer(SampleConfig.Config);
        DnsConfig With(bool onBlue) => SampleConfig.Config with
        {
            Networks =
            [
                SampleConfig.Front with
                {
                    Services =
                    [
                        new DnsService { Name = "blue", Aliases = onBlue ? ["app"] : [], VipV4 = IPAddress.Parse("10.1.9.1") },
                        new DnsService { Name = "green", Aliases = onBlue ? [] : ["app"], VipV4 = IPAddress.Parse("10.1.9.2") },
                    ],
                },
            ],
        };
        server.Server.Apply(With(true));
        using var stop = new CancellationTokenSource();
        var writer = Task.Run(() =>
        {
            for (var i = 0; !stop.IsCancellationRequested; i++)
                server.Server.Apply(With(i % 2 == 1));
        });
        for (var i = 0; i < 2000; i++)
            Assert.Contains(server.Ask("app", RrType.A).Data.Single(), (string[])["10.1.9.1", "10.1.9.2"]);
        await stop.CancelAsync();
        await writer;
    }

    [Fact]
    public void NetworksComeGoAndAreRenamed()
    {
        using var server = new DnsTestServer(SampleConfig.Config, networkId: null);
        server.Server.Apply(SampleConfig.Config with { Networks = [SampleConfig.Front with { Name = "edge" }] });
        Assert.Equal(["10.1.0.2"], server.Ask("web.edge", RrType.A).Data);
        Assert.Equal((int)Rcode.NxDomain, server.Ask("store.back.overlay.internal", RrType.A).Rcode);
        Assert.Equal(["web.edge.dc1.overlay.internal."], server.Ask("2.0.1.10.in-addr.arpa", RrType.PTR).Data);
        server.Server.Apply(SampleConfig.Config with { ClusterDomain = "Example.Test", DataCenter = "east" });
        Assert.Equal(["10.2.0.3"], server.Ask("store.back.east.example.test", RrType.A).Data);
    }

    private static List<string> FreshDump(DnsConfig config)
    {
        using var server = new DnsServer(new DnsServerOptions(), NullLogger.Instance);
        server.Apply(config);
        return Dump(server);
    }

    private static List<string> Dump(DnsServer server) =>
        [.. server.DumpTable().Select(r => $"{r.Network} {r.Name} {r.Type} {r.Ttl} {r.Data}").Order(StringComparer.Ordinal)];

    // Few distinct names, so that services, endpoints and aliases collide often.
    private static string Name(Random random) => ((char)('a' + random.Next(6))).ToString();

    private static DnsEndpoint RandomEndpoint(Random random) => new()
    {
        Id = "id" + random.Next(40),
        Name = Name(random) + random.Next(3),
        Addresses = random.Next(4) == 0 ? [] : [new IPAddress([10, 0, 0, (byte)random.Next(1, 20)])],
        Aliases = [.. Enumerable.Range(0, random.Next(3)).Select(_ => Name(random))],
        State = (DnsEndpointState)random.Next(4),
        Weight = random.Next(9),
    };

    private static DnsService RandomService(Random random, string name) => new()
    {
        Name = name,
        Aliases = [.. Enumerable.Range(0, random.Next(3)).Select(_ => Name(random))],
        Mode = (DnsServiceMode)random.Next(2),
        VipV4 = random.Next(3) == 0 ? null : new IPAddress([10, 0, 1, (byte)random.Next(1, 20)]),
        VipV6 = random.Next(2) == 0 ? null : IPAddress.Parse("fd00::" + random.Next(1, 20)),
        Ports = random.Next(2) == 0 ? [] : [new DnsPort("p" + random.Next(2), "tcp", 80)],
        Endpoints = [.. Enumerable.Range(0, random.Next(5)).Select(_ => RandomEndpoint(random)).DistinctBy(e => e.Id)],
        PublishNotReady = random.Next(2) == 0,
    };

    private static DnsNetwork RandomNetwork(Random random, string id) => new()
    {
        Id = id,
        Name = "net" + id,
        Services = [.. Enumerable.Range(0, 6).Where(_ => random.Next(2) == 0).Select(i => RandomService(random, ((char)('a' + i)).ToString()))],
        Endpoints = [.. Enumerable.Range(0, random.Next(6)).Select(_ => RandomEndpoint(random)).DistinctBy(e => e.Id)],
    };

    private static DnsConfig RandomConfig(Random random) =>
        new() { Synced = true, Networks = [RandomNetwork(random, "1"), RandomNetwork(random, "2")] };

    private static DnsConfig Mutate(DnsConfig config, Random random)
    {
        var networks = config.Networks.ToList();
        var index = random.Next(networks.Count);
        var network = networks[index];
        var services = network.Services.ToList();
        var endpoints = network.Endpoints.ToList();
        switch (random.Next(7))
        {
            case 0 when services.Count > 0:
                services.RemoveAt(random.Next(services.Count));
                break;
            case 1 or 2 when services.Count > 0:
                var s = random.Next(services.Count);
                services[s] = RandomService(random, services[s].Name);
                break;
            case 3 when services.Any(x => x.Endpoints.Count > 0):
                var service = services.First(x => x.Endpoints.Count > 0);
                var changed = service.Endpoints.ToList();
                changed[random.Next(changed.Count)] = changed[0] with { State = (DnsEndpointState)random.Next(4), Id = changed[0].Id };
                services[services.IndexOf(service)] = service with { Endpoints = [.. changed.DistinctBy(e => e.Id)] };
                break;
            case 4:
                endpoints = [.. endpoints.Append(RandomEndpoint(random)).Reverse().DistinctBy(e => e.Id)];
                break;
            case 5 when endpoints.Count > 0:
                endpoints.RemoveAt(random.Next(endpoints.Count));
                break;
            default:
                var name = Name(random);
                if (services.All(x => x.Name != name))
                    services.Insert(random.Next(services.Count + 1), RandomService(random, name));
                break;
        }

        networks[index] = network with { Services = services, Endpoints = endpoints };
        return config with { Networks = networks };
    }
}
