using System.Security.Cryptography;
using OverlayNet.Vip.Fence;

namespace OverlayNet.UnitTests.Vip.Fence;

/// <summary>
/// Makes worlds that behave alike equal: times relative to now and cut off where they no longer matter, ids, revisions
/// and epochs by rank, what cannot have an effect left out.
/// </summary>
internal static class FenceModelEncoding
{
    private const int Past = -40;
    private static readonly TimeSpan Never = TimeSpan.FromTicks(40);

    public static void Shift(FenceModel.Node node, int step, bool relativeGate)
    {
        if (step == 0)
            return;
        var by = TimeSpan.FromTicks(step);
        var fence = node.Fence;
        node.Fence = fence with
        {
            StartedAt = fence.StartedAt - by,
            Lease = fence.Lease is { } lease ? lease with { ObservedAt = lease.ObservedAt - by } : null,
            IncarnationSeenAt = fence.IncarnationSeenAt - by,
            Deadline = fence.State == FenceState.Holder ? fence.Deadline - by : TimeSpan.Zero,
            RenewedAt = fence.RenewedAt - by,
            Pending = fence.Pending is { } pending ? pending with { SentAt = pending.SentAt - by } : null,
            PendingRead = fence.PendingRead is { } read ? (read.Id, read.SentAt - by) : null,
            LastContact = fence.LastContact - by,
            RenewAt = fence.RenewAt - by,
            PromisedUntil = fence.PromisedUntil - by,
            Round = fence.Round is { } round ? round with { SentAt = round.SentAt - by } : null,
            NextRoundAt = fence.NextRoundAt - by,
        };
        node.Gate -= step;
        if (!relativeGate)
            node.Todo = [.. node.Todo.Select(o => o is FenceOutput.SetGate set && set.Deadline != TimeSpan.Zero
                ? new FenceOutput.SetGate(NotZero(set.Deadline - by)) : o)];
    }

    // Zero means "shut"; a deadline that has just passed means the same.
    private static TimeSpan NotZero(TimeSpan deadline) => deadline > TimeSpan.Zero ? deadline : TimeSpan.Zero;

    public static void Normalise(FenceModel.World world, FenceModelOptions options)
    {
        for (var i = 0; i < world.Nodes.Length; i++)
        {
            var node = world.Own(i);
            CutTimes(node, options);
            DropTheIneffective(node, world, options.Mutation == FenceMutation.CommitUnguarded);
            RankIds(node, world, i);
        }

        RankRevisions(world);
        RankEpochs(world);
    }

    private static void CutTimes(FenceModel.Node node, FenceModelOptions options)
    {
        var fence = node.Fence;
        var timing = options.Timing;
        var ttl = timing.CandidateTime(timing.Ttl);
        var holdAll = options.Policy == StoreLossPolicy.HoldAll;
        static TimeSpan AtLeast(TimeSpan value, TimeSpan least) => value < least ? least : value;
        var holder = fence.State == FenceState.Holder;
        var waits = fence.Lease?.Record is { } record && (record.Holder ?? record.ReleasedTo) is not null && !fence.OwnsRecord && !holder;
        // A holder's read follows a renewal that went unanswered: the next renewal is due at once.
        var renewAt = !holder ? Never : fence.PendingRead is null ? AtLeast(fence.RenewAt, TimeSpan.Zero) : TimeSpan.Zero;
        node.Fence = fence with
        {
            StartedAt = holdAll ? AtLeast(fence.StartedAt, -ttl) : TimeSpan.Zero,
            Lease = fence.Lease is { } lease ? lease with { ObservedAt = waits ? AtLeast(lease.ObservedAt, -ttl) : TimeSpan.Zero } : null,
            IncarnationSeenAt = fence.Incarnation > 1 ? AtLeast(fence.IncarnationSeenAt, -timing.CandidateTime(timing.LongestTtl)) : TimeSpan.Zero,
            Deadline = holder ? AtLeast(fence.Deadline, TimeSpan.Zero) : TimeSpan.Zero,
            Version = holder ? fence.Version : default,
            RenewAt = renewAt,
            RenewedAt = !holder ? TimeSpan.Zero : holdAll ? AtLeast(fence.RenewedAt, -timing.MaxHold) : renewAt - timing.RenewInterval,
            Pending = fence.Pending is { } pending ? pending with { SentAt = AtLeast(pending.SentAt, -ttl) } : null,
            PendingRead = fence.PendingRead is { } read ? (read.Id, TimeSpan.Zero) : null,
            LastContact = TimeSpan.Zero,
            LastTransitionAt = TimeSpan.Zero,
            LastTransitionReason = "",
            PromisedUntil = fence.PromisedUntil <= TimeSpan.Zero ? -Never : fence.PromisedUntil,
            Round = holder && fence.Round is { } round ? round with { SentAt = AtLeast(round.SentAt, -ttl) } : null,
            NextRoundAt = holdAll && holder ? AtLeast(fence.NextRoundAt, TimeSpan.Zero) : TimeSpan.Zero,
            StoreSilent = holdAll && holder && fence.StoreSilent,
            InDoubt = holdAll ? fence.InDoubt : null,
        };
        var closed = -options.GateLateness;
        node.Gate = node.Gate <= closed ? Past : node.Gate;
    }

