namespace OverlayNet.Vip.Fence;

/// <summary>When a node may ask for a lease: the rules that keep two gates from being open at once.</summary>
public static class FenceRules
{
    /// <summary>
    /// The earliest moment at which no other node's gate can be open, on this node's clock; null while nothing is known.
    /// </summary>
    /// <remarks>
    /// Counted from this node's own first sight of the last renewal, which is later than the moment the holder counts
    /// from. The commit is guarded on exactly that revision, so a renewal this node has not seen makes it fail.
    /// </remarks>
    public static TimeSpan? EligibleAt(FenceNode node)
    {
        if (node.Lease is not { } lease)
            return null;
        var timing = node.Config.Timing;
        var record = lease.Record;
        var at = lease.ObservedAt;

        // Held by another: its last renewal must have run out. Held by this node's earlier life: that life's gate is shut.
        if (record?.Holder is { } holder && holder != node.Config.Node)
            at += timing.CandidateTime(record.Ttl);

        // A record of an older incarnation may be a rolled-back one: whoever held the lost ones must have run out. A
        // record of this incarnation proves that this has been waited for.
        if (node.Incarnation > (record?.Version.Incarnation ?? FirstIncarnation))
            at = Later(at, node.IncarnationSeenAt + timing.CandidateTime(timing.LongestTtl) + HoldGrace(node, record));

        // A promise binds over a restart that forgot it, and whoever is not asked for promises waits the holding out,
        // whatever the record says: a commit that was on its way for long may have rewritten it.
        if (record is { Policy: StoreLossPolicy.HoldAll })
        {
            at = Later(at, node.StartedAt + timing.CandidateTime(record.Ttl));
            if (!record.Peers.Contains(node.Config.Node))
                at = Later(at, lease.ObservedAt + timing.CandidateTime(record.MaxHold + record.Ttl));
        }

        return Later(at, node.PromisedUntil);
    }

    /// <summary>When this node asks for the lease: when eligible and after its rank's wait; null when it must not.</summary>
    public static TimeSpan? AcquireAt(FenceNode node)
    {
        if (node.Priority == 0 || node.Withdrawn || node.ReleaseWanted || node.State is FenceState.Holder or FenceState.Unfenced)
            return null;
        return EligibleAt(node) is { } eligible ? eligible + RankDelay(node) : null;
    }

    /// <summary>With <see cref="StoreLossPolicy.Vrrp"/>: when the registry counts as lost.</summary>
    public static TimeSpan UnfenceAt(FenceNode node) =>
        node.LastContact + node.Config.Timing.CandidateTime(node.Config.Timing.Ttl);

    private const long FirstIncarnation = 1;

    private static TimeSpan RankDelay(FenceNode node)
    {
        var timing = node.Config.Timing;
        var record = node.Lease!.Record;
        if (node.OwnsRecord || record?.ReleasedTo == node.Config.Node)
            return TimeSpan.Zero;
        var skew = timing.Skew(node.Priority);
        return record?.ReleasedTo is null ? skew : skew + timing.RenewInterval;
    }

    private static TimeSpan HoldGrace(FenceNode node, LeaseRecord? record) =>
        node.Config.Policy == StoreLossPolicy.HoldAll && !(record?.Peers.Contains(node.Config.Node) ?? false)
            ? node.Config.Timing.MaxHold
            : TimeSpan.Zero;

    private static TimeSpan Later(TimeSpan a, TimeSpan b) => a > b ? a : b;
}
