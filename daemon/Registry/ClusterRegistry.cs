using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Tracing;

namespace OverlayNet.Daemon.Registry;

public sealed record ClusterRegistryOptions
{
    public TimeProvider Time { get; init; } = TimeProvider.System;
    public ILogger Logger { get; init; } = NullLogger.Instance;

    /// <summary>Where changes are recorded for people; null: nowhere.</summary>
    public EventLog? Events { get; init; }

    /// <summary>How long a freed address is not given out again, unless nothing else is left.</summary>
    public TimeSpan Quarantine { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Silence after which a node is <see cref="NodeState.Unmanaged"/>.</summary>
    public TimeSpan NodeTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Revisions kept for watchers that come back; who is further behind gets a snapshot.</summary>
    public int FeedRevisions { get; init; } = 4096;
}

/// <summary>The result of a write, and the revision at which it can be seen.</summary>
public readonly record struct Written<T>(T Value, long Revision);

/// <summary>
/// The registry's operations: each is planned on what is in memory, committed to the store in one guarded transaction, and planned
/// again when a guard failed. Memory is fed by the store's watch alone, so other managers' commits and our own come the same way.
/// </summary>
/// <remarks>
/// Every operation throws <see cref="RegistryException"/>; what was written is in <see cref="Current"/> when it returns.
/// A cancelled operation may still be committed.
/// </remarks>
public sealed partial class ClusterRegistry : IAsyncDisposable
{
    private const int MaxAttempts = 100;
    private const int MaxChunk = 20, MaxForgotten = 200;

    /// <summary>Revisions that are told to agents from before this manager's start, and keys from which on a registry is large.</summary>
    private const int Recent = 1000, Large = 20_000;
    private static readonly TimeSpan RecentTimeout = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan WriteTimeout = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan StaleAfter = TimeSpan.FromSeconds(4);
    private static readonly TimeSpan RetryAfterStoreError = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan SweepPeriod = TimeSpan.FromSeconds(30);

    /// <summary>How long it is kept in mind that an object was deleted: longer than any request can be on its way.</summary>
    private static readonly TimeSpan KeepGone = TimeSpan.FromHours(1);

    private readonly IRegistryStore _store;
    private readonly ClusterRegistryOptions _options;
    private readonly Lock _gate = new();
    private readonly RegistryState _state = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly NodeLiveness _liveness;
    private TaskCompletionSource _advanced = NewSignal();
    private Snapshot _current = Snapshot.Empty;
    private LeaseTable _leases = LeaseTable.Empty;
    private Task _pump = Task.CompletedTask;
    private Task _sweep = Task.CompletedTask;
    private Task _watchNodes = Task.CompletedTask;

    private ClusterRegistry(IRegistryStore store, ClusterRegistryOptions options)
    {
        _store = store;
        _options = options;
        _liveness = new NodeLiveness(options.Time, options.NodeTimeout);
        Feed = new ChangeFeed(options.FeedRevisions, () => IsStale, ConfirmAsync);
    }

    /// <summary>The newest registry this manager knows.</summary>
    public Snapshot Current => Volatile.Read(ref _current);

    /// <summary>The data centre of nodes that do not say otherwise.</summary>
    public string Dc => _state.Dc;

    public IRegistryStore Store => _store;

    internal ChangeFeed Feed { get; }

    /// <summary>Reads the store and begins to follow it.</summary>
    /// <exception cref="RegistryStoreException">The store cannot be read.</exception>
    public static async Task<ClusterRegistry> StartAsync(
        IRegistryStore store, ClusterRegistryOptions options, CancellationToken cancel = default)
    {
        var registry = new ClusterRegistry(store, options);
        long next;
        try
        {
            next = await registry.LoadAsync(stale: false, cancel).ConfigureAwait(false);
        }
        catch (RegistryStoreException)
        {
            // No majority: what this manager's own member has is better than nothing, and is called stale until it is confirmed.
            next = await registry.LoadAsync(stale: true, cancel).ConfigureAwait(false);
        }
        registry._pump = Task.Run(() => registry.FollowAsync(next), CancellationToken.None);
        registry._sweep = Task.Run(registry.SweepAsync, CancellationToken.None);
        registry._watchNodes = Task.Run(registry.WatchNodesAsync, CancellationToken.None);
        return registry;
    }

    /// <summary>Waits for a registry newer than a revision (or of another incarnation).</summary>
    public async Task<Snapshot> WaitForChangeAsync(long afterRevision, CancellationToken cancel)
    {
        while (true)
        {
            var advanced = Volatile.Read(ref _advanced).Task;
            var current = Current;
            if (current.Revision != afterRevision)
                return current;
            await advanced.WaitAsync(cancel).ConfigureAwait(false);
        }
    }