    private static void DropTheIneffective(FenceModel.Node node, FenceModel.World world, bool unguarded)
    {
        var fence = node.Fence;
        node.Requests = node.Requests.RemoveAll(r => !unguarded && r.Id != fence.Pending?.Id &&
            (r.GuardRevision < world.Revision || r.GuardIncarnation < world.Incarnation));
        if (node.Reply is { } reply && reply.Id != fence.Pending?.Id)
            node.Reply = null;
        if (fence.State != FenceState.Holder || fence.Round is null || node.Answer?.Round != fence.Round.Id)
            node.Answer = node.Answer is { } answer && fence.State == FenceState.Holder && answer.Known > fence.Version ? answer : null;
    }

    private static void RankIds(FenceModel.Node node, FenceModel.World world, int self)
    {
        var fence = node.Fence;
        var used = Bit(fence.Pending?.Id) | Bit(fence.PendingRead?.Id) | Bit(fence.Round?.Id);
        if (IsRanked(used) && fence.LastId == System.Numerics.BitOperations.PopCount(used & ~1UL) && !Stale(node, used))
            return;
        long Rank(long id) => (used & 1UL << (int)id & ~1UL) == 0 ? 0 : FenceModelEncoding.Rank(used, id);

        node.Fence = node.Fence with
        {
            LastId = System.Numerics.BitOperations.PopCount(used & ~1UL),
            Pending = node.Fence.Pending is { } p ? p with { Id = Rank(p.Id) } : null,
            PendingRead = node.Fence.PendingRead is { } r ? (Rank(r.Id), r.SentAt) : null,
            Round = node.Fence.Round is { } o ? o with { Id = Rank(o.Id) } : null,
        };
        node.Requests = [.. node.Requests.Select(q => q with { Id = Rank(q.Id) })];
        node.Todo = [.. node.Todo.Select(q => WithId(q, Rank))];
        if (node.Reply is { } reply)
            node.Reply = reply with { Id = Rank(reply.Id) };
        if (node.Answer is { } a)
            node.Answer = a with { Round = Rank(a.Round) };

        // Rounds this node asked for live with its peers too.
        for (var peer = 0; peer < world.Nodes.Length; peer++)
        {
            var other = world.Nodes[peer];
            if (other.Ask is { } asked && asked.Holder == FenceModel.Name(self))
                world.Own(peer).Ask = asked with { Round = Rank(asked.Round) };
            if (other.Todo.Any(t => t is FenceOutput.AnswerPromise))
                world.Own(peer).Todo = [.. other.Todo.Select(t => t is FenceOutput.AnswerPromise answer && answer.Holder == FenceModel.Name(self)
                    ? answer with { Round = Rank(answer.Round) } : t)];
        }
    }

    private static ulong Bit(long? id) => id is { } bit ? 1UL << (int)bit : 0;

    private static bool Stale(FenceModel.Node node, ulong used) =>
        node.Requests.Any(r => r.Id != 0 && (used & Bit(r.Id)) == 0) || node.Todo.Any(t => t is FenceOutput.Commit or FenceOutput.AskPromises);

    private static FenceOutput WithId(FenceOutput output, Func<long, long> rank) => output switch
    {
        FenceOutput.Commit commit => commit with { Id = rank(commit.Id) },
        FenceOutput.AskPromises ask => ask with { Round = rank(ask.Round) },
        _ => output,
    };

    // Only the order of revisions and of epochs matters.
    private static void RankRevisions(FenceModel.World world)
    {
        var seen = 1UL << (int)world.Revision | 1UL << (int)world.Backup.Revision;
        foreach (var node in world.Nodes)
        {
            seen |= 1UL << (int)(node.Fence.Lease?.Revision ?? 0) | 1UL << (int)(node.Fence.InDoubt ?? 0) | 1UL << (int)(node.Reply?.Revision ?? 0);
            foreach (var request in node.Requests)
                seen |= 1UL << (int)request.GuardRevision;
            foreach (var output in node.Todo)
                seen |= output is FenceOutput.Commit commit ? 1UL << (int)commit.GuardRevision : 0;
        }

        if (!IsRanked(seen))
            Map(world, revision => Rank(seen, revision), epoch => epoch);
    }

