using System.Collections.Immutable;
using System.Globalization;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Vrrp;

/// <summary>
/// Fenced VIPs on a link with a judge that asks for the address a thousand times a second and records who answers: at no
/// moment two, and the order of answers never goes back.
/// </summary>
public sealed class FencedVipTests(ITestOutputHelper output)
{
    private const string Vip = "10.77.0.100";

    private sealed class Cluster : IDisposable, IPromisePeers
    {
        private readonly Capture _wire;
        private readonly CancellationTokenSource _stop = new();
        private readonly NetworkNamespace _judge;
        private readonly Thread _asker;
        private readonly FenceTiming _timing;
        private readonly StoreLossPolicy _policy;
        private readonly Dictionary<int, FencedVip> _vips = [];
        private readonly Dictionary<int, MemoryLeaseStore.Way> _ways = [];
        private readonly Dictionary<int, ManualResetEventSlim> _frozen = [];

        public Cluster(FenceTiming timing, StoreLossPolicy policy = StoreLossPolicy.Release)
        {
            (_timing, _policy) = (timing, policy);
            _wire = new Capture(Lan[3].Namespace, "eth0", $"arp[6:2] == 2 and arp src host {Vip}");
            _judge = Lan[3].Namespace.Open();
            _asker = new Thread(() => _judge.Run(() => ArpAsker.Run(IPAddress.Parse(Vip), IPAddress.Parse("10.77.0.3"), _stop.Token)));
            _asker.Start();
        }

        public VrrpLan Lan { get; } = new(3);
        public MemoryLeaseStore Store { get; } = new();
        public FencedVip this[int node] => _vips[node];
        public MemoryLeaseStore.Way WayOf(int node) => _ways[node];

        public void Start(int node, int priority)
        {
            _ways[node] = Store.For(Name(node));
            using var netns = Lan[node].Namespace.Open();
            var gate = netns.Run<IFenceGate>(() =>
            {
                var config = new FenceGateConfig { Name = $"f{Environment.ProcessId}-{node}", Interfaces = ["eth0"], Addresses = [IPAddress.Parse(Vip)], VirtualRouterIds = [51] };
                return new CombinedGate(new BpfGate(config), new NftGate(config));
            });
            Gates[node] = gate;
            _vips[node] = new FencedVip(
                new FenceConfig { VipSet = "web", Node = Name(node), Timing = _timing, Policy = _policy, Peers = ["n1", "n2"] },
                priority,
                [new VrrpMember("eth0", new VrrpConfig { VirtualRouterId = 51, Priority = (byte)priority, AdvertisementIntervalCs = 10, Addresses = [VirtualAddress.Parse($"{Vip}/24")] })],
                gate, _ways[node], NullLogger.Instance, this, netns);
        }

        public Dictionary<int, IFenceGate> Gates { get; } = [];

        public void Stop(int node)
        {
            _vips[node].Dispose();
            _vips.Remove(node);
        }

        /// <summary>Stops everything this node's VIP does, as SIGSTOP does: its thread and its way to the registry.</summary>
        public void Freeze(int node)
        {
            _frozen[node] = new ManualResetEventSlim();
            _ways[node].Cut = true;
            _vips[node].Block(_frozen[node]);
        }

        public void Thaw(int node)
        {
            _ways[node].Cut = false;
            _frozen[node].Set();
        }

        public void AwaitHolder(int node) => Lan.Await($"n{node} holds the VIP and answers", () =>
            _vips[node].Node.State == FenceState.Holder && Answers().LastOrDefault().Mac == MacOf(node));

        public async Task<FenceInput.PromiseAnswered> AskAsync(string peer, string vipSet, FenceInput.PromiseAsked question, CancellationToken cancel) =>
            await _vips[int.Parse(peer[1..], CultureInfo.InvariantCulture)].AnswerAsync(question).WaitAsync(cancel);

        public (double At, string Mac)[] Answers() => [.. _wire.Lines.Select(l => l.Split(' '))
            .Select(w => (double.Parse(w[0], CultureInfo.InvariantCulture), w[Array.IndexOf(w, "is-at") + 1].TrimEnd(',')))];

        /// <summary>Who answered, in order: each entry is one unbroken run of answers.</summary>
        public List<(string Mac, double From, double To)> Reigns()
        {
            var reigns = new List<(string Mac, double From, double To)>();
            foreach (var (at, mac) in Answers())
            {
                if (reigns.Count > 0 && reigns[^1].Mac == mac)
                    reigns[^1] = reigns[^1] with { To = at };
                else
                    reigns.Add((mac, at, at));
            }

            return reigns;
        }

        public string MacOf(int node)
        {
            var words = Lan[node].Run("ip", "-o", "link", "show", "dev", "eth0").Split(' ');
            return words[Array.IndexOf(words, "link/ether") + 1];
        }