    /// <summary>The majority has not been heard of for longer than an election takes: what is shown may be behind.</summary>
    public bool IsStale => _store.SinceConfirmed > StaleAfter;

    /// <summary>Waits until memory has everything that was acknowledged by any manager before this call.</summary>
    /// <returns>False: it cannot be said, for want of a majority.</returns>
    public async Task<bool> ConfirmAsync(CancellationToken cancel)
    {
        if (IsStale)
            return false;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(StaleAfter);
        try
        {
            var incarnation = Current.Incarnation;
            if (await _store.ConfirmAsync(limit.Token).ConfigureAwait(false) is { } revision)
                await ReachAsync(incarnation, revision, limit.Token).ConfigureAwait(false);
            return true;
        }
        catch (Exception e) when (e is RegistryStoreException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            return false;
        }
    }

    /// <summary>The newest revision of the store that memory shows, that of changes nobody follows included.</summary>
    internal long KnownRevision => Leases.Revision;

    /// <summary>The heartbeats that come to this manager.</summary>
    public IReadOnlyList<NodeBeat> OwnBeats() => _liveness.Own();

    /// <summary>What each node last said of the CAs it trusts, by name.</summary>
    internal IEnumerable<(string Name, Security.NodeTrust? Said)> NodeTrusts() => Current.Nodes.Values.Select(node =>
        (node.Name, _liveness.Last(node.Id) is { } beat ? new Security.NodeTrust(beat.Trust, beat.Issuer) : (Security.NodeTrust?)null));

