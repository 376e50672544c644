using System.Collections.Concurrent;
using System.Collections.Immutable;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// The one loop that applies: at a new snapshot, when something of ours was changed in the kernel, and every few
/// seconds in any case. Runs on a thread of its own; many reasons that come together are one application.
/// </summary>
public sealed partial class Reconciler(SnapshotFollower follower, IDataPlane plane, TimeSpan resync, ILogger<Reconciler> logger) : IDisposable
{
    private readonly AutoResetEvent _wake = new(false);
    private readonly ConcurrentDictionary<string, byte> _suppressed = new();
    private readonly Lock _gate = new();
    private readonly List<(long Revision, TaskCompletionSource<ApplyOutcome> Done)> _waiters = [];
    private ApplyOutcome _last = new();
    private Thread? _thread;
    private volatile bool _stopping;

    /// <summary>The newest application's result.</summary>
    public ApplyOutcome Last => Volatile.Read(ref _last);

    /// <summary>The revision the kernel reflects; moves even when single objects failed (their errors are in <see cref="Last"/>).</summary>
    public long AppliedRevision => Last.Revision;

    /// <summary>Called after each application, on the reconciler's thread.</summary>
    public event Action<ApplyOutcome>? Applied;

    public void Start(CancellationToken cancellation)
    {
        _thread = new Thread(Loop) { IsBackground = true, Name = "reconciler" };
        _thread.Start();
        _ = WakeAtChanges(cancellation);
    }

    /// <summary>Asks for an application soon; cheap, from any thread.</summary>
    public void Wake() => _wake.Set();

    /// <summary>An endpoint of this node is gone: plan without it although the registry still has it.</summary>
    public void Suppress(string endpointId)
    {
        _suppressed[endpointId] = 0;
        Wake();
    }

    /// <summary>The first application that reflects at least that revision; the last one when it does already.</summary>
    public Task<ApplyOutcome> ApplyThrough(long revision)
    {
        var done = new TaskCompletionSource<ApplyOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            if (_last.Revision >= revision)
                return Task.FromResult(_last);
            _waiters.Add((revision, done));
        }
        Wake();
        return done.Task;
    }

    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        _thread?.Join();
        _wake.Dispose();
    }

    private async Task WakeAtChanges(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            var changed = follower.Changed;
            Wake();
            await changed.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void Loop()
    {
        while (!_stopping)
        {
            _wake.WaitOne(resync);
            if (_stopping || !follower.Synced)
                continue;
            var snapshot = follower.Current;
            ForgetSuppressed(snapshot);
            ApplyOutcome outcome;
            try
            {
                outcome = plane.Apply(snapshot, _suppressed.Keys.ToImmutableHashSet());
            }
            catch (Exception e)
            {
                // A fault in a planner or writer must not end the loop that would mend it at the next snapshot.
                Log.Failed(logger, e, snapshot.Revision);
                outcome = new ApplyOutcome { Revision = Last.Revision, Errors = new Dictionary<string, string> { [""] = e.Message } };
            }
            Complete(outcome);
            Applied?.Invoke(outcome);
        }
    }

    private void ForgetSuppressed(Snapshot snapshot)
    {
        foreach (var id in _suppressed.Keys)
        {
            if (!snapshot.Endpoints.ContainsKey(id))
                _suppressed.TryRemove(id, out _);
        }
    }

    private void Complete(ApplyOutcome outcome)
    {
        List<TaskCompletionSource<ApplyOutcome>> done = [];
        lock (_gate)
        {
            Volatile.Write(ref _last, outcome);
            for (var i = _waiters.Count - 1; i >= 0; i--)
            {
                if (_waiters[i].Revision > outcome.Revision)
                    continue;
                done.Add(_waiters[i].Done);
                _waiters.RemoveAt(i);
            }
        }
        foreach (var waiter in done)
            waiter.SetResult(outcome);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Error, "apply: revision {Revision} failed")]
        public static partial void Failed(ILogger logger, Exception exception, long revision);
    }
}