    private static void RankEpochs(FenceModel.World world)
    {
        static ulong Bit(LeaseRecord? record) => record is null ? 0 : 1UL << (int)record.Version.Epoch;
        static ulong Of(FenceOutput output) => output switch
        {
            FenceOutput.Commit commit => Bit(commit.Record),
            FenceOutput.AskPromises ask => 1UL << (int)ask.Version.Epoch,
            FenceOutput.AnswerPromise answer => 1UL << (int)answer.Known.Epoch,
            _ => 0,
        };
        var seen = Bit(world.Record) | Bit(world.Backup.Record);
        foreach (var node in world.Nodes)
        {
            seen |= 1UL << (int)node.Fence.Version.Epoch | Bit(node.Fence.Lease?.Record) | Bit(node.Fence.Pending?.Record);
            foreach (var request in node.Requests)
                seen |= Of(request);
            foreach (var output in node.Todo)
                seen |= Of(output);
            seen |= node.Ask is null ? 0 : 1UL << (int)node.Ask.Version.Epoch;
            seen |= node.Answer is null ? 0 : 1UL << (int)node.Answer.Known.Epoch;
        }

        if (!IsRanked(seen))
            Map(world, revision => revision, epoch => Rank(seen, epoch));
    }

    // Bit n: the value n occurs. 0 stands for "none" and keeps its place.
    private static bool IsRanked(ulong seen) => ((seen | 1) & ((seen | 1) + 1)) == 0;

    private static long Rank(ulong seen, long value) =>
        value == 0 ? 0 : System.Numerics.BitOperations.PopCount(seen & ~1UL & ((1UL << (int)value) - 1)) + 1;

    private static void Map(FenceModel.World world, Func<long, long> revision, Func<long, long> epoch)
    {
        LeaseVersion V(LeaseVersion v) => v with { Epoch = epoch(v.Epoch) };
        LeaseRecord? R(LeaseRecord? r) => r is null ? null : r with { Version = V(r.Version) };
        FenceOutput O(FenceOutput o) => o switch
        {
            FenceOutput.Commit c => c with { Record = R(c.Record)!, GuardRevision = revision(c.GuardRevision) },
            FenceOutput.AskPromises a => a with { Version = V(a.Version) },
            FenceOutput.AnswerPromise a => a with { Known = V(a.Known) },
            _ => o,
        };

        world.Record = R(world.Record);
        world.Revision = revision(world.Revision);
        world.Backup = (R(world.Backup.Record), revision(world.Backup.Revision));
        for (var i = 0; i < world.Nodes.Length; i++)
        {
            var node = world.Nodes[i];
            node.Fence = node.Fence with
            {
                Version = V(node.Fence.Version),
                Lease = node.Fence.Lease is { } lease ? lease with { Record = R(lease.Record), Revision = revision(lease.Revision) } : null,
                Pending = node.Fence.Pending is { } pending ? pending with { Record = R(pending.Record)! } : null,
                InDoubt = node.Fence.InDoubt is { } doubt ? revision(doubt) : null,
            };
            node.Todo = [.. node.Todo.Select(O)];
            node.Requests = [.. node.Requests.Select(c => (FenceOutput.Commit)O(c))];
            if (node.Reply is { Outcome: CommitOutcome.Committed } reply)
                node.Reply = reply with { Revision = revision(reply.Revision) };
            if (node.Ask is { } ask)
                node.Ask = ask with { Version = V(ask.Version) };
            if (node.Answer is { } answer)
                node.Answer = answer with { Known = V(answer.Known) };
        }
    }

    /// <summary>
    /// 128 bits that tell a normalised world from every other. With exact clocks the nodes are alike, and worlds that
    /// differ only in who is who have one key.
    /// </summary>
    public static UInt128 Key(FenceModel.World world, bool nodesAlike)
    {
        Span<int> order = stackalloc int[world.Nodes.Length];
        for (var i = 0; i < order.Length; i++)
            order[i] = i;
        var least = Hash(world, order);
        if (!nodesAlike)
            return least;
        // Heap's algorithm for two and three nodes: every order by swaps.
        (int, int)[] swaps = order.Length == 2 ? [(0, 1)] : [(0, 1), (0, 2), (0, 1), (0, 2), (0, 1)];
        foreach (var (a, b) in swaps)
        {
            (order[a], order[b]) = (order[b], order[a]);
            var hash = Hash(world, order);
            least = hash < least ? hash : least;
        }

        return least;
    }

