using System.Collections.Immutable;

namespace OverlayNet.Vip.Fence;

/// <summary>What a node may do with a floating VIP.</summary>
public enum FenceState
{
    /// <summary>No right: no address, no advertisement, gate shut.</summary>
    Fenced,

    /// <summary>The lease is free and this node is about to ask for it, or has asked; still no right.</summary>
    Candidate,

    /// <summary>The lease is held and its deadline lies ahead.</summary>
    Holder,

    /// <summary>The registry is lost and the policy is <see cref="StoreLossPolicy.Vrrp"/>: plain VRRP, no guarantee.</summary>
    Unfenced,
}

/// <summary>How a guarded commit ended.</summary>
public enum CommitOutcome
{
    Committed,

    /// <summary>The guard did not hold: nothing was written.</summary>
    Conflict,

    /// <summary>No answer, or one that does not tell: the write may have happened or may still happen.</summary>
    Unknown,
}

/// <summary>What can happen to a fence.</summary>
public abstract record FenceInput
{
    private FenceInput()
    {
    }

    /// <summary>Once, first: whatever an earlier process left is shut and removed.</summary>
    public sealed record Started : FenceInput;

    /// <summary>Time has reached <see cref="FenceNode.NextTimer"/>; harmless when it has not.</summary>
    public sealed record TimersDue : FenceInput;

    /// <summary>
    /// The lease as the registry has it, from a watch or a read.
    /// </summary>
    /// <param name="Record">Null: the key does not exist.</param>
    /// <param name="Revision">The key's modification revision; 0 when absent. Ordered within an incarnation only.</param>
    /// <param name="ReadId">The read this answers; null from a watch.</param>
    public sealed record LeaseObserved(LeaseRecord? Record, long Revision, long Incarnation, long? ReadId = null) : FenceInput;

    /// <param name="Revision">With <see cref="CommitOutcome.Committed"/>: the key's new revision.</param>
    public sealed record CommitReplied(long Id, CommitOutcome Outcome, long Revision = 0) : FenceInput;

    /// <summary>Tracking's verdict; 0: this node must not hold the VIP.</summary>
    public sealed record PriorityChanged(int Priority, string Reason) : FenceInput;

    /// <summary>A bid appeared in the registry.</summary>
    /// <param name="Forced">An operator's move: priorities do not matter.</param>
    public sealed record BidObserved(string Node, int Priority, bool Forced) : FenceInput;

    /// <summary>The daemon stops, or the VIP is removed: give the lease back and stay out.</summary>
    public sealed record Withdraw(string Reason) : FenceInput;

    /// <summary>A holder without the registry asks for a promise.</summary>
    public sealed record PromiseAsked(string Holder, long Round, LeaseVersion Version, TimeSpan Ttl) : FenceInput;

    /// <summary>A peer's answer.</summary>
    /// <param name="Known">The highest version the peer knows.</param>
    public sealed record PromiseAnswered(string Peer, long Round, bool Granted, LeaseVersion Known) : FenceInput;
}

/// <summary>What a fence asks of the world, to be done in order: a later one rests on the earlier ones being done.</summary>
public abstract record FenceOutput
{
    private FenceOutput()
    {
    }

    /// <summary>The absolute moment at which the kernel shuts the gate; <see cref="TimeSpan.Zero"/>: shut now.</summary>
    public sealed record SetGate(TimeSpan Deadline) : FenceOutput;

    /// <summary>Own the addresses: add, advertise, announce.</summary>
    public sealed record Permit(LeaseVersion Version, TimeSpan Deadline) : FenceOutput;

    /// <summary>The right was prolonged: refresh the addresses' lifetime.</summary>
    public sealed record Prolong(TimeSpan Deadline) : FenceOutput;

    /// <param name="Graceful">The gate is still open: the priority-0 advertisement may be sent first.</param>
    public sealed record Revoke(bool Graceful, string Reason) : FenceOutput;

    /// <summary>Remove addresses an earlier process left.</summary>
    public sealed record RemoveStale : FenceOutput;

    /// <summary>Write the lease if its key is still at this revision of this incarnation.</summary>
    public sealed record Commit(long Id, LeaseRecord Record, long GuardRevision, long GuardIncarnation) : FenceOutput;

    /// <summary>Read the lease with quorum.</summary>
    public sealed record Read(long Id) : FenceOutput;

    /// <summary>Write or refresh this node's bid in the registry.</summary>
    public sealed record PlaceBid(int Priority) : FenceOutput;

    public sealed record AskPromises(long Round, LeaseVersion Version, TimeSpan Ttl, ImmutableArray<string> Peers) : FenceOutput;

    public sealed record AnswerPromise(string Holder, long Round, bool Granted, LeaseVersion Known) : FenceOutput;

    /// <summary>Run plain VRRP (true), or stop doing so (false).</summary>
    public sealed record RunUnfenced(bool On) : FenceOutput;

    public sealed record Transition(FenceState From, FenceState To, string Reason) : FenceOutput;

    public sealed record Alarm(string Text) : FenceOutput;
}
