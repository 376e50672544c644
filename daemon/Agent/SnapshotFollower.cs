using System.Collections.Immutable;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// Keeps the node's copy of the registry: starts from the file, follows a manager's watch stream, and goes on with what
/// it has while none answers.
/// </summary>
/// <param name="reassert">Tells a registry that has taken the place of the one this node knew what the node has; throws when it does not take it.</param>
public sealed partial class SnapshotFollower(
    RegistryClient client, SnapshotFile file, TimeProvider time, ILogger<SnapshotFollower> logger, Func<Snapshot, WatchMessage, CancellationToken, Task>? reassert = null)
{
    // Signs of life come each second; a stream silent for longer is dead although its connection may not know it.
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan FirstRetry = TimeSpan.FromMilliseconds(50), LastRetry = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan SaveDelay = TimeSpan.FromMilliseconds(200);

    // The whole is written each time: a large registry that changes often must not keep the processor busy with that. 5 s at 50,000.
    private static readonly TimeSpan SaveDelayPerEndpoint = TimeSpan.FromMilliseconds(0.1);
    private readonly Lock _gate = new();
    private Snapshot _current = Snapshot.Empty;

    // What managers say; _current is that and what is held.
    private Snapshot _registry = Snapshot.Empty;
    private ImmutableDictionary<string, Endpoint> _held = ImmutableDictionary<string, Endpoint>.Empty;
    private TaskCompletionSource _changed = NewSignal();
    private readonly TaskCompletionSource _confirmed = NewSignal();
    private long _lastContact;
    private long _assertedIncarnation;
    private Snapshot? _saved;

    /// <summary>The newest registry this node knows, with what it holds (see <see cref="Held"/>).</summary>
    public Snapshot Current => Volatile.Read(ref _current);

    /// <summary>Endpoints that this node goes on using although a registry of another incarnation lacks them; by id.</summary>
    public IReadOnlyDictionary<string, Endpoint> Held => Volatile.Read(ref _held);

    /// <summary>False until a snapshot was read from the file or a manager: then nothing is known, and nothing is not empty.</summary>
    public bool Synced { get; private set; }

    /// <summary>Since the last word of a manager; null: never heard one.</summary>
    public TimeSpan? SinceContact => Math.Max(Volatile.Read(ref _lastContact), client.LastAnswer) is var stamp and not 0 ? time.GetElapsedTime(stamp) : null;

    /// <summary>
    /// On a manager: the registry's own memory. Where it is at the same revision it takes the place of this copy, so that a large
    /// registry is not in memory twice.
    /// </summary>
    public Func<Snapshot?>? Twin { get; set; }

    /// <summary>Called for revisions that are traced, before they can be seen in <see cref="Current"/>.</summary>
    public event Action<WatchMessage>? Traced;

    /// <summary>Completes with the first word of a manager in this run: until then what was read from the file may lack the newest.</summary>
    public Task Confirmed => _confirmed.Task;

    /// <summary>Completes at the next change.</summary>
    public Task Changed
    {
        get
        {
            lock (_gate)
                return _changed.Task;
        }
    }

    /// <summary>Reads the file of the run before.</summary>
    public void Load()
    {
        if (file.Load() is not { } saved)
            return;
        _saved = saved;
        Publish(saved, _held);
        Log.Loaded(logger, saved.Revision, saved.Endpoints.Count);
    }

    /// <summary>The manager that is followed, or was last, has no majority: what is known may be behind.</summary>
    public bool Stale { get; private set; }

    /// <summary>Completes once <see cref="Current"/> is at least that new, or of another incarnation.</summary>
    public async Task WaitFor(long revision, CancellationToken cancellation)
    {
        var incarnation = Current.Incarnation;
        while (true)
        {
            var changed = Changed;
            if (Current.Revision >= revision || Current.Incarnation != incarnation)
                return;
            await changed.WaitAsync(cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Holds an endpoint no longer.</summary>
    public void Retire(string endpointId)
    {
        lock (_gate)
            Publish(_registry, _held.Remove(endpointId));
    }

    /// <summary>Follows until cancelled.</summary>
    public async Task Run(CancellationToken cancellation)
    {
        var saving = SaveChanges(cancellation);
        var retry = FirstRetry;
        while (!cancellation.IsCancellationRequested)
        {
            var before = Volatile.Read(ref _lastContact);
            try
            {
                await FollowOnce(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (e is RegistryException or IOException or HttpRequestException or OperationCanceledException or InvalidOperationException && !cancellation.IsCancellationRequested)
            {
                DaemonInstruments.StreamEvents.Add(1, DaemonInstruments.Tag("event", "lost"));
                Log.Lost(logger, Current.Revision, e.Message);
            }
            retry = Volatile.Read(ref _lastContact) != before ? FirstRetry : TimeSpan.FromTicks(Math.Min(retry.Ticks * 2, LastRetry.Ticks));
            // Jitter, so that a manager's return is not met by every agent at once.
            await Task.Delay(retry * (0.5 + Random.Shared.NextDouble()), time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        await saving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async Task FollowOnce(CancellationToken cancellation)
    {
        using var watchdog = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        watchdog.CancelAfter(Silence);
        var current = Current;
        await foreach (var message in client.Watch(Synced ? current.Revision : -1, current.Incarnation, watchdog.Token).ConfigureAwait(false))
        {
            watchdog.CancelAfter(Silence);
            Volatile.Write(ref _lastContact, time.GetTimestamp());
            Stale = message.Stale == true;
            if (message.Snapshot is null && message.Changes is null && message.Revision <= Current.Revision)
            {
                _confirmed.TrySetResult();
                if (Twinned(_registry) is var twin && !ReferenceEquals(twin, _registry))
                    Publish(twin, Volatile.Read(ref _held));
                continue;
            }
            if (message.TraceParent is not null)
                Traced?.Invoke(message);
            var known = _registry;
            if (message.Snapshot is not null && reassert is not null && Synced && known.Incarnation != 0
                && message.Incarnation != known.Incarnation && message.Incarnation != _assertedIncarnation)
            {
                // Until the new registry knows what is here, the old one is gone by: it may have come from an older backup.
                await reassert(known, message, watchdog.Token).ConfigureAwait(false);
                _assertedIncarnation = message.Incarnation;
                return;
            }
            var next = _registry.Apply(message);
            if (message.Snapshot is not null)
            {
                DaemonInstruments.StreamEvents.Add(1, DaemonInstruments.Tag("event", "relisted"));
                Log.Relisted(logger, next.Incarnation, next.Revision);
            }
            var before = Current;
            var held = SnapshotProtection.StillHeld(Volatile.Read(ref _held), next, message.Changes ?? []);
            if (before.Incarnation != next.Incarnation && SnapshotProtection.Held(before, next) is { IsEmpty: false } lost)
            {
                held = held.SetItems(lost);
                Log.Holding(logger, lost.Count, next.Incarnation, next.Revision);
            }
            Publish(next, held);
            _confirmed.TrySetResult();
        }
    }

    private void Publish(Snapshot registry, ImmutableDictionary<string, Endpoint> held)
    {
        TaskCompletionSource changed;
        lock (_gate)
        {
            _registry = registry = Twinned(registry);
            Volatile.Write(ref _held, held);
            Volatile.Write(ref _current, registry.With([.. held.Values]));
            Synced = true;
            changed = _changed;
            _changed = NewSignal();
        }
        changed.SetResult();
    }

    private Snapshot Twinned(Snapshot registry) =>
        Twin?.Invoke() is { } twin && twin.Incarnation == registry.Incarnation && twin.Revision == registry.Revision && twin.ClusterId == registry.ClusterId ? twin : registry;

    private async Task SaveChanges(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            var changed = Changed;
            if (Synced && Volatile.Read(ref _registry) is var snapshot && !ReferenceEquals(snapshot, _saved))
            {
                // Without what is held: after a restart nobody would know that the registry never had it.
                try
                {
                    file.Save(snapshot);
                    _saved = snapshot;
                }
                catch (IOException e)
                {
                    Log.SaveFailed(logger, snapshot.Revision, e.Message);
                }
                await Task.Delay(SaveDelay + (SaveDelayPerEndpoint * snapshot.Endpoints.Count), time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                continue;
            }
            await changed.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "registry: read from disk, revision {Revision}, {Endpoints} endpoints")]
        public static partial void Loaded(ILogger logger, long revision, int endpoints);

        [LoggerMessage(2, LogLevel.Warning, "registry: stream lost, serving revision {Revision}: {Reason}")]
        public static partial void Lost(ILogger logger, long revision, string reason);

        [LoggerMessage(3, LogLevel.Information, "registry: whole snapshot, incarnation {Incarnation}, revision {Revision}")]
        public static partial void Relisted(ILogger logger, long incarnation, long revision);

        [LoggerMessage(5, LogLevel.Warning, "registry: incarnation {Incarnation}, revision {Revision}, lacks {Count} endpoints of services that it has: they stay in use until they are put back, or do not answer")]
        public static partial void Holding(ILogger logger, int count, long incarnation, long revision);

        [LoggerMessage(4, LogLevel.Error, "registry: snapshot of revision {Revision} not saved: {Reason}")]
        public static partial void SaveFailed(ILogger logger, long revision, string reason);
    }
}
