using System.Collections.Immutable;

namespace OverlayNet.Vip.Fence;

/// <summary>
/// The fence as a pure function: a state, this node's boot-time clock and an input give the next state and what to do.
/// The proof in tests/unit/vip/fence runs this very code through all interleavings.
/// </summary>
public static partial class FenceMachine
{
    public static (FenceNode Node, ImmutableArray<FenceOutput> Outputs) Step(FenceNode node, TimeSpan now, FenceInput input)
    {
        var step = new Stepper(node, now);
        step.Handle(input);
        return (step.Node, step.Outputs.ToImmutable());
    }

    private sealed partial class Stepper(FenceNode node, TimeSpan now)
    {
        public FenceNode Node = node;
        public readonly ImmutableArray<FenceOutput>.Builder Outputs = ImmutableArray.CreateBuilder<FenceOutput>();

        private FenceConfig Config => Node.Config;
        private FenceTiming Timing => Node.Config.Timing;

        public void Handle(FenceInput input)
        {
            // Before anything else: a process that slept through its deadline must not act on what it thought then.
            if (Node.State == FenceState.Holder && now >= Node.Deadline)
                Drop(graceful: false, "the deadline passed without a renewal");

            switch (input)
            {
                case FenceInput.Started:
                    Start();
                    break;
                case FenceInput.LeaseObserved observed:
                    Observe(observed);
                    break;
                case FenceInput.CommitReplied replied when Node.Pending?.Id == replied.Id:
                    Complete(replied);
                    break;
                case FenceInput.PriorityChanged changed:
                    Node = Node with { Priority = changed.Priority, OutranksSince = null };
                    if (changed.Priority == 0)
                        GiveUp(to: null, changed.Reason);
                    break;
                case FenceInput.BidObserved bid:
                    if (Node.State == FenceState.Holder && bid.Node != Config.Node && (bid.Forced || (bid.Priority > Node.Priority && !Pinned)))
                        GiveUp(bid.Node, bid.Forced ? $"moved to {bid.Node}" : $"{bid.Node} bids with priority {bid.Priority}", bid.Forced);
                    break;
                case FenceInput.Withdraw withdraw:
                    Node = Node with { Withdrawn = true };
                    if (Node.State == FenceState.Unfenced)
                        Refence(withdraw.Reason);
                    GiveUp(to: null, withdraw.Reason);
                    break;
                case FenceInput.PromiseAsked asked:
                    AnswerPromise(asked);
                    break;
                case FenceInput.PromiseAnswered answered:
                    TakePromise(answered);
                    break;
            }

            Advance();
        }

        private void Start()
        {
            Node = Node with { StartedAt = now, LastContact = now, RenewAt = now };
            Outputs.Add(new FenceOutput.SetGate(TimeSpan.Zero));
            Outputs.Add(new FenceOutput.RemoveStale());
        }

        private void Observe(FenceInput.LeaseObserved observed)
        {
            if (observed.ReadId is { } id)
            {
                if (Node.PendingRead?.Id != id)
                    return;
                Node = Node with { PendingRead = null };
            }

            if (observed.Incarnation < Node.Incarnation)
                return;
            Contact();
            // The VIP was removed from the registry: there is nothing to give back.
            if (observed is { Record: null, ReadId: not null } && Node.Withdrawn)
                Node = Node with { ReleaseWanted = false };
            if (observed.Incarnation > Node.Incarnation)
            {
                ObserveIncarnation(observed);
                return;
            }

            // The first sight of a revision counts; seeing it again must not make a candidate wait anew.
            if (Node.Lease is { } known && observed.Revision <= known.Revision)
            {
                RenewSoon();
                return;
            }

            TakeLease(observed);
            if (Node.State != FenceState.Holder)
                return;
            if (Node.OwnsRecord && observed.Record!.Version.Epoch == Node.Version.Epoch)
            {
                Node = Node with { Version = observed.Record.Version };
                return;
            }

            Alarm($"the lease of {Config.VipSet} was taken by {observed.Record?.Holder ?? "nobody"} at version {observed.Record?.Version} while held here at {Node.Version}");
            Drop(graceful: false, "the lease was taken away");
        }

        // A restore renumbers revisions and may roll the record back. A holder whose deadline lies ahead knows that nobody
        // has acquired since, so it may assert its lease into the new incarnation; all others wait (FenceRules).
        private void ObserveIncarnation(FenceInput.LeaseObserved observed)
        {
            var first = Node.Incarnation == 0;
            Node = Node with { Incarnation = observed.Incarnation, IncarnationSeenAt = now, InDoubt = null };
            TakeLease(observed);
            if (first)
                return;
            Node = Node with { Pending = null, RenewAt = now };
            Alarm($"the registry is a new incarnation ({observed.Incarnation})");
        }

