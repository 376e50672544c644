using OverlayNet.Vip.Health;

namespace OverlayNet.UnitTests.Vip.Health;

public sealed class HealthRuleTests
{
    [Fact]
    public void One_lost_reply_changes_nothing()
    {
        var standing = Passing();
        standing = standing.Next(ProbeOutcome.NoAnswer, 3, 2);
        Assert.Equal((Verdict.Passing, true), (standing.Verdict, standing.Suspect));
        standing = standing.Next(ProbeOutcome.Pass, 3, 2);
        Assert.Equal((Verdict.Passing, false, 0), (standing.Verdict, standing.Suspect, standing.Fails));
    }

    [Fact]
    public void So_many_failures_in_a_row_make_it_failing_and_so_many_successes_passing()
    {
        var standing = Passing();
        for (var i = 0; i < 2; i++)
            Assert.Equal(Verdict.Passing, (standing = standing.Next(ProbeOutcome.BadAnswer, 3, 2)).Verdict);
        Assert.Equal(Verdict.Failing, (standing = standing.Next(ProbeOutcome.Refused, 3, 2)).Verdict);
        Assert.Equal(Verdict.Failing, (standing = standing.Next(ProbeOutcome.Warn, 3, 2)).Verdict);
        Assert.Equal(Verdict.Passing, standing.Next(ProbeOutcome.Pass, 3, 2).Verdict);
    }

    [Fact]
    public void The_end_of_its_process_is_final_at_once() =>
        Assert.Equal(Verdict.Failing, Passing().Next(ProbeOutcome.Gone, 3, 2).Verdict);

    [Fact]
    public void Gaps_stay_within_their_range_and_differ_from_round_to_round()
    {
        var interval = TimeSpan.FromSeconds(5);
        var gaps = Enumerable.Range(0, 1000).Select(round => CheckSchedule.Gap("endpoint", round, interval)).ToList();
        Assert.All(gaps, gap => Assert.InRange(gap, interval * CheckSchedule.Shortest, interval * CheckSchedule.Longest));
        Assert.True(gaps.Distinct().Count() > 990);
    }

    [Fact]
    public void Three_failures_of_a_black_hole_are_seen_after_10_to_16_seconds()
    {
        var (interval, timeout) = (TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(1));
        for (var key = 0; key < 2000; key++)
        {
            var gaps = Enumerable.Range(1, 3).Select(round => CheckSchedule.Gap($"e{key}", round, interval)).ToArray();
            // The hole opens right before a check, or right after one.
            Assert.InRange(gaps[0] + gaps[1] + timeout, TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(16));
            Assert.InRange(gaps[0] + gaps[1] + gaps[2] + timeout, TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(16));
        }
    }

    [Fact]
    public void Ten_thousand_first_checks_fill_the_interval_evenly()
    {
        var interval = TimeSpan.FromSeconds(5);
        var buckets = new int[50];
        for (var i = 0; i < 10_000; i++)
            buckets[(int)(CheckSchedule.First($"0123456789ab{i:x4}", interval) / interval * buckets.Length)]++;
        Assert.All(buckets, count => Assert.InRange(count, 140, 260));
    }

    [Theory]
    [InlineData(2, 2, false)]
    [InlineData(3, 1, false)]
    [InlineData(3, 2, true)]
    [InlineData(10, 5, false)]
    [InlineData(10, 6, true)]
    public void A_prober_whose_targets_are_mostly_silent_is_distrusted(int targets, int silent, bool distrusted) =>
        Assert.Equal(distrusted, ProberTrust.Distrusted(targets, silent));