    // The node at place p is world.Nodes[order[p]].
    private static UInt128 Hash(FenceModel.World world, ReadOnlySpan<int> order)
    {
        Span<byte> place = stackalloc byte[order.Length];
        for (var p = 0; p < order.Length; p++)
            place[order[p]] = (byte)p;
        var writer = new Writer(stackalloc byte[2048], place);
        writer.Record(world.Record);
        writer.Put(world.Revision, world.Incarnation, world.Phase, world.BackupTaken ? 1 : 0, world.Backup.Revision);
        writer.Record(world.Backup.Record);
        foreach (var node in order)
            writer.Node(world.Nodes[node]);
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(writer.Written, hash);
        return new UInt128(BitConverter.ToUInt64(hash), BitConverter.ToUInt64(hash[8..]));
    }

    private ref struct Writer(Span<byte> buffer, ReadOnlySpan<byte> place)
    {
        private readonly Span<byte> _buffer = buffer;
        private readonly ReadOnlySpan<byte> _place = place;
        private int _length;

        private readonly int Place(string node) => _place[node[0] - 'A'];

        public readonly ReadOnlySpan<byte> Written => _buffer[.._length];

        public void Put(params ReadOnlySpan<long> values)
        {
            foreach (var value in values)
                _buffer[_length++] = checked((byte)(value + 64));
        }

        public void Record(LeaseRecord? record)
        {
            if (record is null)
            {
                Put(-1);
                return;
            }

            Put(record.Holder is null ? 0 : Place(record.Holder) + 1, record.Version.Incarnation, record.Version.Epoch, record.ReleasedTo is null ? 0 : 1);
        }

        public void Node(FenceModel.Node node)
        {
            var fence = node.Fence;
            Put((long)fence.State, fence.Incarnation, fence.Version.Incarnation, fence.Version.Epoch, fence.LastId, node.Gate,
                node.Drifted ? 1 : 0, node.Stuck ? 1 : 0, fence.StoreSilent ? 1 : 0, fence.ReleaseWanted ? 1 : 0, fence.InDoubt ?? -1);
            Put(fence.StartedAt.Ticks, fence.IncarnationSeenAt.Ticks, fence.Deadline.Ticks, fence.RenewedAt.Ticks, fence.RenewAt.Ticks,
                fence.PromisedUntil.Ticks, fence.NextRoundAt.Ticks, fence.ReleaseTo is null ? 0 : 1);
            Put(fence.Lease is null ? -1 : fence.Lease.Revision, fence.Lease?.ObservedAt.Ticks ?? 0);
            Record(fence.Lease?.Record);
            Put(fence.Pending is null ? -1 : (long)fence.Pending.Purpose, fence.Pending?.Id ?? 0, fence.Pending?.SentAt.Ticks ?? 0);
            Record(fence.Pending?.Record);
            Put(fence.PendingRead?.Id ?? -1, fence.PendingRead?.SentAt.Ticks ?? 0);
            Put(fence.Round?.Id ?? -1, fence.Round?.SentAt.Ticks ?? 0);
            var promised = 0;
            foreach (var peer in fence.Round?.Promised ?? [])
                promised |= 1 << Place(peer);
            Put(promised);
            Put(-2, node.Todo.Length);
            foreach (var output in node.Todo)
                Output(output);
            Put(node.Requests.Length);
            foreach (var output in node.Requests)
                Output(output);
            Put(node.Reply is null ? -1 : (long)node.Reply.Outcome, node.Reply?.Id ?? 0, node.Reply?.Revision ?? 0);
            Put(node.Ask is null ? -1 : Place(node.Ask.Holder), node.Ask?.Round ?? 0, node.Ask?.Version.Incarnation ?? 0, node.Ask?.Version.Epoch ?? 0);
            Put(node.Answer is null ? -1 : Place(node.Answer.Peer), node.Answer?.Round ?? 0, node.Answer is { Granted: true } ? 1 : 0,
                node.Answer?.Known.Incarnation ?? 0, node.Answer?.Known.Epoch ?? 0);
        }

        private void Output(FenceOutput output)
        {
            switch (output)
            {
                case FenceOutput.SetGate set:
                    Put(1, set.Deadline.Ticks);
                    break;
                case FenceOutput.Commit commit:
                    Put(2, commit.Id, commit.GuardRevision, commit.GuardIncarnation);
                    Record(commit.Record);
                    break;
                case FenceOutput.AskPromises ask:
                    Put(4, ask.Round, ask.Version.Incarnation, ask.Version.Epoch);
                    break;
                case FenceOutput.AnswerPromise answer:
                    Put(5, Place(answer.Holder), answer.Round, answer.Granted ? 1 : 0, answer.Known.Incarnation, answer.Known.Epoch);
                    break;
            }
        }
    }
}
