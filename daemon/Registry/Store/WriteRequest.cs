namespace OverlayNet.Daemon.Registry.Store;

/// <summary>Something waiting for the writer thread; several share one database transaction.</summary>
internal abstract class WriteRequest
{
    /// <summary>Runs inside the database transaction.</summary>
    /// <param name="revision">The newest revision; what this request writes becomes the next one.</param>
    /// <returns>What it changed, or null for nothing that has a revision.</returns>
    public abstract WatchBatch? Run(SqliteWriter writer, long revision);

    /// <summary>After the database transaction is on disk and watchers can see it.</summary>
    public abstract void Complete();

    public abstract void Fail(Exception error);
}

internal abstract class WriteRequest<T> : WriteRequest
{
    private readonly TaskCompletionSource<T> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Exception? _refusal;
    private T? _result;

    public Task<T> Done => _done.Task;

    public sealed override WatchBatch? Run(SqliteWriter writer, long revision)
    {
        (_result, _refusal) = (default, null);
        try
        {
            (_result, var batch) = Execute(writer, revision);
            return batch;
        }
        catch (LeaseNotFoundException e)
        {
            _refusal = e;
            return null;
        }
    }

    public sealed override void Complete()
    {
        if (_refusal is null)
            _done.TrySetResult(_result!);
        else
            _done.TrySetException(_refusal);
    }

    public sealed override void Fail(Exception error) => _done.TrySetException(error);

    /// <exception cref="LeaseNotFoundException">Refuses this request alone; must be thrown before anything is written.</exception>
    protected abstract (T Result, WatchBatch? Batch) Execute(SqliteWriter writer, long revision);
}

internal sealed class CommitRequest(Transaction transaction, long incarnation, Func<long, bool> leaseExists) : WriteRequest<CommitResult>
{
    protected override (CommitResult Result, WatchBatch? Batch) Execute(SqliteWriter writer, long revision)
    {
        if (writer.Sealed || (transaction.Incarnation != 0 && transaction.Incarnation != incarnation))
            return (new CommitResult(CommitOutcome.OtherIncarnation, revision), null);
        foreach (var put in transaction.Puts)
        {
            if (put.Lease != 0 && !leaseExists(put.Lease))
                throw new LeaseNotFoundException(put.Lease);
        }
        foreach (var guard in transaction.Guards)
        {
            var (create, mod) = writer.Find(guard.Key);
            if ((guard.Field == GuardField.CreateRevision ? create : mod) != guard.Revision)
                return (new CommitResult(CommitOutcome.GuardFailed, revision, guard.Key), null);
        }
        var next = revision + 1;
        var changes = new List<KeyChange>(transaction.Puts.Count + transaction.Deletes.Count);
        foreach (var put in transaction.Puts)
            changes.Add(new KeyChange(put.Key, writer.Put(put, next)));
        foreach (var key in transaction.Deletes)
        {
            if (writer.Delete(key, next))
                changes.Add(new KeyChange(key, null));
        }
        return changes.Count == 0
            ? (new CommitResult(CommitOutcome.Committed, revision), null)
            : (new CommitResult(CommitOutcome.Committed, next), new WatchBatch(next, changes));
    }
}

internal sealed class GrantRequest(long id, TimeSpan ttl) : WriteRequest<long>
{
    protected override (long Result, WatchBatch? Batch) Execute(SqliteWriter writer, long revision)
    {
        writer.AddLease(id, (long)ttl.TotalMilliseconds);
        return (id, null);
    }
}

internal sealed class RevokeRequest(long lease) : WriteRequest<long>
{
    protected override (long Result, WatchBatch? Batch) Execute(SqliteWriter writer, long revision)
    {
        if (writer.Sealed)
            return (lease, null);
        var next = revision + 1;
        var changes = new List<KeyChange>();
        foreach (var key in writer.KeysOf(lease))
        {
            writer.Delete(key, next);
            changes.Add(new KeyChange(key, null));
        }
        writer.RemoveLease(lease);
        return (lease, changes.Count == 0 ? null : new WatchBatch(next, changes));
    }
}

internal sealed class CompactRequest(long target) : WriteRequest<long>
{
    protected override (long Result, WatchBatch? Batch) Execute(SqliteWriter writer, long revision)
    {
        var from = writer.Compacted();
        var to = Math.Min(target, revision);
        if (to > from)
            writer.RemoveHistory(from, to);
        return (Math.Max(to, from), null);
    }
}

/// <summary>Everything queued before it is committed, everything after it is refused.</summary>
internal sealed class SealRequest(bool on) : WriteRequest<long>
{
    protected override (long Result, WatchBatch? Batch) Execute(SqliteWriter writer, long revision)
    {
        writer.Seal(on);
        return (revision, null);
    }
}
