using System.Collections.Concurrent;
using System.Collections.Immutable;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// The one loop that applies. A change of the registry is brought about at once, by itself. Everything is compared with
/// the kernel every few seconds, and soon after something of ours was changed there. Runs on a thread of its own; many
/// reasons that come together are one application.
/// </summary>
public sealed partial class Reconciler(SnapshotFollower follower, IDataPlane plane, TimeSpan resync, TimeProvider time, ILogger<Reconciler> logger) : IDisposable
{
    // Most of what is heard of the kernel is what we or a container's end have just done: let the rest of it come, and a
    // withdrawal go first.
    private static readonly TimeSpan MendDelay = TimeSpan.FromMilliseconds(100);
    private readonly AutoResetEvent _wake = new(false);
    private readonly ConcurrentDictionary<string, byte> _suppressed = new();
    private readonly Lock _gate = new();
    private readonly List<(long Incarnation, long Revision, TaskCompletionSource<ApplyOutcome> Done)> _waiters = [];
    private ImmutableHashSet<string> _stopped = [];
    private ApplyOutcome _last = new();
    private Thread? _thread;
    private volatile bool _stopping;
    private long _wholeAt;
    private long _comparedRevision = -1;

    /// <summary>The newest application's result.</summary>
    public ApplyOutcome Last => Volatile.Read(ref _last);

    /// <summary>The revision the kernel reflects; moves even when single objects failed (their errors are in <see cref="Last"/>).</summary>
    public long AppliedRevision => Last.Revision;

    /// <summary>The newest revision for which everything was compared with the kernel.</summary>
    public long ComparedRevision => Interlocked.Read(ref _comparedRevision);

    /// <summary>Called after each application, on the reconciler's thread.</summary>
    public event Action<ApplyOutcome>? Applied;

    public void Start(CancellationToken cancellation)
    {
        _thread = new Thread(Loop) { IsBackground = true, Name = "reconciler" };
        _thread.Start();
        _ = WakeAtChanges(cancellation);
    }

    /// <summary>Asks for an application soon, without a comparison: what it counts is wanted.</summary>
    public void Wake() => _wake.Set();

    /// <summary>Asks for a comparison with the kernel soon: something of ours may have changed there. Cheap, from any thread.</summary>
    public void Mend()
    {
        var soon = time.GetTimestamp() + Ticks(MendDelay);
        lock (_gate)
        {
            if (_wholeAt <= soon)
                return;
            _wholeAt = soon;
        }
        _wake.Set();
    }

    /// <summary>An endpoint of this node is gone: plan without it although the registry still has it.</summary>
    public void Suppress(string endpointId)
    {
        _suppressed[endpointId] = 0;
        _wake.Set();
    }

    /// <summary>Plans without these endpoints, wherever they are, until told otherwise: their services are stopped on this node.</summary>
    public void SetStopped(ImmutableHashSet<string> endpointIds)
    {
        if (Volatile.Read(ref _stopped).SetEquals(endpointIds))
            return;
        Volatile.Write(ref _stopped, endpointIds);
        Mend();
    }

    /// <summary>The first application that reflects at least that revision; the last one when it does already.</summary>
    public Task<ApplyOutcome> ApplyThrough(long revision)
    {
        var done = new TaskCompletionSource<ApplyOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            if (_last.Revision >= revision)
                return Task.FromResult(_last);
            _waiters.Add((follower.Current.Incarnation, revision, done));
        }
        _wake.Set();
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
            _wake.Set();
            await changed.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void Loop()
    {
        while (!_stopping)
        {
            var asked = _wake.WaitOne(follower.Synced ? UntilWhole() : resync);
            if (_stopping || !follower.Synced)
                continue;
            var whole = TakeWhole();
            if (!asked && !whole)
                continue;
            var snapshot = follower.Current;
            ForgetSuppressed(snapshot);
            ApplyOutcome outcome;
            try
            {
                outcome = plane.Apply(snapshot, Volatile.Read(ref _stopped).Union(_suppressed.Keys), whole);
            }
            catch (Exception e)
            {
                // A fault in a planner or writer must not end the loop that would mend it at the next snapshot.
                Log.Failed(logger, e, snapshot.Revision);
                outcome = new ApplyOutcome { Revision = Last.Revision, Errors = new Dictionary<string, string> { [""] = e.Message } };
            }
            Complete(outcome, snapshot.Incarnation);
            Applied?.Invoke(outcome);
        }
    }

    private TimeSpan UntilWhole()
    {
        lock (_gate)
        {
            // Rounded up: a wait counts whole milliseconds.
            var wait = Math.Ceiling(time.GetElapsedTime(time.GetTimestamp(), _wholeAt).TotalMilliseconds);
            return TimeSpan.FromMilliseconds(Math.Max(0, wait));
        }
    }

    /// <summary>Whether a comparison is due; the next one is then due a resync interval from now.</summary>
    private bool TakeWhole()
    {
        lock (_gate)
        {
            var now = time.GetTimestamp();
            if (now < _wholeAt)
                return false;
            _wholeAt = now + Ticks(resync);
            return true;
        }
    }

    private long Ticks(TimeSpan span) => (long)(span.TotalSeconds * time.TimestampFrequency);

    private void ForgetSuppressed(Snapshot snapshot)
    {
        foreach (var id in _suppressed.Keys)
        {
            if (!snapshot.Endpoints.ContainsKey(id))
                _suppressed.TryRemove(id, out _);
        }
    }

    private void Complete(ApplyOutcome outcome, long incarnation)
    {
        List<TaskCompletionSource<ApplyOutcome>> done = [];
        lock (_gate)
        {
            Volatile.Write(ref _last, outcome);
            if (outcome.Whole)
                Interlocked.Exchange(ref _comparedRevision, outcome.Revision);
            for (var i = _waiters.Count - 1; i >= 0; i--)
            {
                if (_waiters[i].Revision > outcome.Revision && _waiters[i].Incarnation == incarnation)
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
