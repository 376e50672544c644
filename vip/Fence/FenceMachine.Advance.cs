namespace OverlayNet.Vip.Fence;

public static partial class FenceMachine
{
    private sealed partial class Stepper
    {
        /// <summary>What is due by the clock: time-outs, renewals, acquisitions, bids, promises.</summary>
        private void Advance()
        {
            if (Node.Pending is { } pending && now >= pending.SentAt + Timing.CommitTimeout)
            {
                Node = Node with { Pending = null };
                Doubt(pending);
                Read();
            }

            if (Node.PendingRead is { } read && now >= read.SentAt + Timing.CommitTimeout)
            {
                Node = Node with { PendingRead = null, StoreSilent = true };
                Read();
            }

            if (Node.State == FenceState.Unfenced && !Node.StoreSilent)
                Refence("the registry is back");
            if (Node.Pending is null && Node.PendingRead is null)
                UseRegistry();
            Bid();
            AskPromises();
            if (Config.Policy == StoreLossPolicy.Vrrp && Node.State is FenceState.Fenced or FenceState.Candidate && !Node.Withdrawn &&
                Node.StoreSilent && now >= FenceRules.UnfenceAt(Node))
                Unfence();
        }

        private void UseRegistry()
        {
            if (Node.State == FenceState.Holder)
            {
                if (now >= Node.RenewAt)
                    Commit(CommitPurpose.Renew, Record(Node.Version.Epoch, Pinned));
                return;
            }

            if (Node.ReleaseWanted && Node.OwnsRecord)
            {
                Commit(CommitPurpose.Release, Node.Lease!.Record! with { Holder = null, ReleasedTo = Node.ReleaseTo, Pinned = Node.ReleasePinned });
                return;
            }

            if (FenceRules.AcquireAt(Node) is { } acquireAt)
            {
                var eligible = now >= FenceRules.EligibleAt(Node);
                Transition(eligible ? FenceState.Candidate : FenceState.Fenced, eligible ? "the lease is free" : "another holds the lease");
                if (now >= acquireAt)
                {
                    Commit(CommitPurpose.Acquire, Record((Node.Lease!.Record?.Version.Epoch ?? 0) + 1, Pinned && Node.Lease.Record!.ReleasedTo == Config.Node));
                    return;
                }
            }
            else if (Node.State == FenceState.Candidate)
                Transition(FenceState.Fenced, "not fit to hold the lease");

            if (now >= Node.RenewAt)
                Read();
        }

        private LeaseRecord Record(long epoch, bool pinned) => new()
        {
            Holder = Config.Node,
            Pinned = pinned,
            Version = new LeaseVersion(Node.Incarnation, epoch),
            Ttl = Timing.Ttl,
            Priority = Node.Priority,
            Policy = Config.Policy,
            MaxHold = Timing.MaxHold,
            Peers = Config.Peers,
        };

        private void Commit(CommitPurpose purpose, LeaseRecord record)
        {
            var id = NextId();
            Node = Node with { Pending = new PendingCommit(id, purpose, record, now) };
            Outputs.Add(new FenceOutput.Commit(id, record, Node.Lease!.Revision, Node.Incarnation));
        }

        private void Read()
        {
            var id = NextId();
            Node = Node with { PendingRead = (id, now), RenewAt = now + ContactInterval };
            Outputs.Add(new FenceOutput.Read(id));
        }

        private long NextId()
        {
            Node = Node with { LastId = Node.LastId + 1 };
            return Node.LastId;
        }

        private void Doubt(PendingCommit pending)
        {
            Node = Node with { StoreSilent = true };
            if (pending.Purpose == CommitPurpose.Acquire)
                Node = Node with { InDoubt = Node.Lease!.Revision };
        }

