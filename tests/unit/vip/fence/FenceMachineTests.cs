using System.Collections.Immutable;
using OverlayNet.Vip.Fence;

namespace OverlayNet.UnitTests.Vip.Fence;

public sealed class FenceMachineTests
{
    private FenceNode _node = null!;
    private ImmutableArray<FenceOutput> _said = [];
    private TimeSpan _now;
    private long _revision;

    private void Given(FenceConfig? config = null, int priority = 100) => _node = FenceNode.Create(config ?? Config, priority);

    private static FenceConfig Config => new()
    {
        VipSet = "web",
        Node = "a",
        Timing = FenceTiming.Default,
        Peers = ["a", "b"],
    };

    private static LeaseRecord HeldBy(string? holder, long epoch, long incarnation = 1, int priority = 100) => new()
    {
        Holder = holder,
        Version = new LeaseVersion(incarnation, epoch),
        Ttl = TimeSpan.FromSeconds(4),
        Priority = priority,
        Policy = StoreLossPolicy.Release,
        Peers = ["a", "b"],
    };

    private void At(double seconds, FenceInput input)
    {
        _now = TimeSpan.FromSeconds(seconds);
        (_node, _said) = FenceMachine.Step(_node, _now, input);
    }

    private T Says<T>() where T : FenceOutput => Assert.Single(_said.OfType<T>());

    private void See(double seconds, LeaseRecord? record, long incarnation = 1) =>
        At(seconds, new FenceInput.LeaseObserved(record, record is null ? 0 : ++_revision, incarnation, _node.PendingRead?.Id));

    private void CommitSucceeds(double seconds) =>
        At(seconds, new FenceInput.CommitReplied(_node.Pending!.Id, CommitOutcome.Committed, ++_revision));

    private void BecomeHolder()
    {
        At(0, new FenceInput.Started());
        See(0.001, null);
        At(0.2, new FenceInput.TimersDue());
        CommitSucceeds(0.21);
        Assert.Equal(FenceState.Holder, _node.State);
    }

    [Fact]
    public void A_start_shuts_the_gate_removes_what_was_left_and_reads_the_lease()
    {
        Given();
        At(0, new FenceInput.Started());
        Assert.Collection(_said,
            o => Assert.Equal(new FenceOutput.SetGate(TimeSpan.Zero), o),
            o => Assert.IsType<FenceOutput.RemoveStale>(o),
            o => Assert.IsType<FenceOutput.Read>(o));
    }

    [Fact]
    public void The_deadline_counts_from_before_the_call_and_the_gate_opens_before_the_addresses_come()
    {
        Given();
        At(0, new FenceInput.Started());
        See(0.001, null);
        At(1, new FenceInput.TimersDue());
        Assert.Equal(new LeaseVersion(1, 1), Says<FenceOutput.Commit>().Record.Version);
        CommitSucceeds(1.5);
        var deadline = TimeSpan.FromSeconds(1) + FenceTiming.Default.HolderTime(TimeSpan.FromSeconds(4));
        Assert.Equal(deadline, _node.Deadline);
        Assert.Equal(new FenceOutput.SetGate(deadline), _said[1]);
        Assert.IsType<FenceOutput.Permit>(_said[2]);
        Assert.True(deadline < TimeSpan.FromSeconds(5));
    }

    [Fact]
    public void A_reply_after_the_deadline_opens_nothing()
    {
        Given();
        At(0, new FenceInput.Started());
        See(0.001, null);
        At(1, new FenceInput.TimersDue());
        CommitSucceeds(9);
        Assert.NotEqual(FenceState.Holder, _node.State);
        Assert.DoesNotContain(_said, o => o is FenceOutput.SetGate or FenceOutput.Permit);
    }

