using System.Collections.Immutable;
using OverlayNet.Vip.Fence;

namespace OverlayNet.UnitTests.Vip.Fence;

/// <summary>Deliberate faults, each of which must let two gates be open at once.</summary>
public enum FenceMutation
{
    None,

    /// <summary>The deadline counts from when the reply arrived instead of from before the call.</summary>
    DeadlineFromReply,

    /// <summary>The gate shuts only when the process says so.</summary>
    UserSpaceTimer,

    /// <summary>The gate is given a duration that starts when it is written.</summary>
    RelativeTimeout,

    /// <summary>The store writes whatever revision the key is at.</summary>
    CommitUnguarded,

    /// <summary>A release is told to the registry before the gate shuts.</summary>
    ReleaseBeforeShut,

    /// <summary>A guest that was paused: its clock stood still while the others' went on. Not covered; bounded elsewhere.</summary>
    ClockStandsStill,

    /// <summary>A restored registry grants leases at once.</summary>
    NoGraceAfterRestore,

    /// <summary>Peers promise and acquire all the same.</summary>
    PromiseBroken,
}

/// <summary>What the model explores. One time unit is one tick of <see cref="TimeSpan"/>.</summary>
public sealed record FenceModelOptions
{
    public required int Nodes { get; init; }
    public required FenceTiming Timing { get; init; }
    public StoreLossPolicy Policy { get; init; } = StoreLossPolicy.Release;

    /// <summary>
    /// In every window of this many ticks the first node's clock may once stand still and the others' once jump by two;
    /// 0: clocks are exact. Only a slow holder and a fast candidate are dangerous, and the nodes are alike but for this.
    /// </summary>
    public int DriftWindow { get; init; }

    /// <summary>How late the kernel may shut the gate: the truth, whatever <see cref="Timing"/> believes.</summary>
    public int GateLateness { get; init; } = 1;

    /// <summary>Whether nodes may give the VIP up and take it again by themselves.</summary>
    public bool Releases { get; init; }

    /// <summary>Whether the store may be restored once from a backup taken once.</summary>
    public bool Restores { get; init; }

    public bool Crashes { get; init; } = true;

    /// <summary>Commits of one node on their way at once; a further one is lost, or the oldest is.</summary>
    public int RequestsOnTheWay { get; init; } = 2;
    public FenceMutation Mutation { get; init; }
}

/// <summary>
/// The world of the fence with everything that can be late: processes are not scheduled for any time (SIGSTOP), requests
/// and replies stay on their way for any time or for ever, clocks err within their bound, processes die and start anew.
/// All times in a state are relative to the owning node's now.
/// </summary>
/// <remarks>
/// Left out because something in the model behaves the same: a process stopped before it sends (a request that is late),
/// a read's way to the store and back and its time-out (a watch that tells now or later), a lost reply (one that is never
/// read), stale answers (the candidate counts from when it reads them and its guard fails).
/// </remarks>
internal sealed class FenceModel(FenceModelOptions options)
{
    private const int Past = -40;

    public sealed class Node
    {
        public required FenceNode Fence;

        /// <summary>Outputs decided and not yet done; the process may stop between any two.</summary>
        public ImmutableArray<FenceOutput> Todo = [];

        /// <summary>Commits on their way to the store, oldest first.</summary>
        public ImmutableArray<FenceOutput.Commit> Requests = [];
        public FenceInput.CommitReplied? Reply;
        public FenceInput.PromiseAsked? Ask;
        public FenceInput.PromiseAnswered? Answer;

        /// <summary>The kernel's deadline; it outlives the process.</summary>
        public int Gate = Past;
        public bool Drifted;

        /// <summary>For the user-space timer mutation: the gate is open until the process shuts it.</summary>
        public bool Stuck;

        public Node Clone() => (Node)MemberwiseClone();
    }

    public sealed class World
    {
        public required Node[] Nodes;
        public LeaseRecord? Record;
        public long Revision;
        public long Incarnation = 1;
        public int Phase;
        public bool BackupTaken;
        public (LeaseRecord? Record, long Revision) Backup;

