using System.Globalization;
using System.Net;
using OverlayNet.ClusterTests.Vip;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Vrrp;

/// <summary>
/// The gates as the wire and local clients see them: open before the deadline, silent after it, without this process doing
/// anything at the deadline (which is what SIGSTOP amounts to for the kernel; the fault matrix stops whole daemons).
/// </summary>
public sealed class FenceGateTests(ITestOutputHelper output)
{
    private const string Vip4 = "10.77.0.100", Vip6 = "2001:db8:77::100";

    private static readonly FenceGateConfig Config = new()
    {
        Name = "test",
        Interfaces = ["eth0"],
        Addresses = [IPAddress.Parse(Vip4), IPAddress.Parse(Vip6)],
        VirtualRouterIds = [51],
    };

    public static TheoryData<string> Gates() => ["nft", "bpf"];

    private static IFenceGate Open(VrrpHost host, string kind)
    {
        using var netns = host.Namespace.Open();
        var config = Config with { Name = $"t{Environment.ProcessId}" };
        return netns.Run<IFenceGate>(() =>
        {
            if (kind == "nft")
                return new NftGate(config);
            return new BpfGate(config);
        });
    }

    private static VrrpLan Lan()
    {
        var lan = new VrrpLan(2);
        lan[1].Run("ip", "addr", "add", $"{Vip4}/24", "dev", "eth0");
        lan[1].Run("ip", "addr", "add", $"{Vip6}/64", "dev", "eth0", "nodad");
        return lan;
    }

    [Theory]
    [MemberData(nameof(Gates))]
    public void Shut_at_first_open_until_the_deadline_and_adopted_shut_again(string kind)
    {
        using var lan = Lan();
        using var gate = Open(lan[1], kind);
        try
        {
            Assert.Equal((false, false, false, false), Answers(lan[2]));
            gate.SetDeadline(BootClock.Now + TimeSpan.FromMinutes(1));
            Assert.Equal((true, true, true, true), Answers(lan[2]));
            gate.SetDeadline(TimeSpan.Zero);
            Assert.Equal((false, false, false, false), Answers(lan[2]));
            gate.SetDeadline(TimeSpan.MaxValue);
            Assert.Equal((true, true, true, true), Answers(lan[2]));

            // The node's own addresses are nobody's business but its own.
            gate.SetDeadline(TimeSpan.Zero);
            Assert.True(Ping(lan[2], "10.77.0.1") && Ping(lan[2], "2001:db8:77::1"));

            gate.SetDeadline(TimeSpan.MaxValue);
            using var successor = Open(lan[1], kind);
            Assert.Equal((false, false, false, false), Answers(lan[2]));
        }
        finally
        {
            gate.Remove();
        }

        Assert.Equal((true, true, true, true), Answers(lan[2]));
    }