        public void Dispose()
        {
            foreach (var frozen in _frozen.Values)
                frozen.Set();
            foreach (var vip in _vips.Values)
                vip.Dispose();
            foreach (var gate in Gates.Values)
                BpfPins(gate);
            _stop.Cancel();
            _asker.Join();
            _judge.Dispose();
            _wire.Dispose();
            Lan.Dispose();
        }

        private void BpfPins(IFenceGate gate)
        {
            foreach (var node in Gates.Where(g => g.Value == gate).Select(g => g.Key))
                BpfGate.Remove($"f{Environment.ProcessId}-{node}");
        }

        private static string Name(int node) => $"n{node}";
    }

    [Fact]
    public void One_holder_moves_by_bid_by_operator_and_by_stop_without_two_answering()
    {
        using var cluster = new Cluster(FenceTiming.Default);
        cluster.Start(1, 100);
        cluster.AwaitHolder(1);
        cluster.Start(2, 150);
        cluster.AwaitHolder(2);
        cluster.Store.Bid(new LeaseBid("n1", 100, Forced: true));
        cluster.AwaitHolder(1);
        Thread.Sleep(1000);
        Assert.Equal(FenceState.Holder, cluster[1].Node.State);
        cluster.Stop(1);
        cluster.AwaitHolder(2);
        Judge(cluster, [1, 2, 1, 2]);
        Assert.False(cluster.Lan[1].Has(Vip));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_frozen_holder_is_silent_before_the_next_one_answers_and_after_its_thaw(int round)
    {
        using var cluster = new Cluster(FenceTiming.Fast);
        cluster.Start(1, 150);
        cluster.AwaitHolder(1);
        cluster.Start(2, 100);
        cluster.Lan.Await("n2 follows", () => cluster[2].Node.Lease?.Record?.Holder == "n1");
        Thread.Sleep(37 * round);
        cluster.Freeze(1);
        cluster.AwaitHolder(2);
        cluster.Thaw(1);
        cluster.Lan.Await("n1 took its addresses off", () => !cluster.Lan[1].Has(Vip) || cluster[1].Node.State == FenceState.Holder);
        cluster.AwaitHolder(1);
        Judge(cluster, [1, 2, 1]);
    }

    [Fact]
    public void A_holder_cut_off_from_the_registry_is_silent_at_its_deadline_while_the_link_is_fine()
    {
        using var cluster = new Cluster(FenceTiming.Fast);
        cluster.Start(1, 100);
        cluster.AwaitHolder(1);
        cluster.Start(2, 90);
        cluster.Lan.Await("n2 follows", () => cluster[2].Node.Lease?.Record?.Holder == "n1");
        cluster.WayOf(1).Cut = true;
        cluster.AwaitHolder(2);
        Judge(cluster, [1, 2]);
        Assert.False(cluster.Lan[1].Has(Vip));
    }

    [Fact]
    public void Without_the_registry_release_drops_the_address_and_hold_all_keeps_it()
    {
        using (var cluster = new Cluster(FenceTiming.Fast))
        {
            cluster.Start(1, 100);
            cluster.AwaitHolder(1);
            cluster.Start(2, 90);
            cluster.WayOf(1).Cut = cluster.WayOf(2).Cut = true;
            cluster.Lan.Await("nobody has it", () => !cluster.Lan[1].Has(Vip) && !cluster.Lan[2].Has(Vip));
        }

        using (var cluster = new Cluster(FenceTiming.Fast, StoreLossPolicy.HoldAll))
        {
            cluster.Start(1, 100);
            cluster.AwaitHolder(1);
            cluster.Start(2, 90);
            cluster.Lan.Await("n2 follows", () => cluster[2].Node.Lease?.Record?.Holder == "n1");
            Thread.Sleep(1000);
            cluster.WayOf(1).Cut = cluster.WayOf(2).Cut = true;
            Thread.Sleep(3000);
            Assert.Equal(FenceState.Holder, cluster[1].Node.State);
            cluster.WayOf(1).Cut = cluster.WayOf(2).Cut = false;
            Thread.Sleep(1000);
            Assert.Equal(FenceState.Holder, cluster[1].Node.State);
            var gaps = cluster.Answers().Zip(cluster.Answers().Skip(1), (a, b) => b.At - a.At).Max();
            output.WriteLine($"hold-all: the longest time without an answer was {gaps * 1000:0} ms");
            Judge(cluster, [1]);
        }
    }

    private void Judge(Cluster cluster, int[] expected)
    {
        var reigns = cluster.Reigns();
        for (var i = 1; i < reigns.Count; i++)
            output.WriteLine($"from {reigns[i - 1].Mac} to {reigns[i].Mac}: {(reigns[i].From - reigns[i - 1].To) * 1000:0} ms without an answer");
        Assert.Equal([.. expected.Select(cluster.MacOf)], reigns.Select(r => r.Mac).ToArray());
    }
}