        // Preemption: nobody advertises but the holder, so a better node says so in the registry and is given the lease.
        private void Bid()
        {
            var record = Node.Lease?.Record;
            var outranks = Node.State != FenceState.Holder && Config.Preempt && !Node.Withdrawn && Node.Priority > 0 &&
                record is { Holder: not null, Pinned: false } && !Node.OwnsRecord && record.Priority < Node.Priority;
            Node = Node with { OutranksSince = outranks ? Node.OutranksSince ?? now : null };
            if (!outranks || now < Node.OutranksSince + Config.PreemptDelay || now < Node.NextBidAt)
                return;
            Node = Node with { NextBidAt = now + ContactInterval };
            Outputs.Add(new FenceOutput.PlaceBid(Node.Priority));
        }

        private IEnumerable<string> PeersToAsk =>
            Config.Peers.Union(Node.Lease?.Record?.Peers ?? []).Where(p => p != Config.Node);

        // Every peer of the lease must promise, in one round counted from before the round was sent: a majority would leave
        // a minority that sees the registry free to acquire.
        private void AskPromises()
        {
            if (Config.Policy != StoreLossPolicy.HoldAll || Node.State != FenceState.Holder || !Node.StoreSilent || now < Node.NextRoundAt)
                return;
            var id = NextId();
            Node = Node with { Round = new PromiseRound(id, now, []), NextRoundAt = now + Timing.RenewInterval };
            Outputs.Add(new FenceOutput.AskPromises(Node.Round.Id, Node.Version, Timing.Ttl, [.. PeersToAsk]));
            CountPromises(Node.Round);
        }

        private void AnswerPromise(FenceInput.PromiseAsked asked)
        {
            var known = Node.State == FenceState.Holder ? Node.Version : Node.Lease?.Record?.Version ?? default;
            var granted = Node.State is FenceState.Fenced or FenceState.Candidate && known <= asked.Version &&
                Node.InDoubt is null && Node.Pending is not { Purpose: CommitPurpose.Acquire } &&
                now >= Node.StartedAt + Timing.CandidateTime(asked.Ttl);
            if (granted)
                Node = Node with { PromisedUntil = Later(Node.PromisedUntil, now + Timing.CandidateTime(asked.Ttl)) };
            Outputs.Add(new FenceOutput.AnswerPromise(asked.Holder, asked.Round, granted, known));
        }

        private void TakePromise(FenceInput.PromiseAnswered answered)
        {
            if (Node.State != FenceState.Holder)
                return;
            if (answered.Known > Node.Version)
            {
                Alarm($"{answered.Peer} knows version {answered.Known} of {Config.VipSet}, held here at {Node.Version}");
                Drop(graceful: false, $"{answered.Peer} knows a newer version");
                return;
            }

            if (Node.Round is not { } round || round.Id != answered.Round || !answered.Granted)
                return;
            round = round with { Promised = round.Promised.Add(answered.Peer) };
            Node = Node with { Round = round };
            CountPromises(round);
        }

        private void CountPromises(PromiseRound round)
        {
            if (!PeersToAsk.All(round.Promised.Contains))
                return;
            var longest = Node.RenewedAt + Timing.HolderTime(Timing.MaxHold);
            Prolong(Earlier(round.SentAt + Timing.HolderTime(Timing.Ttl), longest));
        }

        private void Unfence()
        {
            Alarm($"UNFENCED: {Config.VipSet} runs plain VRRP because the registry is lost; two owners are possible");
            Transition(FenceState.Unfenced, "the registry is lost");
            Outputs.Add(new FenceOutput.SetGate(TimeSpan.MaxValue));
            Outputs.Add(new FenceOutput.RunUnfenced(true));
        }

        private void Refence(string reason)
        {
            Outputs.Add(new FenceOutput.RunUnfenced(false));
            Outputs.Add(new FenceOutput.SetGate(TimeSpan.Zero));
            Transition(FenceState.Fenced, reason);
        }

        private static TimeSpan Later(TimeSpan a, TimeSpan b) => a > b ? a : b;
    }
}