        private void TakeLease(FenceInput.LeaseObserved observed)
        {
            Node = Node with { Lease = new ObservedLease(observed.Record, observed.Revision, now) };
            if (Node.InDoubt < observed.Revision)
                Node = Node with { InDoubt = null };
            if (!Node.OwnsRecord && Node.State != FenceState.Holder)
                Node = Node with { ReleaseWanted = false };
            RenewSoon();
        }

        // After a read the next renewal is due when the last one says, not when the read's contact check would be.
        private void RenewSoon()
        {
            if (Node.State == FenceState.Holder)
                Node = Node with { RenewAt = Earlier(Node.RenewAt, Node.RenewedAt + Timing.RenewInterval) };
        }

        private void Contact()
        {
            Node = Node with { LastContact = now, StoreSilent = false, Round = null };
            if (Node.State != FenceState.Holder)
                Node = Node with { RenewAt = now + ContactInterval };
        }

        private void Complete(FenceInput.CommitReplied replied)
        {
            var pending = Node.Pending!;
            Node = Node with { Pending = null };
            if (replied.Outcome != CommitOutcome.Committed)
            {
                if (replied.Outcome == CommitOutcome.Unknown)
                    Doubt(pending);
                else
                    Contact();
                Read();
                return;
            }

            Contact();
            // A watch may have told of a later write already.
            if (replied.Revision < Node.Lease!.Revision)
                return;
            Node = Node with { Lease = new ObservedLease(pending.Record, replied.Revision, now) };
            switch (pending.Purpose)
            {
                case CommitPurpose.Acquire:
                    Acquired(pending);
                    break;
                case CommitPurpose.Renew:
                    Renewed(pending);
                    break;
                case CommitPurpose.Release:
                    Node = Node with { ReleaseWanted = false, ReleaseTo = null, ReleasePinned = false };
                    break;
            }
        }

        private void Acquired(PendingCommit pending)
        {
            var deadline = pending.SentAt + Timing.HolderTime(pending.Record.Ttl);
            if (Node.Priority == 0 || Node.Withdrawn)
                Node = Node with { ReleaseWanted = true };
            if (now >= deadline || Node.ReleaseWanted)
            {
                Transition(FenceState.Fenced, "the lease came too late to be used");
                return;
            }

            Node = Node with
            {
                Version = pending.Record.Version,
                Deadline = deadline,
                RenewedAt = pending.SentAt,
                RenewAt = pending.SentAt + Timing.RenewInterval,
                OutranksSince = null,
            };
            Transition(FenceState.Holder, $"acquired version {Node.Version}");
            Outputs.Add(new FenceOutput.SetGate(deadline));
            Outputs.Add(new FenceOutput.Permit(Node.Version, deadline));
        }

        private void Renewed(PendingCommit pending)
        {
            if (Node.State != FenceState.Holder)
                return;
            Node = Node with { Version = pending.Record.Version, RenewedAt = pending.SentAt, RenewAt = pending.SentAt + Timing.RenewInterval };
            Prolong(pending.SentAt + Timing.HolderTime(pending.Record.Ttl));
        }

        private void Prolong(TimeSpan deadline)
        {
            if (deadline <= Node.Deadline)
                return;
            Node = Node with { Deadline = deadline };
            Outputs.Add(new FenceOutput.SetGate(deadline));
            Outputs.Add(new FenceOutput.Prolong(deadline));
        }

        // Gate and addresses go before the registry hears of it: the next holder acts at once.
        private void GiveUp(string? to, string reason, bool pinned = false)
        {
            var held = Node.State == FenceState.Holder;
            if (held)
                Drop(graceful: true, reason);
            if (held || Node.OwnsRecord)
                Node = Node with { ReleaseWanted = true, ReleaseTo = to, ReleasePinned = pinned };
        }

        private void Drop(bool graceful, string reason)
        {
            Outputs.Add(new FenceOutput.Revoke(graceful, reason));
            Outputs.Add(new FenceOutput.SetGate(TimeSpan.Zero));
            Node = Node with { Deadline = TimeSpan.Zero, Round = null };
            Transition(FenceState.Fenced, reason);
        }

        private bool Pinned => Node.Lease?.Record?.Pinned ?? false;

        private TimeSpan ContactInterval => 2 * Timing.RenewInterval;

        private void Transition(FenceState to, string reason)
        {
            if (Node.State == to)
                return;
            Outputs.Add(new FenceOutput.Transition(Node.State, to, reason));
            Node = Node with { State = to, LastTransitionAt = now, LastTransitionReason = reason };
        }

        private void Alarm(string text) => Outputs.Add(new FenceOutput.Alarm(text));

        private static TimeSpan Earlier(TimeSpan a, TimeSpan b) => a < b ? a : b;
    }
}
