using System.Collections.Immutable;

namespace OverlayNet.Vip.Fence;

/// <summary>The static side of a fence: one VIP set on one node.</summary>
public sealed record FenceConfig
{
    public required string VipSet { get; init; }

    /// <summary>This node's id.</summary>
    public required string Node { get; init; }

    public required FenceTiming Timing { get; init; }
    public StoreLossPolicy Policy { get; init; } = StoreLossPolicy.Release;
    public bool Preempt { get; init; } = true;

    /// <summary>How long this node must have been fit before it bids against a lower priority.</summary>
    public TimeSpan PreemptDelay { get; init; }

    /// <summary>All nodes that may hold the set, this one included: frozen into the lease under <see cref="StoreLossPolicy.HoldAll"/>.</summary>
    public ImmutableArray<string> Peers { get; init; } = [];
}

/// <summary>The lease as last seen, and when this node first saw that revision (on its own clock).</summary>
public sealed record ObservedLease(LeaseRecord? Record, long Revision, TimeSpan ObservedAt);

/// <summary>What a commit on its way is for.</summary>
public enum CommitPurpose
{
    Acquire,
    Renew,
    Release,
}

/// <param name="SentAt">Taken before the call: every right counts from here, never from the reply.</param>
public sealed record PendingCommit(long Id, CommitPurpose Purpose, LeaseRecord Record, TimeSpan SentAt);

/// <summary>A round of promises without the registry.</summary>
public sealed record PromiseRound(long Id, TimeSpan SentAt, ImmutableHashSet<string> Promised);

/// <summary>
/// One fence's whole state as a value. Times are readings of this node's boot-time clock (which goes on during suspend).
/// </summary>
public sealed record FenceNode
{
    public required FenceConfig Config { get; init; }
    public FenceState State { get; init; } = FenceState.Fenced;
    public int Priority { get; init; }
    public TimeSpan StartedAt { get; init; }

    /// <summary>Null until the registry has been seen.</summary>
    public ObservedLease? Lease { get; init; }

    public long Incarnation { get; init; }
    public TimeSpan IncarnationSeenAt { get; init; }

    /// <summary>When <see cref="FenceState.Holder"/>: the token held.</summary>
    public LeaseVersion Version { get; init; }

    /// <summary>When <see cref="FenceState.Holder"/>: the end of the right.</summary>
    public TimeSpan Deadline { get; init; }

    /// <summary>When the last renewal that the registry acknowledged was sent.</summary>
    public TimeSpan RenewedAt { get; init; }

    public PendingCommit? Pending { get; init; }
    public (long Id, TimeSpan SentAt)? PendingRead { get; init; }

    /// <summary>The last answer or event from the registry.</summary>
    public TimeSpan LastContact { get; init; }

    /// <summary>When the next renewal (holder) or contact check (others) is due.</summary>
    public TimeSpan RenewAt { get; init; }

    /// <summary>An operation on the registry went unanswered and none has been answered since.</summary>
    public bool StoreSilent { get; init; }

    /// <summary>This node's lease is to be given back as soon as the registry can be written.</summary>
    public bool ReleaseWanted { get; init; }
    public string? ReleaseTo { get; init; }
    public bool ReleasePinned { get; init; }
    public bool Withdrawn { get; init; }

    /// <summary>
    /// The revision an acquisition of unknown outcome was guarded on: until the key has moved beyond it, that commit may
    /// still happen, and this node promises nothing.
    /// </summary>
    public long? InDoubt { get; init; }

    /// <summary>Promised not to acquire before then.</summary>
    public TimeSpan PromisedUntil { get; init; }
    public PromiseRound? Round { get; init; }
    public TimeSpan NextRoundAt { get; init; }

    /// <summary>Since when this node is fit and outranks the holder; null when it does not.</summary>
    public TimeSpan? OutranksSince { get; init; }
    public TimeSpan NextBidAt { get; init; }

    public long LastId { get; init; }
    public TimeSpan LastTransitionAt { get; init; }
    public string LastTransitionReason { get; init; } = "";

    public bool OwnsRecord => Lease?.Record?.Holder == Config.Node;

    public static FenceNode Create(FenceConfig config, int priority)
    {
        config.Timing.Validate();
        return new FenceNode { Config = config, Priority = priority };
    }

    /// <summary>When <see cref="FenceInput.TimersDue"/> is wanted.</summary>
    public TimeSpan NextTimer
    {
        get
        {
            var timing = Config.Timing;
            var next = TimeSpan.MaxValue;
            void At(TimeSpan at) => next = at < next ? at : next;

            if (Pending is not null)
                At(Pending.SentAt + timing.CommitTimeout);
            if (PendingRead is { } read)
                At(read.SentAt + timing.CommitTimeout);
            if (Pending is null && PendingRead is null)
                At(RenewAt);
            if (State == FenceState.Holder)
            {
                At(Deadline);
                if (Config.Policy == StoreLossPolicy.HoldAll && StoreSilent)
                    At(NextRoundAt);
                return next;
            }

            if (Pending is null && PendingRead is null && FenceRules.AcquireAt(this) is { } acquireAt)
                At(acquireAt);
            if (OutranksSince is { } since)
                At(Later(since + Config.PreemptDelay, NextBidAt));
            if (Config.Policy == StoreLossPolicy.Vrrp && StoreSilent && State != FenceState.Unfenced && !Withdrawn)
                At(FenceRules.UnfenceAt(this));
            return next;
        }
    }

    private static TimeSpan Later(TimeSpan a, TimeSpan b) => a > b ? a : b;
}
