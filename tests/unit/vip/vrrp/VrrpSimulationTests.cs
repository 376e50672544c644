using System.Net;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.UnitTests.Vip.Vrrp;

/// <summary>Long histories of several routers on a link that loses, delays and splits, with simulated time.</summary>
public sealed class VrrpSimulationTests
{
    private static readonly VirtualAddress Address = VirtualAddress.Parse("192.0.2.10/24");

    private sealed class Link(int routers, int seed, Func<int, VrrpConfig> config)
    {
        private readonly Random _random = new(seed);
        private readonly PriorityQueue<Action, TimeSpan> _events = new();
        private readonly bool[,] _cut = new bool[routers, routers];

        public VrrpRouter[] Routers { get; } = [.. Enumerable.Range(0, routers)
            .Select(i => VrrpRouter.Create(config(i), new IPAddress([192, 0, 2, (byte)(i + 1)])))];

        public bool[] HasAddress { get; } = new bool[routers];
        public int[] Activations { get; } = new int[routers];
        public TimeSpan Now { get; private set; }
        public double Loss { get; set; }
        public TimeSpan Delay { get; set; } = TimeSpan.FromMilliseconds(1);

        public void Cut(int from, int to, bool cut) => _cut[from, to] = cut;

        public void Heal()
        {
            Array.Clear(_cut);
            Loss = 0;
            Delay = TimeSpan.FromMilliseconds(1);
        }

        public void Give(int i, VrrpInput input)
        {
            var (router, outputs) = VrrpStateMachine.Step(Routers[i], Now, input);
            Routers[i] = router;
            foreach (var output in outputs)
                Do(i, output);
            Assert.Equal(router.State == VrrpState.Active, HasAddress[i]);
            Assert.True(router.State != VrrpState.Active || router.AdverTimer > Now);
            Assert.True(router.State != VrrpState.Backup || router.ActiveDownTimer is not null);
        }

        public void Run(TimeSpan duration)
        {
            var end = Now + duration;
            while (true)
            {
                var timer = Enumerable.Range(0, Routers.Length).Where(i => Routers[i].NextTimer is not null)
                    .OrderBy(i => Routers[i].NextTimer!.Value).Select(i => (int?)i).FirstOrDefault();
                var timerAt = timer is { } t ? Routers[t].NextTimer!.Value : TimeSpan.MaxValue;
                var eventAt = _events.TryPeek(out _, out var at) ? at : TimeSpan.MaxValue;
                if (Math.Min(timerAt.Ticks, eventAt.Ticks) > end.Ticks)
                    break;
                if (eventAt <= timerAt)
                {
                    Now = eventAt;
                    _events.Dequeue()();
                }
                else
                {
                    Now = timerAt > Now ? timerAt : Now;
                    Give(timer!.Value, new VrrpInput.TimersDue());
                }
            }

            Now = end;
        }

        private void Do(int i, VrrpOutput output)
        {
            switch (output)
            {
                case VrrpOutput.AddAddresses:
                    Assert.False(HasAddress[i]);
                    HasAddress[i] = true;
                    Activations[i]++;
                    break;
                case VrrpOutput.RemoveAddresses:
                    Assert.True(HasAddress[i]);
                    HasAddress[i] = false;
                    break;
                case VrrpOutput.SendAdvertisement send:
                    Send(i, send.Priority);
                    break;
            }
        }

        private void Send(int from, byte priority)
        {
            var advert = new VrrpAdvertisement
            {
                Version = VrrpVersion.V3,
                VirtualRouterId = 51,
                Priority = priority,
                IntervalCs = Routers[from].Config.AdvertisementIntervalCs,
                Source = Routers[from].LocalAddress,
                Addresses = [Address.Address],
            };
            for (var to = 0; to < Routers.Length; to++)
            {
                if (to == from || _cut[from, to] || _random.NextDouble() < Loss)
                    continue;
                var receiver = to;
                _events.Enqueue(() => Give(receiver, new VrrpInput.Received(advert)), Now + Delay * (1 + _random.NextDouble()));
            }
        }
    }

    private static VrrpConfig Config(byte priority, bool preempt = true) => new()
    {
        VirtualRouterId = 51,
        Priority = priority,
        Preempt = preempt,
        AdvertisementIntervalCs = 10,
        Addresses = [Address],
    };