    [Fact]
    public void The_nft_gate_keeps_local_clients_and_other_interfaces_out()
    {
        using var lan = Lan();
        lan[1].Run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "other", "netns", lan[2].Namespace.Name);
        lan[1].Run("ip", "link", "set", "eth1", "up");
        lan[2].Run("ip", "link", "set", "other", "up");
        lan[2].Run("ip", "addr", "add", "10.78.0.2/24", "dev", "other");
        using var gate = Open(lan[1], "nft");
        try
        {
            Assert.False(Ping(lan[1], Vip4));
            Assert.False(Ping(lan[1], Vip6));
            Assert.NotEqual(0, lan[2].Namespace.TryRun("busybox", "arping", "-c", "1", "-w", "1", "-I", "other", Vip4).Code);
            gate.SetDeadline(TimeSpan.MaxValue);
            Assert.True(Ping(lan[1], Vip4));
            Assert.True(Ping(lan[1], Vip6));
        }
        finally
        {
            gate.Remove();
        }
    }

    [Fact]
    public void Advertisements_of_the_vrid_stay_inside_on_every_interface()
    {
        using var lan = new VrrpLan(2);
        lan[1].Run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "other", "netns", lan[2].Namespace.Name);
        lan[1].Run("ip", "addr", "add", "10.78.0.1/24", "dev", "eth1");
        lan[1].Run("ip", "link", "set", "eth1", "up");
        lan[2].Run("ip", "link", "set", "other", "up");
        // The gate's interface is eth0; the router runs on eth1.
        using var gate = Open(lan[1], "nft");
        var sent = 0;
        try
        {
            using var wire = new Capture(lan[2].Namespace, "other", "vrrp");
            using var netns = lan[1].Namespace.Open();
            using var runner = new VrrpRunner(
                [new VrrpMember("eth1", Virtual(51) with { Addresses = [VirtualAddress.Parse("10.78.0.100/24")] })], Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance, netns,
                (_, output) => sent += output is VrrpOutput.SendAdvertisement ? 1 : 0);
            lan.Await("the router advertised several times", () => sent > 5);
            Assert.Empty(wire.Lines);
            gate.SetDeadline(TimeSpan.MaxValue);
            lan.Await("its advertisements are on the wire", () => wire.Lines.Length > 0);
        }
        finally
        {
            gate.Remove();
        }
    }

    [Theory]
    [MemberData(nameof(Gates))]
    public void Advertisements_and_announcements_stay_inside_a_shut_gate(string kind)
    {
        using var lan = new VrrpLan(2);
        using var gate = Open(lan[1], kind);
        try
        {
            using var wire = new Capture(lan[2].Namespace, "eth0", "(vrrp or arp or icmp6) and not src host 10.77.0.2");
            lan[1].Start(Virtual(51));
            lan.Await("the router believes it is active", () => lan[1].Runner!.Routers[0].State == VrrpState.Active);
            lan.Await("it went on", () => lan[1].Said.Count(o => o is VrrpOutput.SendAdvertisement) > 3);
            Assert.DoesNotContain(wire.Lines, l => l.Contains("VRRP", StringComparison.Ordinal) || l.Contains(Vip4, StringComparison.Ordinal));
            gate.SetDeadline(TimeSpan.MaxValue);
            lan.Await("its advertisements are on the wire", () => wire.Lines.Any(l => l.Contains("VRRP", StringComparison.Ordinal)));
        }
        finally
        {
            lan[1].Stop();
            gate.Remove();
        }
    }

    /// <summary>
    /// How late after its deadline an owner still answers ARP, seen from the wire with the kernel's time stamps: 20 deadlines
    /// that nobody renews, as with a stopped daemon.
    /// </summary>
    [Theory]
    [MemberData(nameof(Gates))]
    public void After_the_deadline_the_wire_is_silent(string kind)
    {
        using var lan = Lan();
        using var gate = Open(lan[1], kind);
        try
        {
            using var wire = new Capture(lan[2].Namespace, "eth0", $"arp[6:2] == 2 and arp src host {Vip4}");
            using var asker = lan[2].Namespace.Open();
            using var stop = new CancellationTokenSource();
            var requests = new Thread(() => asker.Run(() => ArpAsker.Run(IPAddress.Parse(Vip4), IPAddress.Parse("10.77.0.2"), stop.Token)));
            requests.Start();
            var deadlines = new List<double>();
            for (var i = 0; i < 20; i++)
            {
                var deadline = BootClock.Now + TimeSpan.FromMilliseconds(200);
                gate.SetDeadline(deadline);
                deadlines.Add((DateTime.UtcNow - DateTime.UnixEpoch).TotalSeconds + (deadline - BootClock.Now).TotalSeconds);
                Thread.Sleep(350);
            }

            stop.Cancel();
            requests.Join();
            var replies = wire.Lines.Select(l => double.Parse(l.Split(' ')[0], CultureInfo.InvariantCulture)).ToArray();
            var lateness = deadlines.Select(d => replies.Where(r => r < d + 0.15 && r > d - 0.2).Select(r => (r - d) * 1000).DefaultIfEmpty(double.NaN).Max()).Order().ToArray();
            output.WriteLine($"{kind}: last reply against the deadline, ms: min {lateness[0]:0.0}, median {lateness[10]:0.0}, max {lateness[^1]:0.0}; {replies.Length} replies");
            Assert.DoesNotContain(lateness, double.IsNaN);
            Assert.True(lateness[^1] < 20, $"answered {lateness[^1]:0.0} ms after the deadline");
        }
        finally
        {
            gate.Remove();
        }
    }

    private static VrrpConfig Virtual(byte vrid) => new()
    {
        VirtualRouterId = vrid,
        AdvertisementIntervalCs = 10,
        Addresses = [VirtualAddress.Parse($"{Vip4}/24")],
    };

    private static (bool Arp, bool Ip4, bool Nd, bool Ip6) Answers(VrrpHost from)
    {
        from.Run("ip", "neigh", "flush", "dev", "eth0");
        var arp = from.Namespace.TryRun("busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", Vip4).Code == 0;
        var nd = Ping(from, Vip6);
        from.Run("ip", "neigh", "flush", "dev", "eth0");
        return (arp, Ping(from, Vip4), nd, Ping(from, Vip6));
    }

    private static bool Ping(VrrpHost from, string address) => from.Namespace.TryRun("busybox", "ping", "-c", "1", "-W", "1", address).Code == 0;
}
