using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.GuestTests;

/// <summary>Family IPVS against the kernel itself; ipvsadm is the judge.</summary>
public sealed class IpvsFamilyTests : IDisposable
{
    private static readonly IPAddress Vip4 = IPAddress.Parse("10.96.0.10"), Vip6 = IPAddress.Parse("fd00:96::10");
    private readonly TestNamespace netns = new();
    private readonly IpvsTable ipvs;

    public IpvsFamilyTests()
    {
        using var opened = netns.Open();
        ipvs = IpvsTable.TryOpen(opened) ?? throw new InvalidOperationException("this guest kernel has no IPVS");
    }

    public void Dispose()
    {
        ipvs.Dispose();
        netns.Dispose();
    }

    [Fact]
    public void Info_names_the_version()
    {
        ipvs.Apply(IpvsChange.Add(new IpvsService { Key = IpvsServiceKey.Of(6, Vip4, 80), Scheduler = "rr" }));
        var info = ipvs.Info();
        Assert.Equal(new Version(1, 2, 1), info.Version);
        // Newer kernels make the table with the first service.
        Assert.True(info.ConnectionTableSize > 0);
    }

    [Theory]
    [InlineData("rr")]
    [InlineData("wrr")]
    [InlineData("lc")]
    [InlineData("wlc")]
    [InlineData("sh")]
    [InlineData("mh")]
    [InlineData("sed")]
    [InlineData("nq")]
    public void Every_scheduler_is_taken_and_read_back(string scheduler)
    {
        foreach (var vip in (IPAddress[])[Vip4, Vip6])
        {
            var service = new IpvsService { Key = IpvsServiceKey.Of(6, vip, 80), Scheduler = scheduler };
            ipvs.Apply(IpvsChange.Add(service));
            Assert.Equal(service, ipvs.Service(service.Key)!.Service);
        }
        Assert.Equal(Lines($"-A -t {Vip4}:80 -s {scheduler}", $"-A -t [{Vip6}]:80 -s {scheduler}"), Saved());
    }

    [Fact]
    public void Ipvsadm_reads_what_we_wrote()
    {
        var web = IpvsServiceKey.Of(6, Vip4, 80);
        var dns = IpvsServiceKey.Of(17, Vip4, 53);
        var web6 = IpvsServiceKey.Of(6, Vip6, 443);
        var mark = IpvsServiceKey.OfMark(AddressFamily.InterNetwork, 77);
        var mark6 = IpvsServiceKey.OfMark(AddressFamily.InterNetworkV6, 78);
        var results = ipvs.Batch(
        [
            IpvsChange.Add(new IpvsService { Key = web, Scheduler = "wrr", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 300 }),
            IpvsChange.Add(web, Server("10.1.0.1", 80, 3)),
            IpvsChange.Add(web, Server("10.1.0.2", 80, 0)),
            IpvsChange.Add(new IpvsService { Key = dns, Scheduler = "rr", Flags = IpvsServiceFlags.OnePacket }),
            IpvsChange.Add(dns, Server("10.1.0.1", 53, 1) with { Forwarding = IpvsForwarding.Masquerade, UpperThreshold = 100, LowerThreshold = 50 }),
            IpvsChange.Add(new IpvsService { Key = web6, Scheduler = "mh", Flags = IpvsServiceFlags.SchedulerFallback | IpvsServiceFlags.SchedulerPort }),
            IpvsChange.Add(web6, Server("fd00:1::1", 443, 65535)),
            IpvsChange.Add(new IpvsService
            {
                Key = mark, Scheduler = "wlc", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 60, PersistencePrefix = 24,
            }),
            IpvsChange.Add(mark, Server("10.1.0.3", 0, 2) with { Forwarding = IpvsForwarding.Tunnel }),
            IpvsChange.Add(new IpvsService
            {
                Key = mark6, Scheduler = "sh", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 90, PersistencePrefix = 64,
            }),
            IpvsChange.Add(mark6, Server("fd00:1::2", 0, 1)),
        ]);
        Assert.All(results, result => Assert.True(result.Ok, $"{result.Errno} {result.Detail}"));
        Assert.Equal(Lines(
            $"-A -t {Vip4}:80 -s wrr -p 300",
            $"-a -t {Vip4}:80 -r 10.1.0.1:80 -g -w 3",
            $"-a -t {Vip4}:80 -r 10.1.0.2:80 -g -w 0",
            $"-A -u {Vip4}:53 -s rr -o",
            $"-a -u {Vip4}:53 -r 10.1.0.1:53 -m -w 1",
            $"-A -t [{Vip6}]:443 -s mh -b mh-fallback,mh-port",
            $"-a -t [{Vip6}]:443 -r [fd00:1::1]:443 -g -w 65535",
            "-A -f 77 -s wlc -p 60 -M 255.255.255.0",
            "-a -f 77 -r 10.1.0.3:0 -i -w 2 --tun-type ipip",
            "-A -f 78 -6 -s sh -p 90 -M 64",
            "-a -f 78 -6 -r [fd00:1::2]:0 -g -w 1"), Saved());
        Assert.Matches(@"10\.1\.0\.1:53 +100 +50 +0 +0", netns.Exec("ipvsadm", "-Ln", "--thresholds"));
    }

