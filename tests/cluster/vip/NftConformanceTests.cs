using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.ClusterTests.Vip;

public sealed class NftConformanceTests() : BalancerConformance(new NftBalancer())
{
    [Fact]
    public void The_nft_program_reads_our_tables()
    {
        var (client, servers) = Start(3, v6: false);
        Apply(
            net(1, servers) with { AffinitySeconds = 60 },
            net(2, servers) with { Scheduler = "sh" },
            net(3, servers) with { Ports = [] },
            net(4, []));
        var listing = client.Namespace.Run("nft", "list", "ruleset");
        Assert.Contains("dnat to", listing, StringComparison.Ordinal);
        Assert.Contains("reject with tcp reset", listing, StringComparison.Ordinal);
        client.Namespace.Run("nft", "-j", "list", "ruleset");

        VipService net(int n, VipContainer[] servers) => Net.Service(servers, TcpPort()) with { Id = $"s{n}", Name = $"web{n}", Addresses = [Net.V4(200 + n), Net.V6(200 + n)] };
    }

    [Theory]
    [InlineData("delete table ip overlaynet-vip-4711")]
    [InlineData("flush ruleset")]
    [InlineData("flush chain ip overlaynet-vip-4711 output")]
    [InlineData("flush map ip overlaynet-vip-4711 servers")]
    [InlineData("delete element ip6 overlaynet-vip-4711 services { fd77::c8 }")]
    [InlineData("add element ip overlaynet-vip-4711 ports { 10.77.0.200 . tcp . 99 : 99 }")]
    [InlineData("add rule ip overlaynet-vip-4711 output drop")]
    [InlineData("add chain ip overlaynet-vip-4711 mine")]
    public void Damage_by_hand_is_mended_and_said(string damage)
    {
        var (client, servers) = Start(2, v6: false);
        var service = Net.Service(servers, TcpPort());
        Apply(service);
        var before = client.Namespace.Run("nft", "-s", "list", "ruleset");
        client.Namespace.Run("nft", damage.Split(' '));
        var report = Apply(service);
        Assert.All(report.Changes, change => Assert.True(change.Mended && change.Where == client.Namespace.Path, change.ToString()));
        Assert.NotEmpty(report.Changes);
        Assert.Equal(Sorted(before), Sorted(client.Namespace.Run("nft", "-s", "list", "ruleset")));
        Assert.Empty(Apply(service).Changes);
    }

    [Fact]
    public void A_new_process_adopts_what_is_there_and_writes_nothing()
    {
        var (client, servers) = Start(3, v6: false);
        var service = Net.Service(servers, TcpPort()) with { AffinitySeconds = 60 };
        Apply(service);
        using var live = VipTraffic.Connect(client.Namespace, Net.Vip4, 80);
        using var open = client.Namespace.Open();
        using var nft = NfTables.Open(open);
        var generation = nft.Generation();
        using var successor = new NftBalancer();
        var report = successor.Apply(Net.Config(service));
        Assert.Empty(report.Errors);
        Assert.Empty(report.Changes);
        Assert.Equal(generation, nft.Generation());
        Assert.True(live.IsAlive());
        report = successor.Apply(Net.Config(service with { RealServers = [.. servers.Skip(1).Select(server => server.AsServer(8))] }));
        Assert.Empty(report.Errors);
        Assert.NotEmpty(report.Changes);
        Assert.True(live.IsAlive());
    }

    [Fact]
    public void Connections_to_a_removed_server_end_at_the_deadline()
    {
        var clock = new ManualTime();
        using var balancer = new NftBalancer(clock);
        var (client, servers) = Start(2, v6: false);
        var service = Net.Service(servers, TcpPort()) with { DrainSeconds = 30 };
        balancer.Apply(Net.Config(service));
        TestConnection[] live = [.. Enumerable.Range(0, 8).Select(_ => Own(VipTraffic.Connect(client.Namespace, Net.Vip4, 80)))];
        var less = service with { RealServers = [servers[0].AsServer(8)] };
        var due = balancer.Apply(Net.Config(less)).NextDue;
        Assert.Equal(clock.GetUtcNow() + TimeSpan.FromSeconds(30), due);
        Assert.All(live, connection => Assert.True(connection.IsAlive()));
        clock.Now += TimeSpan.FromSeconds(29);
        balancer.Apply(Net.Config(less));
        Assert.All(live, connection => Assert.True(connection.IsAlive()));
        clock.Now += TimeSpan.FromSeconds(2);
        Assert.Null(balancer.Apply(Net.Config(less)).NextDue);
        Assert.All(live, connection => Assert.Equal(connection.Server == servers[0].Name, connection.IsAlive()));
    }

    [Fact]
    public void Two_hundred_random_changes_leave_what_a_fresh_load_would()
    {
        var random = new Random(7);
        var (client, servers) = Start(4, v6: false, tcp: false);
        for (var round = 0; round < 200; round++)
            Apply([.. Enumerable.Range(1, 6).Where(_ => random.Next(4) > 0).Select(Service)]);
        VipService[] last = [.. Enumerable.Range(1, 6).Select(Service)];
        Apply(last);
        var incremental = Sorted(client.Namespace.Run("nft", "-s", "list", "ruleset"));
        client.Namespace.Run("nft", "flush", "ruleset");
        Apply(last);
        Assert.Equal(incremental, Sorted(client.Namespace.Run("nft", "-s", "list", "ruleset")));

        VipService Service(int n) => new()
        {
            Id = $"s{n}",
            Name = $"web{n}",
            Addresses = random.Next(3) switch { 0 => [Net.V4(200 + n)], 1 => [Net.V6(200 + n)], _ => [Net.V4(200 + n), Net.V6(200 + n)] },
            Ports = random.Next(3) == 0 ? [] : [TcpPort(), new VipPort(VipPort.Udp, (ushort)random.Next(1, 9), 53)],
            Scheduler = new[] { "rr", "wrr", "sh" }[random.Next(3)],
            AffinitySeconds = random.Next(3) == 0 ? random.Next(1, 4) : 0,
            RealServers = [.. servers.Where(_ => random.Next(3) > 0).Select(server => server.AsServer(random.Next(4)))],
        };
    }

    private static string[] Sorted(string listing) =>
        [.. listing.Split('\n', ',').Select(line => line.Trim(' ', '\t', '{', '}').Replace("elements = { ", "", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    private sealed class ManualTime : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;
    }
}