    [Fact]
    public void A_candidate_counts_from_its_own_first_sight_of_the_last_renewal()
    {
        Given();
        At(0, new FenceInput.Started());
        See(0.001, HeldBy("b", 1));
        See(1, HeldBy("b", 1));
        At(1.5, new FenceInput.LeaseObserved(HeldBy("b", 1), _revision, 1));
        Assert.Equal(TimeSpan.FromSeconds(1 + 4.002), FenceRules.EligibleAt(_node));
        Assert.Equal(TimeSpan.FromSeconds(1 + 4.002 + 0.121875), FenceRules.AcquireAt(_node));
        At(5.2, new FenceInput.TimersDue());
        var commit = Says<FenceOutput.Commit>();
        Assert.Equal((_revision, 1), (commit.GuardRevision, commit.GuardIncarnation));
        Assert.Equal(new LeaseVersion(1, 2), commit.Record.Version);
    }

    [Fact]
    public void An_unknown_outcome_is_read_again_before_anything_else()
    {
        Given();
        BecomeHolder();
        At(1.3, new FenceInput.TimersDue());
        var renewal = Says<FenceOutput.Commit>();
        var deadline = _node.Deadline;
        At(2.2, new FenceInput.TimersDue());
        Assert.IsType<FenceOutput.Read>(Assert.Single(_said));
        At(2.3, new FenceInput.CommitReplied(renewal.Id, CommitOutcome.Committed, 9));
        Assert.Equal(deadline, _node.Deadline);
        See(2.4, HeldBy("a", 1));
        Assert.Equal(_revision, Says<FenceOutput.Commit>().GuardRevision);
    }

    [Fact]
    public void At_the_deadline_the_holder_is_silent_without_a_word_on_the_wire()
    {
        Given();
        BecomeHolder();
        At(60, new FenceInput.TimersDue());
        Assert.False(Says<FenceOutput.Revoke>().Graceful);
        Assert.Equal(TimeSpan.Zero, Says<FenceOutput.SetGate>().Deadline);
        Assert.NotEqual(FenceState.Holder, _node.State);
    }

    [Fact]
    public void A_release_goes_to_the_registry_after_address_and_gate()
    {
        Given();
        BecomeHolder();
        At(0.5, new FenceInput.PriorityChanged(0, "interface eth0 is down"));
        var order = _said.Select(o => o.GetType()).ToList();
        Assert.True(order.IndexOf(typeof(FenceOutput.Revoke)) < order.IndexOf(typeof(FenceOutput.SetGate)));
        Assert.True(order.IndexOf(typeof(FenceOutput.SetGate)) < order.IndexOf(typeof(FenceOutput.Commit)));
        Assert.Null(Says<FenceOutput.Commit>().Record.Holder);
        CommitSucceeds(0.6);
        At(30, new FenceInput.TimersDue());
        Assert.DoesNotContain(_said, o => o is FenceOutput.Commit);
        At(31, new FenceInput.PriorityChanged(100, "mended"));
        See(31.1, HeldBy(null, 1));
        At(31.3, new FenceInput.TimersDue());
        Assert.Equal("a", Says<FenceOutput.Commit>().Record.Holder);
    }

    [Fact]
    public void A_release_waits_for_the_renewal_on_its_way()
    {
        Given();
        BecomeHolder();
        At(1.3, new FenceInput.TimersDue());
        At(1.4, new FenceInput.Withdraw("stopped"));
        Assert.DoesNotContain(_said, o => o is FenceOutput.Commit);
        CommitSucceeds(1.5);
        Assert.Null(Says<FenceOutput.Commit>().Record.Holder);
        Assert.Equal(FenceState.Fenced, _node.State);
        CommitSucceeds(1.6);
        Assert.False(_node.ReleaseWanted);
        At(60, new FenceInput.TimersDue());
        Assert.DoesNotContain(_said, o => o is FenceOutput.Commit);
    }