    [Fact]
    public void We_read_what_ipvsadm_wrote()
    {
        netns.ExecWithInput($"""
            -A -t {Vip4}:80 -s sed -p 120 -M 255.255.0.0
            -a -t {Vip4}:80 -r 10.1.0.1:8080 -m -w 5 -x 9 -y 4
            -A -u [{Vip6}]:53 -s nq
            -a -u [{Vip6}]:53 -r [fd00:1::9]:53 -i -w 7 --tun-type gue --tun-port 6080
            -A -f 5 -s wrr
            -a -f 5 -r 10.1.0.4 -g -w 4

            """, "ipvsadm", "-R");
        var services = ipvs.Services().Select(state => state.Service).ToDictionary(service => service.Key);
        Assert.Equal(3, services.Count);
        var web = services[IpvsServiceKey.Of(6, Vip4, 80)];
        Assert.Equal(("sed", 120, 16), (web.Scheduler, web.PersistenceSeconds, web.PersistencePrefix));
        Assert.Equal(
            Server("10.1.0.1", 8080, 5) with { Forwarding = IpvsForwarding.Masquerade, UpperThreshold = 9, LowerThreshold = 4 },
            Assert.Single(ipvs.Destinations(web.Key)).Destination);
        Assert.Equal(
            Server("fd00:1::9", 53, 7) with { Forwarding = IpvsForwarding.Tunnel, TunnelType = IpvsTunnel.Gue, TunnelPort = 6080 },
            Assert.Single(ipvs.Destinations(IpvsServiceKey.Of(17, Vip6, 53))).Destination);
        Assert.Equal(Server("10.1.0.4", 0, 4), Assert.Single(ipvs.Destinations(IpvsServiceKey.OfMark(AddressFamily.InterNetwork, 5))).Destination);
    }

    [Fact]
    public void Changes_and_deletions_leave_the_rest_alone()
    {
        var key = IpvsServiceKey.Of(6, Vip4, 80);
        ipvs.Apply(IpvsChange.Add(new IpvsService { Key = key, Scheduler = "rr", Flags = IpvsServiceFlags.Persistent, PersistenceSeconds = 10 }));
        ipvs.Apply(IpvsChange.Add(key, Server("10.1.0.1", 80, 1)));
        ipvs.Apply(IpvsChange.Add(key, Server("10.1.0.2", 80, 1)));
        ipvs.Apply(IpvsChange.Set(new IpvsService { Key = key, Scheduler = "wrr" }));
        ipvs.Apply(IpvsChange.Set(key, Server("10.1.0.1", 80, 9)));
        ipvs.Apply(IpvsChange.Delete(key, Server("10.1.0.2", 80, 1)));
        Assert.Equal(Lines($"-A -t {Vip4}:80 -s wrr", $"-a -t {Vip4}:80 -r 10.1.0.1:80 -g -w 9"), Saved());
        ipvs.Apply(IpvsChange.Delete(key));
        Assert.Empty(ipvs.Services());
        Assert.Null(ipvs.Service(key));
        Assert.Empty(ipvs.Destinations(key));
    }

    [Fact]
    public void A_batch_reports_each_refusal_and_applies_the_rest()
    {
        var key = IpvsServiceKey.Of(6, Vip4, 80);
        var results = ipvs.Batch(
        [
            IpvsChange.Add(new IpvsService { Key = key, Scheduler = "rr" }),
            IpvsChange.Add(new IpvsService { Key = key, Scheduler = "rr" }),
            IpvsChange.Add(IpvsServiceKey.Of(6, Vip4, 81), Server("10.1.0.1", 81, 1)),
            IpvsChange.Add(key, Server("10.1.0.1", 80, 1)),
        ]);
        Assert.Equal([0, 17, 3, 0], results.Select(result => result.Errno));
        Assert.Equal(Lines($"-A -t {Vip4}:80 -s rr", $"-a -t {Vip4}:80 -r 10.1.0.1:80 -g -w 1"), Saved());
    }

