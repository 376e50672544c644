using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Health;

/// <summary>What is asked of one node at present, for whoever waits for a change of it.</summary>
internal sealed class TaskBoard
{
    private readonly Lock _gate = new();

    // Begins where no version that an agent may have from a manager before this one can be.
    private ProbeTasks _current = new() { Version = DateTime.UtcNow.Ticks };
    private TaskCompletionSource _changed = NewSignal();

    public ProbeTasks Current
    {
        get
        {
            lock (_gate)
                return _current;
        }
    }

    public void Ask(IReadOnlyList<ProbeTask> tasks)
    {
        TaskCompletionSource changed;
        lock (_gate)
        {
            if (tasks.SequenceEqual(_current.Tasks))
                return;
            _current = new ProbeTasks { Version = _current.Version + 1, Tasks = tasks };
            (changed, _changed) = (_changed, NewSignal());
        }
        changed.SetResult();
    }

    public async Task<ProbeTasks> AfterAsync(long version, TimeSpan patience, TimeProvider time, CancellationToken cancellation)
    {
        Task changed;
        lock (_gate)
        {
            if (_current.Version != version)
                return _current;
            changed = _changed.Task;
        }
        try
        {
            await changed.WaitAsync(patience, time, cancellation).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // Nothing new: the caller asks again.
        }
        return Current;
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
