using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Vip.Health;

namespace OverlayNet.UnitTests.Vip.Health;

/// <summary>
/// The rules together, over long histories in which endpoints die, come back, flap, and probers lose their sight of some or of all.
/// Each history is drawn from a seed that a failure prints.
/// </summary>
public sealed class HealthSimulationTests
{
    private const int Steps = 4000, StepMs = 250, IntervalMs = 1000, Failures = 3, Successes = 2;
    private static readonly HealthTimes Times = new(HoldMs: 2000, RampMs: 12_000);

    [Fact]
    public void A_service_is_never_empty_while_any_endpoint_answers() => Check((world, step) =>
        world.InUse.Count > 0 || !world.Endpoints.Any(e => e.Alive)
            ? null : $"step {step}: nobody is used although {world.Endpoints.Count(e => e.Alive)} answer");

    [Fact]
    public void A_ramp_only_rises_and_takes_its_window() => Check((world, step) =>
    {
        foreach (var e in world.Endpoints)
        {
            if (e.Before.Phase == HealthPhase.Recovering && e.Status.Phase == HealthPhase.Recovering && e.Status.Eighths < e.Before.Eighths)
                return $"step {step}: weight fell from {e.Before.Eighths}/8 to {e.Status.Eighths}/8";
            if (e.Status.Phase == HealthPhase.Recovering && e.Status.Eighths is < 2 or > 7)
                return $"step {step}: recovering with {e.Status.Eighths}/8";
            if (e.Before.Phase == HealthPhase.Recovering && e.Status.Phase == HealthPhase.Healthy && world.Now - e.Before.SinceUnixMs < Times.RampMs)
                return $"step {step}: healthy {world.Now - e.Before.SinceUnixMs} ms after it came back";
            if (e.Before.Phase is HealthPhase.Unhealthy or HealthPhase.Unreachable && e.Status.Phase == HealthPhase.Healthy)
                return $"step {step}: back at full weight at once";
        }
        return null;
    });

    [Fact]
    public void No_endpoint_changes_sides_twice_within_the_hold_time() => Check((world, step) =>
    {
        foreach (var e in world.Endpoints.Where(e => e.Before.Serves != e.Status.Serves))
        {
            if (e.ChangedAt is { } before && world.Now - before < Times.HoldMs)
                return $"step {step}: changed sides {world.Now - before} ms after the last time";
            e.ChangedAt = world.Now;
        }
        return null;
    });

    [Fact]
    public void What_is_dead_for_long_is_out_and_what_lives_for_long_is_in() => Check((world, step) =>
    {
        foreach (var e in world.Endpoints)
        {
            var settled = world.Now - e.TruthSince > 20_000 && world.Now - world.SightSince > 20_000 && world.Sighted;
            if (settled && e.Alive != e.Status.Serves && e.Steady)
                return $"step {step}: {(e.Alive ? "lives" : "is dead")} for {world.Now - e.TruthSince} ms and is {e.Status.Phase}";
        }
        return null;
    });

    private static void Check(Func<World, int, string?> violated)
    {
        for (var seed = 1; seed <= 40; seed++)
            Run(seed);
        Prop.ForAll(Gen.Choose(1000, int.MaxValue).ToArbitrary(), Run).QuickCheckThrowOnFailure();

        void Run(int seed)
        {
            var world = new World(seed);
            for (var step = 0; step < Steps; step++)
            {
                world.Step();
                if (violated(world, step) is { } what)
                    throw new Xunit.Sdk.XunitException($"seed {seed}, {what}");
            }
        }
    }

    private sealed class Simulated
    {
        public bool Alive { get; set; } = true;

        /// <summary>Not one that dies and lives all the time.</summary>
        public bool Steady { get; set; } = true;
        public long TruthSince { get; set; }
        public RiseFall Own { get; set; }
        public ProbeOutcome Last { get; set; }
        public long ProbedAt { get; set; }
        public HealthStatus Status { get; set; } = new(HealthPhase.Healthy, 0, 0);
        public HealthStatus Before { get; set; }
        public long? ChangedAt { get; set; }
    }