    /// <summary>Takes what another manager has heard.</summary>
    public void HeardElsewhere(IEnumerable<NodeBeat> beats)
    {
        foreach (var beat in beats)
            _liveness.HeardElsewhere(beat);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(_pump, _sweep, _watchNodes).ConfigureAwait(false);
        _stop.Dispose();
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static string NewId() => RandomNumberGenerator.GetHexString(12, lowercase: true);

    /// <summary>Plans, commits, and plans again when somebody else was faster.</summary>
    /// <param name="plan">Runs under the lock, possibly several times; fills the draft or throws a refusal.</param>
    private async Task<Written<T>> WriteAsync<T>(Func<Draft, T> plan, CancellationToken cancel)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(WriteTimeout);
        try
        {
            return await WriteWithinAsync(plan, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw Refuse.Unavailable($"the registry did not confirm the write within {WriteTimeout.TotalSeconds:0} s; it may still come about, look before you repeat it");
        }
    }

    private async Task<Written<T>> WriteWithinAsync<T>(Func<Draft, T> plan, CancellationToken cancel)
    {
        Written<T>? perhaps = null;
        for (var attempt = 0; attempt < MaxAttempts; attempt++)
        {
            cancel.ThrowIfCancellationRequested();
            Draft draft;
            T value;
            long incarnation;
            lock (_gate)
            {
                incarnation = _state.Snapshot.Incarnation;
                draft = new Draft(_state, _options.Time.GetUtcNow().ToUnixTimeMilliseconds(), _options.Quarantine);
                try
                {
                    value = plan(draft);
                }
                catch (RegistryException e) when (perhaps is { } removed && e.Status == StatusCodes.Status404NotFound)
                {
                    // What an attempt with an unknown result was to remove is gone: that attempt was it.
                    draft.ReleasePending();
                    return removed with { Revision = _state.Revision };
                }
                catch
                {
                    draft.ReleasePending();
                    throw;
                }
                if (draft.IsEmpty)
                    return new Written<T>(value, _state.Revision);
            }
            try
            {
                var result = await CommitAsync(draft.ToTransaction()).ConfigureAwait(false);
                if (result.Outcome == CommitOutcome.OtherIncarnation)
                {
                    await LeaveAsync(incarnation, cancel).ConfigureAwait(false);
                    continue;
                }
                // After an unknown result what is in the store decides: the plan finds its own work there, or does it again.
                var revision = result.Outcome == CommitOutcome.Unknown
                    ? (await _store.RangeAsync(Keys.Cluster, limit: 1, cancel: cancel).ConfigureAwait(false)).Revision
                    : result.Revision;
                await ReachAsync(incarnation, revision, cancel).ConfigureAwait(false);
                Traces.Describe(Traces.Current, value);
                if (result.Outcome == CommitOutcome.Committed)
                    return new Written<T>(value, revision);
                if (result.Outcome == CommitOutcome.Unknown)
                    perhaps = new Written<T>(value, revision);
            }
            catch (RegistryStoreException e)
            {
                throw Refuse.Unavailable(e.Message);
            }
            finally
            {
                lock (_gate)
                    draft.ReleasePending();
            }
        }
        throw Refuse.Unavailable($"the registry changed under this request {MaxAttempts} times");
    }

    private async Task<CommitResult> CommitAsync(Transaction transaction)
    {
        using var span = Traces.Child("registry commit");
        if (span?.Id is { } trace)
            transaction = transaction with { Puts = [.. transaction.Puts, new Put(Keys.Trace, Encoding.ASCII.GetBytes(trace))] };
        var begun = _options.Time.GetTimestamp();
        var outcome = "error";
        try
        {
            var result = await _store.CommitAsync(transaction, CancellationToken.None).ConfigureAwait(false);
            outcome = result.Outcome switch
            {
                CommitOutcome.GuardFailed => "guard_failed",
                CommitOutcome.OtherIncarnation => "other_incarnation",
                _ => result.Outcome.ToString().ToLowerInvariant(),
            };
            span?.SetTag("overlaynet.revision", result.Revision);
            return result;
        }
        finally
        {
            span?.SetTag("overlaynet.outcome", outcome);
            DaemonInstruments.StoreCommit.Record(_options.Time.GetElapsedTime(begun).TotalSeconds, DaemonInstruments.Tag("result", outcome));
        }
    }

    /// <summary>Until memory shows a revision, or another incarnation (then the revision means nothing any more).</summary>
    private async Task ReachAsync(long incarnation, long revision, CancellationToken cancel)
    {
        while (true)
        {
            var advanced = Volatile.Read(ref _advanced).Task;
            if (Current.Incarnation != incarnation || Leases.Revision >= revision)
                return;
            await advanced.WaitAsync(cancel).ConfigureAwait(false);
        }
    }

    /// <summary>The store is being replaced: waits for the next one, a moment at least.</summary>
    private async Task LeaveAsync(long incarnation, CancellationToken cancel)
    {
        var advanced = Volatile.Read(ref _advanced).Task;
        if (Current.Incarnation == incarnation)
            await Task.WhenAny(advanced, Task.Delay(RetryAfterStoreError, _options.Time, cancel)).ConfigureAwait(false);
    }

    /// <param name="stale">Take what a store without its majority still has.</param>
    private async Task<long> LoadAsync(bool stale, CancellationToken cancel)
    {
        var identity = _store.Identity;
        var all = await _store.RangeAsync("", stale: stale, cancel: cancel).ConfigureAwait(false);
        // Where nothing has ever been written there is nothing to wait for.
        var (since, recent) = stale || all.Revision == 0 ? (all.Revision, []) : await RecentAsync(identity.Incarnation, all.Revision, cancel).ConfigureAwait(false);
        lock (_gate)
        {
            _state.Load(identity, all);
            Feed.Start(_state.Snapshot, since, recent);
            Publish();
        }
        var (next, large) = (all.Revision + 1, all.Items.Count > Large);
        all = null;
        if (large)
        {
            // The text of everything was in memory beside what it says; it would stay part of the process for hours.
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        }
        return next;
    }

    /// <summary>What led to a revision: agents that were nearly as far need no snapshot after this manager's start.</summary>
    /// <returns>After which revision, and the messages from there on; nothing when the store does not say in time.</returns>
    private async Task<(long Since, List<WatchMessage> Messages)> RecentAsync(long incarnation, long revision, CancellationToken cancel)
    {
        var since = Math.Max(0, revision - Recent);
        var messages = new List<WatchMessage>();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(RecentTimeout);
        try
        {
            await foreach (var batch in _store.WatchAsync("", since + 1, limit.Token).ConfigureAwait(false))
            {
                if (batch.Revision <= revision && RegistryState.Message(incarnation, batch) is { } message)
                    messages.Add(message);
                if (batch.Revision >= revision)
                    return (since, messages);
            }
        }
        catch (Exception e) when (e is RegistryStoreException or JsonException or FormatException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            // Compacted, or slow: then it is snapshots.
        }
        return (revision, []);
    }

    private async Task FollowAsync(long next)
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                await foreach (var batch in _store.WatchAsync("", next, _stop.Token).ConfigureAwait(false))
                {
                    lock (_gate)
                    {
                        var visible = _state.Apply(batch);
                        if (visible is not null)
                            Feed.Add(visible, _state.Snapshot);
                        // Woken without a line for them, watchers would put off their signs of life.
                        Publish(tellWatchers: visible is not null);
                    }
                    next = batch.Revision + 1;
                }
            }
            catch (OperationCanceledException) when (_stop.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e) when (e is RegistryStoreException or JsonException or FormatException)
            {
                Log.WatchBroken(_options.Logger, next, e.Message);
                next = await ReloadAsync(next).ConfigureAwait(false);
            }
        }
    }

    private async Task<long> ReloadAsync(long next)
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                return await LoadAsync(stale: false, _stop.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is RegistryStoreException or JsonException or FormatException)
            {
                Log.LoadFailed(_options.Logger, e.Message);
                await Task.Delay(RetryAfterStoreError, _options.Time, _stop.Token)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (OperationCanceledException)
            {
                break;
            }
        }
        return next;
    }

    private void Publish(bool tellWatchers = true)
    {
        Volatile.Write(ref _current, _state.Snapshot);
        Volatile.Write(ref _leases, _state.Leases);
        var advanced = Interlocked.Exchange(ref _advanced, NewSignal());
        advanced.TrySetResult();
        if (tellWatchers)
            Feed.Signal();
    }

    /// <summary>Forgets freed addresses whose quarantine is long over, and deletions of long ago.</summary>
    private async Task SweepAsync()
    {
        using var timer = new PeriodicTimer(SweepPeriod, _options.Time);
        while (await TickAsync(timer).ConfigureAwait(false))
        {
            try
            {
                while ((await WriteAsync(ForgetFreed, _stop.Token).ConfigureAwait(false)).Value == MaxChunk)
                {
                }
                while ((await WriteAsync(ForgetGone, _stop.Token).ConfigureAwait(false)).Value == MaxForgotten)
                {
                }
            }
            catch (Exception e) when (e is RegistryException or OperationCanceledException)
            {
                Log.SweepPutOff(_options.Logger, e.Message);
            }
        }
    }

    private static int ForgetGone(Draft draft)
    {
        var old = draft.State.Gone.Where(gone => draft.NowUnixMs - gone.Value > KeepGone.TotalMilliseconds).Select(gone => gone.Key).Take(MaxForgotten).ToList();
        foreach (var key in old)
        {
            draft.GuardUnchanged(key);
            draft.Release(key);
        }
        return old.Count;
    }

    private int ForgetFreed(Draft draft)
    {
        var forgotten = 0;
        foreach (var (networkId, table) in draft.State.AddressTables)
        {
            foreach (var (address, entry) in table.Entries)
            {
                if (entry.Owner is not null || table.Pending.Contains(address)
                    || Math.Abs(draft.NowUnixMs - entry.FreedAtUnixMs) < _options.Quarantine.TotalMilliseconds)
                    continue;
                draft.Forget(networkId, address, entry);
                if (++forgotten == MaxChunk)
                    return forgotten;
            }
        }
        return forgotten;
    }

    private async Task<bool> TickAsync(PeriodicTimer timer)
    {
        try
        {
            return await timer.WaitForNextTickAsync(_stop.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private void Record(string kind, string action, string name, string by, long revision, string message = "") =>
        _options.Events?.Append(kind, action, name, message.Length == 0 ? $"by {by}" : $"{message}, by {by}", revision);

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "The registry's watch broke off before revision {Next}: {Error}")]
        public static partial void WatchBroken(ILogger logger, long next, string error);

        [LoggerMessage(Level = LogLevel.Error, Message = "The registry cannot be read: {Error}")]
        public static partial void LoadFailed(ILogger logger, string error);

        [LoggerMessage(Level = LogLevel.Warning, Message = "Freed addresses are kept for now: {Error}")]
        public static partial void SweepPutOff(ILogger logger, string error);

        [LoggerMessage(Level = LogLevel.Warning, Message = "Node {Node} is {State}: no heartbeat for {Seconds:F0} s")]
        public static partial void NodeSilent(ILogger logger, string node, NodeState state, double seconds);

        [LoggerMessage(Level = LogLevel.Information, Message = "Node {Node} is ready")]
        public static partial void NodeReady(ILogger logger, string node);

        [LoggerMessage(Level = LogLevel.Warning, Message = "The state of nodes could not be written: {Error}")]
        public static partial void NodeStateNotWritten(ILogger logger, string error);

        [LoggerMessage(Level = LogLevel.Warning, Message = "Network {Network} ({Subnet}) overlaps the route {Route} of node {Node}")]
        public static partial void RouteOverlap(ILogger logger, string network, string subnet, string route, string node);
    }
}
