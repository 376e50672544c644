using System.Globalization;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.ClusterTests.FloatingVip;
using OverlayNet.ClusterTests.Vrrp;
using OverlayNet.Kernel;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.GuestTests.FloatingVip;

/// <summary>What only a guest can be put through: a wall clock that is stepped, and a link that delays and duplicates.</summary>
public sealed class ClockAndDelayTests
{
    private const string Vip = "10.77.0.100";
    private static readonly TimeSpan Hour = TimeSpan.FromHours(1);

    [Theory]
    [InlineData(true, -1, false)]
    [InlineData(true, 1, false)]
    [InlineData(false, -1, true)]
    public void A_step_of_the_wall_clock_never_opens_the_pair_of_gates(bool bpfToo, int hours, bool openAfterDeadline)
    {
        using var lan = new VrrpLan(2);
        lan[1].Run("ip", "addr", "add", $"{Vip}/24", "dev", "eth0");
        using var netns = lan[1].Namespace.Open();
        var config = new FenceGateConfig { Name = "step", Interfaces = ["eth0"], Addresses = [IPAddress.Parse(Vip)], VirtualRouterIds = [51] };
        using var gate = netns.Run<IFenceGate>(() => bpfToo ? new CombinedGate(new NftGate(config), new BpfGate(config)) : new NftGate(config));
        try
        {
            gate.SetDeadline(BootClock.Now + TimeSpan.FromSeconds(30));
            Assert.True(Answers(lan));
            var deadline = BootClock.Now + TimeSpan.FromSeconds(2);
            gate.SetDeadline(deadline);
            Step(Hour * hours);
            try
            {
                while (BootClock.Now < deadline + TimeSpan.FromMilliseconds(20))
                    Thread.Sleep(10);
                // The nft gate alone is the weaker one: it goes on for the hour that the clock was set back.
                Assert.Equal(openAfterDeadline, Answers(lan));
            }
            finally
            {
                Step(-Hour * hours);
            }
        }
        finally
        {
            gate.Remove();
        }
    }

    /// <summary>
    /// VRRP, ARP and the registry late, out of order and double, while holders lose the registry by turns and the clock is stepped: the judge
    /// stands at the switch, where a frame is seen as it was sent.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Delay_duplication_and_clock_steps_show_one_owner_at_a_time(int seed)
    {
        var random = new Random(seed);
        using var lan = new VrrpLan(3);
        foreach (var port in new[] { "p1", "p2" })
            lan.Switch.Run("tc", "qdisc", "add", "dev", port, "root", "netem", "delay", $"{random.Next(10, 60)}ms", $"{random.Next(5, 40)}ms", "duplicate", $"{random.Next(5, 40)}%");
        var store = new MemoryLeaseStore();
        using var judge = new UnderlayJudge(lan.Switch.Name, lan[3].Namespace.Name, IPAddress.Parse(Vip), IPAddress.Parse("10.77.0.3"));
        var (ways, vips) = (new MemoryLeaseStore.Way[3], new FencedVip[3]);
        try
        {
            for (var node = 1; node <= 2; node++)
            {
                ways[node] = store.For($"n{node}");
                ways[node].Delay = TimeSpan.FromMilliseconds(random.Next(5, 60));
                vips[node] = Start(lan[node], node, ways[node]);
            }
            for (var turn = 0; turn < 3; turn++)
            {
                var holder = 0;
                lan.Await("somebody holds it and answers", () => (holder = Array.FindIndex(vips, v => v?.Node.State == FenceState.Holder)) > 0 && judge.Owner() == $"p{holder}", 60);
                var step = Hour * (random.Next(2) * 2 - 1);
                Step(step);
                try
                {
                    ways[holder].Cut = true;
                    lan.Await("the other took over", () => vips[3 - holder].Node.State == FenceState.Holder && judge.Owner() == $"p{3 - holder}", 60);
                    ways[holder].Cut = false;
                }
                finally
                {
                    Step(-step);
                }
            }
            // Each reign is another holder's: nobody came back between two epochs.
            var reigns = UnderlayJudge.Reigns(judge.Since(0));
            Assert.True(reigns.Count <= store.Record!.Version.Epoch, string.Create(CultureInfo.InvariantCulture,
                $"{reigns.Count} reigns under {store.Record.Version.Epoch} epochs: {string.Join(", ", reigns.Select(r => $"{r.Port} {r.From:0.000}-{r.To:0.000}"))}"));
        }
        finally
        {
            for (var node = 1; node <= 2; node++)
            {
                vips[node]?.Dispose();
                NftGate.Remove($"g{node}");
                BpfGate.Remove($"g{node}");
            }
        }
    }

    private static FencedVip Start(VrrpHost host, int node, MemoryLeaseStore.Way way)
    {
        using var netns = host.Namespace.Open();
        var gate = netns.Run<IFenceGate>(() =>
        {
            var config = new FenceGateConfig { Name = $"g{node}", Interfaces = ["eth0"], Addresses = [IPAddress.Parse(Vip)], VirtualRouterIds = [51] };
            return new CombinedGate(new NftGate(config), new BpfGate(config));
        });
        return new FencedVip(
            new FenceConfig { VipSet = "web", Node = $"n{node}", Timing = FenceTiming.Fast, Preempt = false, Peers = ["n1", "n2"] }, 100,
            [new VrrpMember("eth0", new VrrpConfig { VirtualRouterId = 51, Priority = 100, AdvertisementIntervalCs = 10, Addresses = [VirtualAddress.Parse($"{Vip}/24")] })],
            gate, way, NullLogger.Instance, netns: netns);
    }

    // The whole guest's clock: nobody else lives here.
    private static void Step(TimeSpan by) =>
        Shell.Run("date", "-u", "-s", $"@{((DateTimeOffset)(DateTime.UtcNow + by)).ToUnixTimeMilliseconds() / 1000.0:0.000}");

    private static bool Answers(VrrpLan lan)
    {
        lan[2].Run("ip", "neigh", "flush", "dev", "eth0");
        return lan[2].Namespace.TryRun("busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", Vip).Code == 0;
    }
}
