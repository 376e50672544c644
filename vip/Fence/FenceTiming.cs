namespace OverlayNet.Vip.Fence;

/// <summary>
/// The times a fence rests on. The holder's right ends, on its own clock, at t_send + T(1-ρ) - K - δ; a candidate waits
/// T(1+ρ) on its own clock from when it saw the last renewal. Clock rates may err by ρ, the gate may close K late.
/// </summary>
public sealed record FenceTiming
{
    /// <summary>T: a renewal's life.</summary>
    public required TimeSpan Ttl { get; init; }

    /// <summary>ρ: the largest error of a clock's rate, as a fraction (0.0005 is 500 ppm).</summary>
    public double Drift { get; init; } = 0.0005;

    /// <summary>K: how late after the deadline the kernel may still let a packet through.</summary>
    public TimeSpan GateLateness { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>δ: packets on their way, and rounding.</summary>
    public TimeSpan Margin { get; init; } = TimeSpan.FromMilliseconds(10);

    public required TimeSpan RenewInterval { get; init; }

    /// <summary>After this a commit or read counts as unknown.</summary>
    public required TimeSpan CommitTimeout { get; init; }

    /// <summary>A candidate of priority p waits (256-p)/256 of this before its bid, so that priority still ranks.</summary>
    public required TimeSpan SkewUnit { get; init; }

    /// <summary>The longest T any lease of this cluster may have: what a new incarnation of the registry waits out.</summary>
    public TimeSpan LongestTtl { get; init; } = TimeSpan.FromSeconds(10);

    public TimeSpan MaxHold { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Outlives the loss of the store's leader (1.2-2.2 s measured) without dropping the VIP.</summary>
    public static FenceTiming Default { get; } = new()
    {
        Ttl = TimeSpan.FromSeconds(4),
        RenewInterval = TimeSpan.FromSeconds(1),
        CommitTimeout = TimeSpan.FromMilliseconds(800),
        SkewUnit = TimeSpan.FromMilliseconds(200),
    };

    /// <summary>
    /// A crash costs less than a second. A store election lasts longer than this T: with <see cref="StoreLossPolicy.HoldAll"/>
    /// the peers' promises bridge it, with <see cref="StoreLossPolicy.Release"/> the VIP drops meanwhile.
    /// </summary>
    public static FenceTiming Fast { get; } = new()
    {
        Ttl = TimeSpan.FromMilliseconds(700),
        RenewInterval = TimeSpan.FromMilliseconds(150),
        CommitTimeout = TimeSpan.FromMilliseconds(120),
        SkewUnit = TimeSpan.FromMilliseconds(50),
    };

    /// <summary>From the moment before the quorum call to the deadline, rounded down.</summary>
    public TimeSpan HolderTime(TimeSpan ttl) =>
        TimeSpan.FromTicks((long)Math.Floor(ttl.Ticks * (1 - Drift))) - GateLateness - Margin;

    /// <summary>From the observation of a renewal to its certain end, rounded up.</summary>
    public TimeSpan CandidateTime(TimeSpan ttl) => TimeSpan.FromTicks((long)Math.Ceiling(ttl.Ticks * (1 + Drift)));

    public TimeSpan Skew(int priority) => SkewUnit * (256 - priority) / 256;

    /// <exception cref="ArgumentException">Names the field, its value and the remedy.</exception>
    public FenceTiming Validate()
    {
        if (Drift is < 0 or > 0.2)
            throw new ArgumentException($"drift: {Drift} is out of range; choose 0 to 0.2 (0.0005 is 500 ppm)");
        if (Ttl > LongestTtl)
            throw new ArgumentException($"ttl: {Ttl.TotalSeconds} s is above the cluster's longest, {LongestTtl.TotalSeconds} s; choose less");
        if (HolderTime(Ttl) < RenewInterval + CommitTimeout)
            throw new ArgumentException($"ttl: {Ttl.TotalSeconds} s leaves no time for one renewal ({RenewInterval.TotalSeconds} s) and its time-out ({CommitTimeout.TotalSeconds} s); choose a longer ttl or shorter renewals");
        return this;
    }
}