    /// <summary>A service whose endpoints are on one node, with two peers that can be asked.</summary>
    private sealed class World
    {
        private readonly Random _random;
        private bool _ownerSees = true;
        private int _peersThatSee = 2;

        public World(int seed)
        {
            _random = new Random(seed);
            Endpoints = [.. Enumerable.Range(0, 1 + _random.Next(8)).Select(i => new Simulated { ProbedAt = -_random.Next(IntervalMs), Steady = _random.Next(4) != 0 })];
        }

        public IReadOnlyList<Simulated> Endpoints { get; }
        public long Now { get; private set; }
        public long SightSince { get; private set; }
        public bool Sighted => _ownerSees && _peersThatSee == 2;

        public IReadOnlyList<Simulated> InUse
        {
            get
            {
                var serving = Endpoints.Where(e => e.Status.Serves).ToList();
                return Panic.On(serving.Count, Endpoints.Count - serving.Count, 0) ? Endpoints : serving;
            }
        }

        public void Step()
        {
            Now += StepMs;
            Change();
            foreach (var e in Endpoints)
            {
                e.Before = e.Status;
                if (Now - e.ProbedAt < IntervalMs)
                    continue;
                e.ProbedAt = Now;
                e.Last = !_ownerSees || (!e.Alive && _random.Next(2) == 0) ? ProbeOutcome.NoAnswer : e.Alive ? ProbeOutcome.Pass : ProbeOutcome.Refused;
                // A reply in a hundred is lost.
                if (_random.Next(100) == 0)
                    e.Last = ProbeOutcome.NoAnswer;
                e.Own = e.Own.Next(e.Last, Failures, Successes);
            }
            Decide();
        }

        private void Change()
        {
            foreach (var e in Endpoints)
            {
                if (_random.Next(e.Steady ? 400 : 12) != 0)
                    continue;
                e.Alive = !e.Alive;
                e.TruthSince = Now;
            }
            if (_random.Next(300) != 0)
                return;
            (_ownerSees, _peersThatSee, SightSince) = (_random.Next(3) != 0, _random.Next(3), Now);
        }

        private void Decide()
        {
            var trusted = !ProberTrust.Distrusted(Endpoints.Count(e => e.Status.Serves), Endpoints.Count(e => e.Status.Serves && e.Last == ProbeOutcome.NoAnswer));
            var rulings = Endpoints.Select(e => (Endpoint: e, Ruling: Jury.Judge(BallotOf(e, trusted), confirm: false))).ToList();
            var members = Endpoints.Select((e, i) => new GuardedMember($"{i}", e.Status.Serves, [])).ToList();
            var leaving = Enumerable.Range(0, rulings.Count).Where(i => rulings[i].Ruling == Ruling.Withdraw).Select(i => $"{i}").ToHashSet();
            var questioned = ShrinkGuard.Questioned(members, leaving, 50);
            for (var i = 0; i < rulings.Count; i++)
            {
                var (e, ruling) = rulings[i];
                if (questioned.ContainsKey($"{i}"))
                    ruling = Jury.Judge(BallotOf(e, trusted), confirm: true);
                e.Status = HealthMachine.Next(e.Status, ruling, e.Own.Verdict == Verdict.Passing, nodeSilent: false, certain: false, Times, Now);
            }
        }

        private Ballot BallotOf(Simulated e, bool trusted)
        {
            var asked = RiseFall.IsSuccess(e.Last) ? 0 : 2;
            var seeing = asked == 0 ? 0 : _peersThatSee;
            return new Ballot(e.Own.Verdict, e.Last, trusted, asked, e.Alive ? seeing : 0, asked - (e.Alive ? seeing : 0), false);
        }
    }
}