    [Fact]
    public void A_higher_priority_bids_and_is_released_to()
    {
        Given(Config with { PreemptDelay = TimeSpan.FromSeconds(3) }, priority: 150);
        At(0, new FenceInput.Started());
        See(0.1, HeldBy("b", 1));
        Assert.DoesNotContain(_said, o => o is FenceOutput.PlaceBid);
        See(1.1, HeldBy("b", 1));
        See(3.2, HeldBy("b", 1));
        Assert.Equal(150, Says<FenceOutput.PlaceBid>().Priority);
        See(3.3, HeldBy(null, 1) with { ReleasedTo = "a" });
        Assert.Equal("a", Says<FenceOutput.Commit>().Record.Holder);
    }

    [Fact]
    public void The_holder_yields_to_a_better_bid_and_lets_the_bidder_go_first()
    {
        Given();
        BecomeHolder();
        At(0.5, new FenceInput.BidObserved("b", 100, Forced: false));
        Assert.Equal(FenceState.Holder, _node.State);
        At(0.6, new FenceInput.BidObserved("b", 101, Forced: false));
        Assert.True(Says<FenceOutput.Revoke>().Graceful);
        Assert.Equal("b", Says<FenceOutput.Commit>().Record.ReleasedTo);
        CommitSucceeds(0.7);
        Assert.True(FenceRules.AcquireAt(_node) > TimeSpan.FromSeconds(0.7) + FenceTiming.Default.RenewInterval);
    }

    [Fact]
    public void A_move_by_an_operator_is_not_bid_back()
    {
        Given(priority: 200);
        BecomeHolder();
        At(0.5, new FenceInput.BidObserved("b", 1, Forced: true));
        Assert.True(Says<FenceOutput.Commit>().Record is { Holder: null, Pinned: true, ReleasedTo: "b" });
        CommitSucceeds(0.6);
        See(0.7, HeldBy("b", 2, priority: 1) with { Pinned = true });
        See(9, HeldBy("b", 2, priority: 1) with { Pinned = true });
        Assert.DoesNotContain(_said, o => o is FenceOutput.PlaceBid);
    }

    [Fact]
    public void A_new_incarnation_grants_nothing_for_the_longest_ttl_but_keeps_a_living_holder()
    {
        Given();
        At(0, new FenceInput.Started());
        See(0.1, HeldBy(null, 5));
        _revision = 0;
        See(0.11, HeldBy(null, 3), incarnation: 2);
        Assert.True(FenceRules.EligibleAt(_node) >= TimeSpan.FromSeconds(10.11));

        _revision = 0;
        Given();
        BecomeHolder();
        _revision = 40;
        See(0.5, HeldBy("b", 1) with { Version = new LeaseVersion(1, 0) }, incarnation: 2);
        Assert.Equal(FenceState.Holder, _node.State);
        Assert.Equal(new LeaseVersion(2, 1), Says<FenceOutput.Commit>().Record.Version);
        CommitSucceeds(0.6);
        Assert.Equal(new LeaseVersion(2, 1), _node.Version);
    }

    [Fact]
    public void Losing_the_lease_unexpectedly_shuts_the_gate_and_alarms()
    {
        Given();
        BecomeHolder();
        See(0.5, HeldBy("b", 7));
        Assert.Equal(FenceState.Fenced, _node.State);
        Says<FenceOutput.Alarm>();
    }

    [Fact]
    public void Hold_all_goes_on_only_while_every_peer_promises()
    {
        Given(Config with { Policy = StoreLossPolicy.HoldAll, Peers = ["a", "b", "c"] });
        BecomeHolder();
        At(1.3, new FenceInput.TimersDue());
        At(2.1, new FenceInput.TimersDue());
        var ask = Says<FenceOutput.AskPromises>();
        Assert.Equal(["b", "c"], ask.Peers.Order());
        var before = _node.Deadline;
        At(2.2, new FenceInput.PromiseAnswered("b", ask.Round, true, _node.Version));
        Assert.Equal(before, _node.Deadline);
        At(2.3, new FenceInput.PromiseAnswered("c", ask.Round, true, _node.Version));
        Assert.Equal(TimeSpan.FromSeconds(2.1) + FenceTiming.Default.HolderTime(TimeSpan.FromSeconds(4)), _node.Deadline);
        At(3.1, new FenceInput.TimersDue());
        At(3.2, new FenceInput.PromiseAnswered("b", _node.Round!.Id, false, new LeaseVersion(1, 9)));
        Assert.Equal(FenceState.Fenced, _node.State);
    }

