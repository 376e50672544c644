namespace OverlayNet.Daemon.Registry.Store;

/// <summary>
/// The newest entries of an append-only sequence, shared by readers who each keep a position of their own: a slow reader
/// costs neither memory nor anybody's time, it only falls out of the log.
/// </summary>
/// <param name="capacity">Entries kept.</param>
internal sealed class RecentLog<T>(int capacity)
{
    private readonly Lock _lock = new();
    private readonly (long Revision, T Entry)[] _ring = new (long, T)[capacity];
    private TaskCompletionSource _appended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _first;
    private int _count;
    private long _forgottenUpTo;
    private long _last;

    /// <summary>Empties the log; it is complete from the revision after this one.</summary>
    public void Start(long revision)
    {
        lock (_lock)
        {
            Array.Clear(_ring);
            (_first, _count) = (0, 0);
            _forgottenUpTo = _last = revision;
        }
    }

    public void Append(long revision, T entry)
    {
        lock (_lock)
        {
            if (_count == capacity)
            {
                _forgottenUpTo = Math.Max(_forgottenUpTo, _ring[_first].Revision);
                _first = (_first + 1) % capacity;
                _count--;
            }
            _ring[(_first + _count++) % capacity] = (revision, entry);
            _last = revision;
        }
    }

    /// <summary>Gives no entry up to this revision any more, although it may still be here.</summary>
    public void Forget(long revision)
    {
        lock (_lock)
            _forgottenUpTo = Math.Max(_forgottenUpTo, Math.Min(revision, _last));
    }

    /// <summary>Wakes the readers; apart from <see cref="Append"/> so that a group of entries wakes them once.</summary>
    public void Signal()
    {
        TaskCompletionSource appended;
        lock (_lock)
        {
            appended = _appended;
            _appended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        appended.TrySetResult();
    }

    /// <summary>The entries from a revision on.</summary>
    /// <param name="next">Completes when there are more.</param>
    /// <returns>Null when entries that were asked for are forgotten.</returns>
    public List<T>? Read(long fromRevision, out Task next)
    {
        lock (_lock)
        {
            next = _appended.Task;
            if (fromRevision <= _forgottenUpTo)
                return null;
            // Readers are nearly always at the end: search from there.
            var index = _count;
            while (index > 0 && _ring[(_first + index - 1) % capacity].Revision >= fromRevision)
                index--;
            var found = new List<T>(_count - index);
            for (; index < _count; index++)
                found.Add(_ring[(_first + index) % capacity].Entry);
            return found;
        }
    }

    /// <summary>The newest revision in the log.</summary>
    public long Last
    {
        get
        {
            lock (_lock)
                return _last;
        }
    }
}
