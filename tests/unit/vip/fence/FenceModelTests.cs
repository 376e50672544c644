using OverlayNet.Vip.Fence;
using Xunit.Abstractions;

namespace OverlayNet.UnitTests.Vip.Fence;

/// <summary>
/// The fence's proof: every interleaving of a bounded world, run through the daemon's own <see cref="FenceMachine"/>.
/// docs/fencing.md quotes the counts and the counterexamples these tests print.
/// </summary>
public sealed class FenceModelTests(ITestOutputHelper output)
{
    private static TimeSpan Ticks(int n) => TimeSpan.FromTicks(n);

    /// <summary>T = 4 ticks, gates that shut up to one tick late, clocks without error.</summary>
    private static readonly FenceModelOptions Exact = new()
    {
        Nodes = 2,
        Timing = new FenceTiming
        {
            Ttl = Ticks(4),
            LongestTtl = Ticks(4),
            Drift = 0,
            GateLateness = Ticks(1),
            Margin = Ticks(0),
            RenewInterval = Ticks(1),
            CommitTimeout = Ticks(2),
            SkewUnit = Ticks(0),
            MaxHold = Ticks(6),
        },
    };

    /// <summary>Clocks that may err by one tick in four, twice in a row where two windows meet: so δ must be 2.</summary>
    private static readonly FenceModelOptions Drifting = Exact with
    {
        Timing = Exact.Timing with { Drift = 0.2, GateLateness = Ticks(0), Margin = Ticks(2), RenewInterval = Ticks(0), CommitTimeout = Ticks(1) },
        DriftWindow = 4,
        GateLateness = 0,
        RequestsOnTheWay = 1,
        Crashes = false,
    };

    private static readonly FenceModelOptions Restored = Exact with
    {
        Timing = Exact.Timing with { Ttl = Ticks(3), LongestTtl = Ticks(3), RenewInterval = Ticks(0), CommitTimeout = Ticks(1) },
        Restores = true,
        RequestsOnTheWay = 1,
        Crashes = false,
    };

    /// <summary>Time-outs short enough for a round of promises within the deadline, else nothing would be explored.</summary>
    private static readonly FenceModelOptions HoldAll = Exact with
    {
        Policy = StoreLossPolicy.HoldAll,
        Timing = Exact.Timing with { Ttl = Ticks(3), LongestTtl = Ticks(3), GateLateness = Ticks(0), CommitTimeout = Ticks(1), MaxHold = Ticks(4) },
        GateLateness = 0,
        RequestsOnTheWay = 1,
        Crashes = false,
    };

    public static TheoryData<string, FenceModelOptions> Mutations() => new()
    {
        { "margin too small for the clocks", Drifting with { Timing = Drifting.Timing with { Margin = Ticks(1) } } },
        { "margin that forgets the gate's lateness", Exact with { Timing = Exact.Timing with { GateLateness = Ticks(0) } } },
        { "deadline from the reply", Exact with { Mutation = FenceMutation.DeadlineFromReply } },
        { "user-space timer", Exact with { Mutation = FenceMutation.UserSpaceTimer } },
        { "relative time-out", Exact with { Mutation = FenceMutation.RelativeTimeout } },
        { "commit without its guard", Exact with { Mutation = FenceMutation.CommitUnguarded } },
        { "release told before the gate shuts", Exact with { Mutation = FenceMutation.ReleaseBeforeShut, Releases = true } },
        { "promise given and not kept", HoldAll with { Mutation = FenceMutation.PromiseBroken } },
        { "restored registry without grace", Restored with { Mutation = FenceMutation.NoGraceAfterRestore } },
        { "paused virtual machine (not covered)", Exact with { Mutation = FenceMutation.ClockStandsStill } },
    };

    [Theory]
    [MemberData(nameof(Mutations))]
    public void Each_mutation_is_caught(string name, FenceModelOptions options) => Assert.NotEmpty(Check(name, options).Counterexample);

    [Fact]
    public void Two_nodes_never_have_two_open_gates() => Holds("2 nodes, exact clocks, crashes", Exact);

    [Fact]
    public void Two_nodes_whose_clocks_drift_never_have_two_open_gates() => Holds("2 nodes, drift", Drifting);

    [Fact]
    [Trait("Category", "Soak")]
    public void Two_nodes_that_give_the_lease_up_never_have_two_open_gates() =>
        Holds("2 nodes, releases, crashes", Exact with { Releases = true, RequestsOnTheWay = 1 });

    [Fact]
    [Trait("Category", "Soak")]
    public void A_restore_from_any_backup_never_opens_two_gates() => Holds("2 nodes, backup and restore", Restored);

    [Fact]
    [Trait("Category", "Soak")]
    public void Promises_of_all_peers_never_open_two_gates() => Holds("2 nodes, hold-all", HoldAll);

    [Fact]
    [Trait("Category", "Soak")]
    public void Three_nodes_never_have_two_open_gates() => Holds("3 nodes, exact clocks", Exact with
    {
        Nodes = 3,
        Timing = Exact.Timing with { Ttl = Ticks(2), LongestTtl = Ticks(2), RenewInterval = Ticks(0), CommitTimeout = Ticks(1) },
        RequestsOnTheWay = 1,
        Crashes = false,
    });

    private void Holds(string name, FenceModelOptions options)
    {
        var result = Check(name, options);
        Assert.True(result.Counterexample.Count == 0, $"{name}: two gates open\n{string.Join('\n', result.Counterexample)}");
        Assert.True(result.Opened > result.States / 100, "the search must reach open gates, or it proves nothing");
    }

    private FenceModelResult Check(string name, FenceModelOptions options)
    {
        var result = FenceModelChecker.Run(options, maxStates: 20_000_000);
        output.WriteLine($"{name}: {result.States:N0} states, {result.Transitions:N0} transitions, {result.Opened:N0} with an open gate");
        foreach (var line in result.Counterexample)
            output.WriteLine(line);
        Assert.True(result.Complete, $"{name}: the search was cut off at {result.States} states");
        return result;
    }
}