    [Fact]
    public void A_promise_binds_and_is_not_given_by_who_may_be_acquiring_or_has_just_started()
    {
        Given(Config with { Policy = StoreLossPolicy.HoldAll });
        var version = new LeaseVersion(1, 1);
        var ask = new FenceInput.PromiseAsked("b", 7, version, TimeSpan.FromSeconds(4));
        At(0, new FenceInput.Started());
        See(0.1, HeldBy("b", 1) with { Policy = StoreLossPolicy.HoldAll });
        At(0.2, ask);
        Assert.False(Says<FenceOutput.AnswerPromise>().Granted);
        See(4.05, HeldBy("b", 1) with { Policy = StoreLossPolicy.HoldAll });
        At(4.1, ask);
        Assert.True(Says<FenceOutput.AnswerPromise>().Granted);
        Assert.Equal(TimeSpan.FromSeconds(4.1 + 4.002), FenceRules.EligibleAt(_node));
        At(8.3, new FenceInput.TimersDue());
        Says<FenceOutput.Commit>();
        At(8.4, ask);
        Assert.False(Says<FenceOutput.AnswerPromise>().Granted);
        At(9.2, new FenceInput.TimersDue());
        Assert.NotNull(_node.InDoubt);
        At(9.3, ask);
        Assert.False(Says<FenceOutput.AnswerPromise>().Granted);
        See(9.4, HeldBy("b", 1) with { Policy = StoreLossPolicy.HoldAll });
        At(9.5, ask);
        Assert.True(Says<FenceOutput.AnswerPromise>().Granted);
    }

    [Fact]
    public void Who_is_not_asked_for_promises_waits_the_longest_holding_out()
    {
        Given(Config with { Policy = StoreLossPolicy.HoldAll, Node = "z" });
        At(0, new FenceInput.Started());
        See(0.1, HeldBy(null, 1) with { Policy = StoreLossPolicy.HoldAll, MaxHold = TimeSpan.FromMinutes(10) });
        Assert.True(FenceRules.EligibleAt(_node) > TimeSpan.FromMinutes(10));
    }

    [Fact]
    public void Plain_vrrp_runs_only_while_the_registry_is_lost_and_says_so()
    {
        Given(Config with { Policy = StoreLossPolicy.Vrrp });
        BecomeHolder();
        while (_node.State != FenceState.Unfenced && _now < TimeSpan.FromSeconds(30))
            At(_node.NextTimer.TotalSeconds, new FenceInput.TimersDue());
        Assert.Contains(_said, o => o is FenceOutput.Alarm);
        Assert.Contains(new FenceOutput.RunUnfenced(true), _said);
        Assert.Equal(TimeSpan.MaxValue, Says<FenceOutput.SetGate>().Deadline);
        Assert.InRange(_now.TotalSeconds, 4, 6);
        At(20, new FenceInput.TimersDue());
        See(20.1, HeldBy("a", 1));
        Assert.Contains(new FenceOutput.RunUnfenced(false), _said);
        Assert.Contains(new FenceOutput.SetGate(TimeSpan.Zero), _said);
    }

    [Fact]
    public void Timing_that_leaves_no_room_is_refused()
    {
        var bad = FenceTiming.Default with { Ttl = TimeSpan.FromSeconds(1.5) };
        Assert.StartsWith("ttl:", Assert.Throws<ArgumentException>(bad.Validate).Message, StringComparison.Ordinal);
        FenceTiming.Default.Validate();
        FenceTiming.Fast.Validate();
    }
}