        public World Clone() => new()
        {
            Nodes = [.. Nodes],
            Record = Record,
            Revision = Revision,
            Incarnation = Incarnation,
            Phase = Phase,
            BackupTaken = BackupTaken,
            Backup = Backup,
        };

        public Node Own(int i) => Nodes[i] = Nodes[i].Clone();
    }

    public World Initial()
    {
        var world = new World { Nodes = new Node[options.Nodes] };
        for (var i = 0; i < options.Nodes; i++)
        {
            world.Nodes[i] = Boot(i, Past);
            world.Nodes[i].Todo = [];
        }

        FenceModelEncoding.Normalise(world, options);
        return world;
    }

    public bool IsOpen(Node node) =>
        options.Mutation == FenceMutation.UserSpaceTimer ? node.Stuck : node.Gate + options.GateLateness > 0;

    /// <summary>Every next world with what happened, in words.</summary>
    public IEnumerable<(string Action, World Next)> Successors(World world)
    {
        foreach (var tick in Ticks(world))
            yield return tick;
        for (var i = 0; i < world.Nodes.Length; i++)
        {
            foreach (var next in NodeActions(world, i))
                yield return next;
            for (var r = 0; r < world.Nodes[i].Requests.Length; r++)
                yield return StoreAnswers(world, i, r);
        }

        if (!options.Restores)
            yield break;
        if (!world.BackupTaken)
        {
            var next = world.Clone();
            next.BackupTaken = true;
            next.Backup = (world.Record, world.Revision);
            yield return ("a backup of the registry is taken", next);
        }
        else if (world.Incarnation == 1)
        {
            var next = world.Clone();
            (next.Record, next.Revision) = world.Backup;
            next.Incarnation = 2;
            next.Backup = default;
            yield return ("the registry is restored from the backup", next);
        }
    }

    private IEnumerable<(string, World)> NodeActions(World world, int i)
    {
        var node = world.Nodes[i];
        IEnumerable<(string, World)> actions = [];
        void Add(FenceInput input, string words, Action<Node>? consume = null) => actions = actions.Concat(Give(world, i, input, $"{Name(i)} {words}", consume));

        if (options.Crashes && (node.Fence.State != FenceState.Fenced || node.Todo.Length > 0 || node.Fence.PromisedUntil > TimeSpan.Zero))
        {
            var next = world.Clone();
            var reborn = Boot(i, node.Gate);
            (reborn.Requests, reborn.Drifted, reborn.Stuck) = (node.Requests, node.Drifted, node.Stuck);
            next.Nodes[i] = reborn;
            actions = Settle($"{Name(i)} dies and starts anew", next, i);
        }

        if (node.Todo.Length > 0)
            return actions.Concat(DoNext(world, i).SelectMany(done => Settle(done.Item1, done.Item2, i)));
        if (node.Reply is { } reply)
            Add(reply, $"reads the store's reply: {reply.Outcome}", n => n.Reply = null);
        if (node.Fence.PendingRead is { } read)
            Add(Seen(world, read.Id), $"reads the lease: {Words(world.Record)}");
        if (node.Ask is { } ask)
            Add(ask, $"is asked by {ask.Holder} for a promise", n => n.Ask = null);
        if (node.Answer is { } answer)
            Add(answer, $"reads {answer.Peer}'s answer: {(answer.Granted ? "promised" : "refused")}", n => n.Answer = null);
        if (node.Fence.NextTimer <= TimeSpan.Zero)
            Add(new FenceInput.TimersDue(), "runs its timers");
        if (node.Fence.Lease is { } known && (known.Revision != world.Revision || node.Fence.Incarnation != world.Incarnation))
            Add(Seen(world, null), $"sees the lease by its watch: {Words(world.Record)}");
        if (options.Releases && node.Fence.State == FenceState.Holder)
            Add(new FenceInput.BidObserved("bidder", 0, Forced: true), "is asked to give the VIP up");
        return actions;
    }