    [Theory]
    // Owner's verdict and last result, trusted; peers asked, passing, failing, overdue; confirm.
    [InlineData(Verdict.Passing, ProbeOutcome.NoAnswer, true, 2, 0, 0, false, false, Ruling.Keep)]
    [InlineData(Verdict.Failing, ProbeOutcome.Refused, true, 2, 0, 0, false, false, Ruling.Withdraw)]
    [InlineData(Verdict.Failing, ProbeOutcome.Refused, true, 2, 0, 0, false, true, Ruling.Wait)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 0, 0, 0, false, false, Ruling.Withdraw)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 2, 0, 1, false, false, Ruling.Wait)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 2, 0, 0, true, false, Ruling.Withdraw)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 2, 0, 2, false, false, Ruling.Withdraw)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 2, 1, 1, false, false, Ruling.Withdraw)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 2, 2, 0, false, false, Ruling.OneSided)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, true, 1, 1, 0, false, false, Ruling.OneSided)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, false, 0, 0, 0, false, false, Ruling.Keep)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, false, 2, 0, 2, false, false, Ruling.Withdraw)]
    [InlineData(Verdict.Failing, ProbeOutcome.NoAnswer, false, 2, 2, 0, false, false, Ruling.OneSided)]
    [InlineData(Verdict.Unknown, ProbeOutcome.NoAnswer, false, 2, 0, 2, false, false, Ruling.Withdraw)]
    [InlineData(Verdict.Unknown, ProbeOutcome.NoAnswer, false, 2, 2, 0, false, false, Ruling.Keep)]
    public void Verdicts_are_combined(Verdict owner, ProbeOutcome outcome, bool trusted, int asked, int passing, int failing, bool overdue, bool confirm, Ruling ruling) =>
        Assert.Equal(ruling, Jury.Judge(new Ballot(owner, outcome, trusted, asked, passing, failing, overdue), confirm));

    [Fact]
    public void One_of_three_may_go_and_two_at_once_are_questioned()
    {
        GuardedMember[] members = [Member("a"), Member("b"), Member("c")];
        Assert.Empty(ShrinkGuard.Questioned(members, new HashSet<string> { "a" }, 50));
        Assert.Equal(["a", "b"], ShrinkGuard.Questioned(members, new HashSet<string> { "a", "b" }, 50).Keys.Order());
    }

    [Fact]
    public void A_subset_counts_for_itself()
    {
        GuardedMember[] members = [Member("a", "tag=gray"), .. Enumerable.Range(0, 9).Select(i => Member($"b{i}"))];
        Assert.Equal("tag=gray", ShrinkGuard.Questioned(members, new HashSet<string> { "a" }, 50)["a"]);
        Assert.Empty(ShrinkGuard.Questioned(members, new HashSet<string> { "b1" }, 50));
    }

    [Fact]
    public void All_but_the_tagged_are_questioned()
    {
        GuardedMember[] members = [Member("a", "tag=gray"), Member("b"), Member("c"), Member("d")];
        Assert.Equal(["b", "c", "d"], ShrinkGuard.Questioned(members, new HashSet<string> { "b", "c", "d" }, 50).Keys.Order());
    }

    [Theory]
    [InlineData(3, 0, 0, false)]
    [InlineData(1, 2, 0, false)]
    [InlineData(0, 3, 0, true)]
    [InlineData(0, 0, 50, false)]
    [InlineData(4, 6, 50, true)]
    [InlineData(5, 5, 50, false)]
    public void Panic_begins_when_too_few_pass(int serving, int failing, int percent, bool on) => Assert.Equal(on, Panic.On(serving, failing, percent));

    [Fact]
    public void Who_comes_back_begins_at_a_quarter_and_reaches_all_of_it_when_the_window_is_over()
    {
        var times = new HealthTimes(10_000, 30_000);
        var status = HealthMachine.Next(new HealthStatus(HealthPhase.Unhealthy, 0, 0), Ruling.Keep, true, false, false, times, 20_000);
        Assert.Equal(new HealthStatus(HealthPhase.Recovering, 20_000, 2), status);
        Assert.Equal(2, HealthMachine.Next(status, Ruling.Keep, true, false, false, times, 24_999).Eighths);
        Assert.Equal(5, HealthMachine.Next(status, Ruling.Keep, true, false, false, times, 35_000).Eighths);
        // Healthy since the ramp began: nobody begins another one.
        Assert.Equal(new HealthStatus(HealthPhase.Healthy, 20_000, 0), HealthMachine.Next(status, Ruling.Keep, true, false, false, times, 50_000));
    }

    [Fact]
    public void A_clock_that_steps_back_takes_no_weight_away()
    {
        var status = new HealthStatus(HealthPhase.Recovering, 20_000, 5);
        Assert.Equal(status, HealthMachine.Next(status, Ruling.Keep, true, false, false, new HealthTimes(0, 30_000), 10_000));
    }

    [Fact]
    public void Nothing_becomes_healthy_without_passing()
    {
        foreach (var phase in Enum.GetValues<HealthPhase>().Where(p => p is not HealthPhase.Healthy and not HealthPhase.Recovering))
            Assert.Equal(phase, HealthMachine.Next(new HealthStatus(phase, 0, 0), Ruling.Keep, false, false, false, new HealthTimes(0, 0), 1_000_000).Phase);
    }

    private static RiseFall Passing() => default(RiseFall).Next(ProbeOutcome.Pass, 3, 2).Next(ProbeOutcome.Pass, 3, 2);

    private static GuardedMember Member(string id, params string[] subsets) => new(id, true, subsets);
}
