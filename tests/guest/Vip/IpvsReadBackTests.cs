using System.Net;
using System.Net.Sockets;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ipvs;

namespace OverlayNet.GuestTests.Vip;

/// <summary>What <c>ipvsadm</c> reads back is what the configuration says, whatever came before.</summary>
public sealed class IpvsReadBackTests : IDisposable
{
    private readonly TestNamespace netns = new();
    private readonly ManualClock clock = new();

    public IpvsReadBackTests() => netns.Ip("link add br0 type bridge", "link set br0 up");

    public void Dispose() => netns.Dispose();

    [Fact]
    public void After_200_random_changes_and_a_new_process_now_and_then()
    {
        var random = new Random(2026);
        var services = new Dictionary<int, VipService>();
        var balancer = new IpvsBalancer(clock);
        for (var change = 0; change < 200; change++)
        {
            Change(random, services);
            if (change % 40 == 39)
                balancer = new IpvsBalancer(clock); // kill -9: nothing but the kernel's state is left
            var config = Config(services);
            Assert.Empty(balancer.Apply(config).Errors);
            if (change % 10 != 9)
                continue;
            Assert.Equal(IpvsadmWords.Expected(config.Networks[0].Services), Saved());
            Assert.Equal(Addresses(config), BridgeAddresses());
            Assert.Empty(balancer.Observe(config).Changes);
        }
        var end = Config(services);
        Assert.Empty(new IpvsBalancer(clock).Apply(end).Changes);
        // --stats shows the same services and servers, all with counters.
        var listed = netns.Exec("ipvsadm", "-Ln", "--stats").Split('\n');
        Assert.Equal(IpvsadmWords.Expected(end.Networks[0].Services).Count(line => line.StartsWith("-a ", StringComparison.Ordinal)), listed.Count(line => line.StartsWith("  -> ", StringComparison.Ordinal)) - 1);

        balancer.Apply(Config([]));
        Assert.Empty(Saved());
        Assert.Empty(BridgeAddresses());
        Assert.DoesNotContain("overlaynet", netns.Exec("nft", "list", "tables"));
    }

    [Fact]
    public void Hand_made_damage_is_mended_by_the_next_apply()
    {
        var services = new Dictionary<int, VipService>();
        var random = new Random(7);
        for (var i = 0; i < 30; i++)
            Change(random, services);
        var config = Config(services);
        var balancer = new IpvsBalancer(clock);
        balancer.Apply(config);
        var before = Saved();
        var first = before.First(line => line.StartsWith("-A -t", StringComparison.Ordinal)).Split(' ');
        foreach (var damage in (Action[])[
            () => netns.Exec("ipvsadm", "-C"),
            () => netns.Exec("ipvsadm", "-D", first[1], first[2]),
            () => netns.Exec("ipvsadm", "-A", "-t", "10.99.0.1:9", "-s", "rr"),
            () => netns.Exec("ipvsadm", "-a", first[1], first[2], "-r", "10.99.0.2", "-g"),
            () => netns.Ip("addr flush dev br0"),
            () => netns.Exec("nft", "flush", "ruleset"),
            () => netns.Sysctl("net.ipv4.vs.expire_nodest_conn=0", "net.ipv4.vs.conntrack=1")])
        {
            damage();
            var report = balancer.Apply(config);
            Assert.NotEmpty(report.Changes);
            Assert.Empty(report.Errors);
            Assert.Equal(before, Saved());
            Assert.Equal(Addresses(config), BridgeAddresses());
            Assert.Empty(balancer.Observe(config).Changes);
        }
        Assert.Contains("overlaynet-ipvs", netns.Exec("nft", "list", "tables"));
        Assert.Equal("1", netns.Exec("sysctl", "-n", "net.ipv4.vs.expire_nodest_conn").Trim());
    }