    private IEnumerable<(string, World)> Give(World world, int i, FenceInput input, string words, Action<Node>? consume)
    {
        var next = world.Clone();
        var node = next.Own(i);
        consume?.Invoke(node);
        if (options.Mutation == FenceMutation.DeadlineFromReply && input is FenceInput.CommitReplied && node.Fence.Pending is { } pending)
            node.Fence = node.Fence with { Pending = pending with { SentAt = TimeSpan.Zero } };
        var before = node.Fence.State;
        (node.Fence, var outputs) = FenceMachine.Step(node.Fence, TimeSpan.Zero, input);
        if (options.Mutation == FenceMutation.NoGraceAfterRestore)
            node.Fence = node.Fence with { IncarnationSeenAt = TimeSpan.FromTicks(Past) };
        if (options.Mutation == FenceMutation.PromiseBroken)
            node.Fence = node.Fence with { PromisedUntil = TimeSpan.FromTicks(Past) };
        node.Todo = Relevant(outputs);
        return Settle(before == node.Fence.State ? words : $"{words}, {before} -> {node.Fence.State}", next, i);
    }

    // What is done at once without hiding any history: sending (a late request covers a late sender) and shutting the gate
    // (a process that stops just before it covers one that stops before it decided). Opening the gate may be late.
    private IEnumerable<(string, World)> Settle(string words, World world, int i)
    {
        var todo = world.Nodes[i].Todo;
        var atOnce = todo.Length > 0 && (todo[0] is not FenceOutput.SetGate set ||
            (set.Deadline == TimeSpan.Zero && options.Mutation != FenceMutation.ReleaseBeforeShut));
        if (!atOnce)
        {
            yield return (words, world);
            yield break;
        }

        foreach (var (more, next) in DoNext(world, i))
            foreach (var settled in Settle($"{words}; {more}", next, i))
                yield return settled;
    }

    private ImmutableArray<FenceOutput> Relevant(ImmutableArray<FenceOutput> outputs)
    {
        var relevant = outputs.Where(o => o is FenceOutput.SetGate or FenceOutput.Commit or
            FenceOutput.AskPromises or FenceOutput.AnswerPromise);
        if (options.Mutation == FenceMutation.ReleaseBeforeShut)
            relevant = relevant.OrderBy(o => o is FenceOutput.SetGate { Deadline.Ticks: 0 } ? 1 : 0);
        return [.. relevant];
    }

    private IEnumerable<(string, World)> DoNext(World world, int i)
    {
        var output = world.Nodes[i].Todo[0];
        World Start(out Node node)
        {
            var next = world.Clone();
            node = next.Own(i);
            node.Todo = node.Todo.RemoveAt(0);
            return next;
        }

        switch (output)
        {
            case FenceOutput.SetGate set:
                {
                    var next = Start(out var node);
                    node.Gate = set.Deadline == TimeSpan.Zero ? Past : (int)set.Deadline.Ticks;
                    node.Stuck = set.Deadline != TimeSpan.Zero;
                    yield return ($"{Name(i)} sets its gate: {(set.Deadline == TimeSpan.Zero ? "shut" : $"open for {set.Deadline.Ticks}")}", next);
                    break;
                }

            case FenceOutput.Commit commit:
                {
                    var next = Start(out var node);
                    if (node.Requests.Length < options.RequestsOnTheWay)
                    {
                        node.Requests = node.Requests.Add(commit);
                        yield return ($"{Name(i)} sends {Words(commit)}", next);
                        break;
                    }

                    yield return ($"{Name(i)} sends {Words(commit)}, which is lost", next);
                    var other = Start(out node);
                    node.Requests = node.Requests.RemoveAt(0).Add(commit);
                    yield return ($"{Name(i)} sends {Words(commit)}; its oldest request is lost", other);
                    break;
                }

            case FenceOutput.AskPromises ask:
                {
                    var next = Start(out _);
                    for (var peer = 0; peer < next.Nodes.Length; peer++)
                        if (ask.Peers.Contains(Name(peer)))
                            next.Own(peer).Ask = new FenceInput.PromiseAsked(Name(i), ask.Round, ask.Version, ask.Ttl);
                    yield return ($"{Name(i)} asks its peers for promises", next);
                    break;
                }

            case FenceOutput.AnswerPromise answer:
                {
                    var next = Start(out _);
                    for (var holder = 0; holder < next.Nodes.Length; holder++)
                        if (Name(holder) == answer.Holder)
                            next.Own(holder).Answer = new FenceInput.PromiseAnswered(Name(i), answer.Round, answer.Granted, answer.Known);
                    yield return ($"{Name(i)} {(answer.Granted ? "promises" : "refuses")} {answer.Holder}", next);
                    break;
                }
        }
    }