    private static Config Checks(int tests, ulong seed) =>
        FsCheck.Config.QuickThrowOnFailure.WithMaxTest(tests).WithReplay(seed, 17UL);

    [Fact]
    public void After_any_history_a_quiet_link_has_one_owner_the_best()
    {
        var histories = ArbMap.Default.GeneratorFor<int>().ToArbitrary();
        Prop.ForAll(histories, seed =>
        {
            var random = new Random(seed);
            var count = random.Next(2, 6);
            var priorities = Enumerable.Range(0, count).Select(_ => (byte)random.Next(1, 255)).ToArray();
            var link = new Link(count, seed, i => Config(priorities[i]));
            for (var i = 0; i < count; i++)
                link.Give(i, new VrrpInput.Startup());
            for (var fault = 0; fault < 20; fault++)
            {
                Disturb(link, random, count);
                link.Run(TimeSpan.FromMilliseconds(random.Next(1, 2000)));
            }

            link.Heal();
            for (var i = 0; i < count; i++)
                if (link.Routers[i].State == VrrpState.Initialize)
                {
                    link.Give(i, new VrrpInput.PriorityChanged(priorities[i], "mended"));
                    link.Give(i, new VrrpInput.Startup());
                }

            link.Run(TimeSpan.FromSeconds(2));
            var best = Enumerable.Range(0, count).OrderByDescending(i => priorities[i]).ThenByDescending(i => i).First();
            Assert.Equal([best], Enumerable.Range(0, count).Where(i => link.HasAddress[i]));

            // And it stays: nobody else becomes Active while nothing happens.
            var before = link.Activations.ToArray();
            link.Run(TimeSpan.FromSeconds(60));
            Assert.Equal(before, link.Activations);
        }).Check(Checks(150, 9568));
    }

    [Fact]
    public void Without_preemption_a_returning_better_router_moves_nothing()
    {
        for (var seed = 0; seed < 20; seed++)
        {
            var link = new Link(3, seed, i => Config((byte)(100 + i), preempt: false));
            link.Give(0, new VrrpInput.Startup());
            link.Run(TimeSpan.FromSeconds(1));
            link.Give(1, new VrrpInput.Startup());
            link.Give(2, new VrrpInput.Startup());
            link.Run(TimeSpan.FromSeconds(30));
            Assert.Equal([true, false, false], link.HasAddress);
        }
    }

    [Fact]
    public void A_graceful_hand_over_takes_skew_and_a_crash_the_down_interval()
    {
        var link = new Link(2, 1, i => Config((byte)(100 + 50 * i)));
        link.Give(0, new VrrpInput.Startup());
        link.Give(1, new VrrpInput.Startup());
        link.Run(TimeSpan.FromSeconds(1));
        Assert.True(link.HasAddress[1]);
        var left = link.Now;
        link.Give(1, new VrrpInput.Shutdown("stopped"));
        link.Run(TimeSpan.FromSeconds(1));
        Assert.InRange((link.Routers[0].LastTransitionAt - left).TotalMilliseconds, 60.9, 63);

        link.Give(1, new VrrpInput.Startup());
        link.Run(TimeSpan.FromSeconds(2));
        Assert.True(link.HasAddress[1]);
        link.Cut(1, 0, true);
        left = link.Now;
        link.Run(TimeSpan.FromSeconds(1));
        Assert.InRange((link.Routers[0].LastTransitionAt - left).TotalMilliseconds, 260, 363);
    }

    private static void Disturb(Link link, Random random, int count)
    {
        var i = random.Next(count);
        switch (random.Next(7))
        {
            case 0:
                link.Loss = random.NextDouble();
                break;
            case 1:
                link.Delay = TimeSpan.FromMilliseconds(random.Next(0, 300));
                break;
            case 2:
                link.Cut(i, random.Next(count), random.Next(2) == 0);
                break;
            case 3:
                link.Give(i, new VrrpInput.Shutdown("stopped"));
                break;
            case 4:
                link.Give(i, new VrrpInput.Startup());
                break;
            case 5:
                link.Give(i, new VrrpInput.PriorityChanged(0, "fault"));
                break;
            default:
                link.Heal();
                break;
        }
    }
}