    [Fact]
    public void A_large_batch_arrives_whole()
    {
        var changes = new List<IpvsChange>();
        for (var i = 0; i < 2000; i++)
        {
            var key = IpvsServiceKey.Of(6, new IPAddress([10, 97, (byte)(i >> 8), (byte)i]), 80);
            changes.Add(IpvsChange.Add(new IpvsService { Key = key, Scheduler = "wrr" }));
            changes.Add(IpvsChange.Add(key, Server("10.1.0.1", 80, 1)));
        }
        Assert.All(ipvs.Batch(changes), result => Assert.True(result.Ok));
        Assert.Equal(2000, ipvs.Services().Count);
    }

    [Fact]
    public void An_unknown_scheduler_is_refused_with_the_object_named()
    {
        var refusal = Assert.Throws<NetlinkException>(() =>
            ipvs.Apply(IpvsChange.Add(new IpvsService { Key = IpvsServiceKey.Of(6, Vip4, 80), Scheduler = "nosuch" })));
        Assert.Contains("add virtual service tcp 10.96.0.10:80", refusal.Message);
        Assert.True(refusal.NotFound);
    }

    [Fact]
    public void Timeouts_are_set_one_by_one()
    {
        ipvs.SetTimeouts(new IpvsTimeouts(TimeSpan.FromSeconds(700), TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(30)));
        ipvs.SetTimeouts(new IpvsTimeouts(TimeSpan.Zero, TimeSpan.FromSeconds(15), TimeSpan.Zero));
        Assert.Equal(new IpvsTimeouts(TimeSpan.FromSeconds(700), TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(30)), ipvs.Timeouts());
        Assert.Contains("Timeout (tcp tcpfin udp): 700 15 30", netns.Exec("ipvsadm", "-Ln", "--timeout"));
    }

    [Fact]
    public void Tables_belong_to_their_namespace()
    {
        using var other = new TestNamespace();
        using var opened = other.Open();
        using var elsewhere = IpvsTable.TryOpen(opened)!;
        ipvs.Apply(IpvsChange.Add(new IpvsService { Key = IpvsServiceKey.Of(6, Vip4, 80), Scheduler = "rr" }));
        Assert.Empty(elsewhere.Services());
        Assert.Single(ipvs.Services());
    }

    [Fact]
    public void Counters_count_and_can_be_zeroed()
    {
        netns.Exec("ip", "addr", "add", $"{Vip4}/32", "dev", "lo");
        netns.Exec("ip", "addr", "add", "10.1.0.1/32", "dev", "lo");
        var key = IpvsServiceKey.Of(6, Vip4, 80);
        ipvs.Apply(IpvsChange.Add(new IpvsService { Key = key, Scheduler = "rr" }));
        ipvs.Apply(IpvsChange.Add(key, Server("10.1.0.1", 8080, 1) with { Forwarding = IpvsForwarding.Masquerade }));
        using var opened = netns.Open();
        opened.Run(() =>
        {
            using var listener = new TcpListener(IPAddress.Parse("10.1.0.1"), 8080);
            listener.Start();
            using var client = new TcpClient();
            client.Connect(Vip4, 80);
            using var server = listener.AcceptTcpClient();
            var destination = Assert.Single(ipvs.Destinations(key));
            Assert.Equal((1u, 0u), (destination.ActiveConnections, destination.InactiveConnections));
        });
        // The kernel's estimator sums the counters of all processors every two seconds.
        Assert.True(SpinWait.SpinUntil(() => ipvs.Service(key)!.Statistics.Connections == 1, TimeSpan.FromSeconds(30)));
        Assert.True(SpinWait.SpinUntil(() => ipvs.Destinations(key)[0].Statistics is { Connections: 1, PacketsIn: > 0, PacketsOut: > 0 }, TimeSpan.FromSeconds(30)));
        ipvs.Zero(key);
        Assert.True(SpinWait.SpinUntil(() => ipvs.Service(key)!.Statistics.Connections == 0, TimeSpan.FromSeconds(30)));
    }

    private static IpvsDestination Server(string address, ushort port, int weight) =>
        new() { Address = IPAddress.Parse(address), Port = port, Weight = weight };

    private static string[] Lines(params string[] lines) => [.. lines.Order(StringComparer.Ordinal)];

    private string[] Saved() => Lines(netns.Exec("ipvsadm", "-Sn")
        .Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Trim()).ToArray());
}