    private (string, World) StoreAnswers(World world, int i, int r)
    {
        var next = world.Clone();
        var node = next.Own(i);
        var commit = node.Requests[r];
        node.Requests = node.Requests.RemoveAt(r);
        var fits = options.Mutation == FenceMutation.CommitUnguarded ||
            (commit.GuardRevision == world.Revision && commit.GuardIncarnation == world.Incarnation);
        if (fits)
        {
            next.Record = commit.Record;
            next.Revision = world.Revision + 1;
            node.Reply = new FenceInput.CommitReplied(commit.Id, CommitOutcome.Committed, next.Revision);
        }
        else
            node.Reply = new FenceInput.CommitReplied(commit.Id, CommitOutcome.Conflict);
        return ($"the store {(fits ? "takes" : "refuses")} {Name(i)}'s {Words(commit)}", next);
    }

    // One tick of true time. Within its drift window each clock may once stand still or once jump by two.
    private IEnumerable<(string, World)> Ticks(World world)
    {
        var steps = new int[world.Nodes.Length];
        return Choose(0);

        IEnumerable<(string, World)> Choose(int i)
        {
            if (i == steps.Length)
            {
                yield return Advance();
                yield break;
            }

            foreach (var step in Steps(world.Nodes[i], i))
            {
                steps[i] = step;
                foreach (var next in Choose(i + 1))
                    yield return next;
            }
        }

        (string, World) Advance()
        {
            var next = world.Clone();
            next.Phase = options.DriftWindow == 0 ? 0 : (world.Phase + 1) % options.DriftWindow;
            for (var i = 0; i < steps.Length; i++)
            {
                var node = next.Own(i);
                node.Drifted = options.DriftWindow > 0 && next.Phase != 0 && (node.Drifted || steps[i] != 1);
                FenceModelEncoding.Shift(node, steps[i], options.Mutation == FenceMutation.RelativeTimeout);
            }

            return ($"time passes{string.Concat(steps.Select((s, i) => s == 1 ? "" : s == 0 ? $", {Name(i)}'s clock stands still" : $", {Name(i)}'s clock jumps by two"))}", next);
        }
    }

    private IEnumerable<int> Steps(Node node, int i)
    {
        yield return 1;
        if (options.DriftWindow > 0 && !node.Drifted)
            yield return i == 0 ? 0 : 2;
        else if (options.Mutation == FenceMutation.ClockStandsStill)
            yield return 0;
    }

    private Node Boot(int i, int gate)
    {
        var fence = FenceNode.Create(new FenceConfig
        {
            VipSet = "v",
            Node = Name(i),
            Timing = options.Timing,
            Policy = options.Policy,
            Preempt = false,
            Peers = [.. Enumerable.Range(0, options.Nodes).Select(Name)],
        }, priority: 100);
        (fence, var outputs) = FenceMachine.Step(fence, TimeSpan.Zero, new FenceInput.Started());
        return new Node { Fence = fence, Todo = Relevant(outputs), Gate = gate };
    }

    private static FenceInput Seen(World world, long? read) =>
        new FenceInput.LeaseObserved(world.Record, world.Revision, world.Incarnation, read);

    public static string Name(int i) => ((char)('A' + i)).ToString();

    private static string Words(LeaseRecord? record) => record is null ? "no lease" : $"{record.Holder ?? "released"}, version {record.Version}";

    private static string Words(FenceOutput.Commit commit) =>
        commit.Record.Holder is null ? "a release" : $"a lease for {commit.Record.Holder}, version {commit.Record.Version}";
}