    [Fact]
    public void A_scheduler_the_kernel_lacks_is_one_error_and_the_rest_works()
    {
        var good = new VipService { Id = "good", Name = "good", Addresses = [IPAddress.Parse("10.96.0.1")], Ports = [new VipPort(VipPort.Tcp, 80, 80)] };
        var report = new IpvsBalancer(clock).Apply(Config([]) with
        {
            Networks = [Config([]).Networks[0] with { Services = [good, good with { Id = "bad", Name = "bad", Addresses = [IPAddress.Parse("10.96.0.2")], Scheduler = "nosuch" }] }],
        });
        Assert.Equal("bad", Assert.Single(report.Errors).Service);
        Assert.Equal(["-A -t 10.96.0.1:80 -s wrr"], Saved());
    }

    [Fact]
    public void A_network_without_namespace_is_an_error_of_its_own()
    {
        var config = Config([]);
        var report = new IpvsBalancer(clock).Apply(config with { Networks = [config.Networks[0] with { Id = "gone", Name = "gone", Netns = "onguest-nosuch" }, .. config.Networks] });
        Assert.True(Assert.Single(report.Errors).NamespaceGone);
    }

    private static void Change(Random random, Dictionary<int, VipService> services)
    {
        var id = random.Next(25);
        if (!services.TryGetValue(id, out var service))
        {
            services[id] = new VipService
            {
                Id = $"svc{id}",
                Name = $"svc{id}",
                Addresses = random.Next(3) == 0 ? [V4(id)] : [V4(id), IPAddress.Parse($"fd00:96::{id + 1:x}")],
                Ports = random.Next(5) == 0 ? [] : [.. Enumerable.Range(0, random.Next(1, 4)).Select(port => new VipPort(random.Next(3) == 0 ? VipPort.Udp : VipPort.Tcp, (ushort)(80 + port), 8080))],
                Scheduler = new[] { "rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq" }[random.Next(8)],
                AffinitySeconds = random.Next(4) == 0 ? random.Next(1, 600) : 0,
                RealServers = [.. Enumerable.Range(0, random.Next(6)).Select(server => Server(server, random))],
            };
            return;
        }
        switch (random.Next(6))
        {
            case 0:
                services.Remove(id);
                break;
            case 1:
                services[id] = service with { Scheduler = service.Scheduler == "wrr" ? "wlc" : "wrr" };
                break;
            case 2:
                services[id] = service with { AffinitySeconds = random.Next(0, 300) };
                break;
            default:
                var server = random.Next(6);
                var others = service.RealServers.Where(one => one.EndpointId != $"e{server}").ToList();
                services[id] = service with { RealServers = random.Next(3) == 0 ? others : [.. others, Server(server, random)] };
                break;
        }

        static IPAddress V4(int id) => new([10, 96, 0, (byte)(id + 1)]);
    }

    private static RealServer Server(int number, Random random) => new()
    {
        EndpointId = $"e{number}",
        Address4 = new IPAddress([10, 42, 0, (byte)(number + 10)]),
        Address6 = IPAddress.Parse($"fd00:42::{number + 10:x}"),
        Weight = random.Next(4) == 0 ? 0 : random.Next(1, 65536),
    };

    private VipConfig Config(Dictionary<int, VipService> services) => new()
    {
        Networks = [new VipNetwork { Id = "n", Name = "n", Vni = 1, Netns = netns.Name, Services = [.. services.OrderBy(one => one.Key).Select(one => one.Value)] }],
    };

    private List<string> Saved() => IpvsadmWords.Saved(netns.Exec("ipvsadm", "-Sn"));

    private static List<string> Addresses(VipConfig config) =>
        [.. config.Networks[0].Services.SelectMany(service => service.Addresses).Select(address => address.ToString()).Order(StringComparer.Ordinal)];

    private List<string> BridgeAddresses() => [.. netns.Exec("ip", "-o", "addr", "show", "dev", "br0").Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3]).Where(address => address.EndsWith("/32", StringComparison.Ordinal) || address.EndsWith("/128", StringComparison.Ordinal))
        .Select(address => address[..address.IndexOf('/')]).Order(StringComparer.Ordinal)];

    private sealed class ManualClock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);
    }
}
