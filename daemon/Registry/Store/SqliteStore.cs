using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging.Abstractions;

namespace OverlayNet.Daemon.Registry.Store;

public sealed record SqliteStoreOptions
{
    public required string Path { get; init; }
    public TimeProvider Time { get; init; } = TimeProvider.System;
    public ILogger Logger { get; init; } = NullLogger.Instance;

    /// <summary>History older than this is compacted away...</summary>
    public TimeSpan HistoryAge { get; init; } = TimeSpan.FromHours(1);

    /// <summary>... and history of more revisions than this, whatever its age.</summary>
    public int HistoryRevisions { get; init; } = 100_000;

    /// <summary>Newest revisions watchers read from memory.</summary>
    public int RecentRevisions { get; init; } = 4096;
}

/// <summary>
/// The embedded store: one SQLite database in WAL mode with synchronous=FULL. One writer thread puts the commits that wait into
/// one database transaction (group commit), each with guards and a revision of its own.
/// </summary>
/// <remarks>
/// The directory's <see cref="StateLock"/> must be held: two processes would not see each other's commits in their watches.
/// </remarks>
public sealed partial class SqliteStore : IRegistryStore
{
    private const int MaxGroup = 256;

    /// <summary>Ticks of the stopwatch; a disk may take long, and nobody is to wait for what may not come.</summary>
    private static readonly long MostWait = Stopwatch.Frequency / 500;
    private const int HistoryPage = 2000;
    private const int ImportPage = 1000;
    private static readonly TimeSpan MaintenancePeriod = TimeSpan.FromSeconds(30);

    private readonly SqliteStoreOptions _options;
    private readonly SqliteConnection _connection;
    private readonly SqliteWriter _writer;
    private readonly SqliteReader _reader;
    private readonly BlockingCollection<WriteRequest> _queue = [];
    private readonly RecentLog<WatchBatch> _recent;
    private readonly LeaseClock _leases;
    private readonly ITimer _maintenance;
    private readonly Thread _thread;
    private readonly Queue<(long Timestamp, long Revision)> _ages = new();
    private Task? _compaction;
    private long _compactTo;
    private long _revision;
    private long _nextLease;
    private string _failure = "";
    private int _disposed;

    private SqliteStore(SqliteStoreOptions options, SqliteConnection connection)
    {
        _options = options;
        _connection = connection;
        _writer = new SqliteWriter(connection);
        _reader = new SqliteReader(options.Path);
        _revision = _writer.Revision();
        _writer.ReadSeal();
        Identity = ReadIdentity(connection);
        _recent = new RecentLog<WatchBatch>(options.RecentRevisions);
        _recent.Start(_revision);
        // A lease gets its whole time again after a start: nobody could renew it meanwhile.
        _leases = new LeaseClock(options.Time, lease => _queue.TryAddUnlessCompleted(new RevokeRequest(lease)));
        foreach (var (id, ttlMs) in _writer.Leases())
        {
            _leases.Add(id, TimeSpan.FromMilliseconds(ttlMs));
            _nextLease = Math.Max(_nextLease, id);
        }
        _thread = new Thread(Write) { Name = "registry-writer", IsBackground = true };
        _thread.Start();
        _maintenance = options.Time.CreateTimer(_ => Maintain(), null, MaintenancePeriod, MaintenancePeriod);
    }

    public StoreIdentity Identity { get; }

    /// <summary>Opens the database, or creates an empty one with a new cluster id.</summary>
    /// <exception cref="RegistryStoreException">It cannot be read; the message says what to do.</exception>
    public static SqliteStore Open(SqliteStoreOptions options) => new(options, SqliteSchema.Open(options.Path));

    /// <summary>Creates a database with the content of another store.</summary>
    /// <exception cref="RegistryStoreException">There is one already, or the disk refuses.</exception>
    public static async Task<SqliteStore> CreateAsync(
        SqliteStoreOptions options, StoreIdentity identity, IEnumerable<Put> content, CancellationToken cancel = default)
    {
        if (File.Exists(options.Path))
            throw new RegistryStoreException($"the registry database {options.Path} exists already; nothing was written");
        using (var connection = SqliteSchema.Open(options.Path, identity))
        {
        }
        var store = Open(options);
        try
        {
            foreach (var page in content.Chunk(ImportPage))
                await store.CommitAsync(new Transaction { Puts = page }, cancel).ConfigureAwait(false);
            return store;
        }
        catch
        {
            await store.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>
    /// Ends (or allows again) all writing, durably: the registry moves to another store, and this one must not go its own way.
    /// Transactions are answered with <see cref="CommitOutcome.OtherIncarnation"/> then.
    /// </summary>
    /// <returns>The last revision.</returns>
    public Task<long> SealAsync(bool on, CancellationToken cancel = default) => Enqueue(new SealRequest(on), cancel);

    public ValueTask<RangePage> RangeAsync(
        string prefix, string? after = null, int limit = 0, long? atRevision = null, bool stale = false,
        CancellationToken cancel = default)
    {
        KeyRange.CheckPrefix(prefix);
        cancel.ThrowIfCancellationRequested();
        return new ValueTask<RangePage>(Task.Run(() => _reader.Range(prefix, after, limit, atRevision), cancel));
    }

    public async ValueTask<CommitResult> CommitAsync(Transaction transaction, CancellationToken cancel = default)
    {
        KeyRange.Check(transaction);
        return await Enqueue(new CommitRequest(transaction, Identity.Incarnation, _leases.Exists), cancel).ConfigureAwait(false);
    }

    public async IAsyncEnumerable<WatchBatch> WatchAsync(
        string prefix, long fromRevision, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        KeyRange.CheckPrefix(prefix);
        if (fromRevision > Volatile.Read(ref _revision) + 1)
            throw new RegistryStoreException(
                $"cannot watch from revision {fromRevision}: the registry is at {Volatile.Read(ref _revision)}");
        var next = Math.Max(fromRevision, 1);
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            var batches = _recent.Read(next, out var more);
            if (batches is null)
            {
                var from = next;
                batches = await Task.Run(() => _reader.History(from, HistoryPage), cancel).ConfigureAwait(false);
            }
            else if (batches.Count == 0)
            {
                await more.WaitAsync(cancel).ConfigureAwait(false);
            }
            foreach (var batch in batches)
            {
                next = batch.Revision + 1;
                if (Within(prefix, batch) is { } seen)
                    yield return seen;
            }
        }
    }

    public async ValueTask<long> GrantAsync(TimeSpan ttl, CancellationToken cancel = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(ttl, TimeSpan.Zero);
        var lease = Interlocked.Increment(ref _nextLease);
        _leases.Add(lease, ttl);
        return await Enqueue(new GrantRequest(lease, ttl), cancel).ConfigureAwait(false);
    }

    public ValueTask RenewAsync(long lease, CancellationToken cancel = default)
    {
        if (!_leases.Renew(lease))
            throw new LeaseNotFoundException(lease);
        return ValueTask.CompletedTask;
    }

    public async ValueTask RevokeAsync(long lease, CancellationToken cancel = default)
    {
        if (!_leases.Remove(lease))
            throw new LeaseNotFoundException(lease);
        await Enqueue(new RevokeRequest(lease), cancel).ConfigureAwait(false);
    }

    public async ValueTask CompactAsync(long revision, CancellationToken cancel = default)
    {
        // In steps, so that no commit waits behind the whole of it.
        var from = await Task.Run(() => _reader.Revisions().Compacted, cancel).ConfigureAwait(false);
        while (from < revision)
        {
            var to = Math.Min(from + HistoryPage, revision);
            from = await Enqueue(new CompactRequest(to), cancel).ConfigureAwait(false);
            _recent.Forget(from);
            if (from < to)
                return;
        }
    }

    public async Task BackupAsync(Stream destination, CancellationToken cancel = default)
    {
        var file = $"{_options.Path}.backup-{Guid.NewGuid():N}";
        try
        {
            await Task.Run(() => _reader.CopyTo(file), cancel).ConfigureAwait(false);
            var copy = File.OpenRead(file);
            await using (copy.ConfigureAwait(false))
                await copy.CopyToAsync(destination, cancel).ConfigureAwait(false);
        }
        catch (SqliteException e)
        {
            throw new RegistryStoreException($"cannot copy the registry database {_options.Path}: {e.Message}", e);
        }
        finally
        {
            File.Delete(file);
        }
    }

    public ValueTask<long?> ConfirmAsync(CancellationToken cancel = default) => new((long?)null);

    public TimeSpan SinceConfirmed => TimeSpan.Zero;

    public async ValueTask<StoreHealth> HealthAsync(CancellationToken cancel = default)
    {
        var failure = Volatile.Read(ref _failure);
        try
        {
            var (revision, compacted) = await Task.Run(_reader.Revisions, cancel).ConfigureAwait(false);
            return new StoreHealth(failure.Length == 0, failure, revision, compacted, new FileInfo(_options.Path).Length);
        }
        catch (RegistryStoreException e)
        {
            return new StoreHealth(false, e.Message, Volatile.Read(ref _revision), 0, 0);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await _maintenance.DisposeAsync().ConfigureAwait(false);
        await _leases.DisposeAsync().ConfigureAwait(false);
        _queue.CompleteAdding();
        Task? compaction;
        lock (_ages)
            compaction = _compaction;
        await (compaction ?? Task.CompletedTask).ConfigureAwait(false);
        await Task.Run(_thread.Join).ConfigureAwait(false);
        _writer.Dispose();
        await _connection.DisposeAsync().ConfigureAwait(false);
        _queue.Dispose();
    }

    private static StoreIdentity ReadIdentity(SqliteConnection connection)
    {
        using var command = connection.CreateCommand();
        command.CommandText =
            "SELECT (SELECT value FROM meta WHERE name = 'cluster'), (SELECT value FROM meta WHERE name = 'incarnation')";
        using var reader = command.ExecuteReader();
        reader.Read();
        return new StoreIdentity(reader.GetString(0), reader.GetInt64(1));
    }

    private static WatchBatch? Within(string prefix, WatchBatch batch)
    {
        if (prefix.Length == 0)
            return batch;
        var changes = batch.Changes.Where(c => c.Key.StartsWith(prefix, StringComparison.Ordinal)).ToList();
        return changes.Count == 0 ? null : batch with { Changes = changes };
    }

    private Task<T> Enqueue<T>(WriteRequest<T> request, CancellationToken cancel)
    {
        if (!_queue.TryAddUnlessCompleted(request))
            throw new RegistryStoreException("the registry store is closed");
        return request.Done.WaitAsync(cancel);
    }

    private void Write()
    {
        var group = new List<WriteRequest>(MaxGroup);
        var batches = new List<WatchBatch>(MaxGroup);
        var (lastCount, lastTicks) = (1, 0L);
        foreach (var first in _queue.GetConsumingEnumerable())
        {
            group.Add(first);
            Gather(group, lastCount, lastTicks);
            var begun = Stopwatch.GetTimestamp();
            WriteGroup(group, batches);
            (lastCount, lastTicks) = (group.Count, Stopwatch.GetTimestamp() - begun);
            group.Clear();
            batches.Clear();
        }
    }

    /// <summary>
    /// What waits goes together. Whoever was answered with the last transaction is likely about to come again, a moment after its
    /// fellows: as many as then are waited for, for a quarter of what that transaction took, since one more costs four times that.
    /// </summary>
    private void Gather(List<WriteRequest> group, int lastCount, long lastTicks)
    {
        var until = Stopwatch.GetTimestamp() + Math.Min(lastTicks / 4, MostWait);
        while (group.Count < MaxGroup)
        {
            if (_queue.TryTake(out var another))
                group.Add(another);
            else if (group.Count >= lastCount || Stopwatch.GetTimestamp() >= until)
                return;
            else
                Thread.Yield();
        }
    }

    private void WriteGroup(List<WriteRequest> group, List<WatchBatch> batches)
    {
        try
        {
            var revision = _revision;
            _writer.Begin();
            foreach (var request in group)
            {
                if (request.Run(_writer, revision) is not { } batch)
                    continue;
                batches.Add(batch);
                revision = batch.Revision;
            }
            _writer.Commit();
            Volatile.Write(ref _revision, revision);
            Volatile.Write(ref _failure, "");
        }
        catch (Exception e)
        {
            _writer.Rollback();
            var error = new RegistryStoreException($"cannot write the registry database {_options.Path}: {Explain(e)}", e);
            Volatile.Write(ref _failure, error.Message);
            Log.WriteFailed(_options.Logger, error.Message);
            foreach (var request in group)
                request.Fail(error);
            return;
        }
        foreach (var batch in batches)
            _recent.Append(batch.Revision, batch);
        if (batches.Count > 0)
            _recent.Signal();
        foreach (var request in group)
            request.Complete();
    }

    private static string Explain(Exception error) => error switch
    {
        SqliteException { SqliteErrorCode: SqliteSchema.Full } => "the disk is full; free some space, writes go on by themselves",
        SqliteException { SqliteErrorCode: SqliteSchema.Corrupt or SqliteSchema.NotADatabase } =>
            $"{error.Message}; stop the daemon and restore a backup with 'overlaynet restore FILE'",
        _ => error.Message,
    };

    private void Maintain()
    {
        var now = _options.Time.GetTimestamp();
        var revision = Volatile.Read(ref _revision);
        lock (_ages)
        {
            var target = revision - _options.HistoryRevisions;
            while (_ages.TryPeek(out var oldest) && _options.Time.GetElapsedTime(oldest.Timestamp, now) >= _options.HistoryAge)
                target = Math.Max(target, _ages.Dequeue().Revision);
            _ages.Enqueue((now, revision));
            if (target <= _compactTo)
                return;
            _compactTo = target;
            _compaction ??= Task.Run(CompactInBackground);
        }
    }

    private async Task CompactInBackground()
    {
        for (var done = 0L; ;)
        {
            long target;
            lock (_ages)
            {
                target = _compactTo;
                if (target <= done)
                {
                    _compaction = null;
                    return;
                }
            }
            try
            {
                await CompactAsync(target).ConfigureAwait(false);
                done = target;
            }
            catch (RegistryStoreException e)
            {
                Log.CompactionFailed(_options.Logger, e.Message);
                lock (_ages)
                    (_compactTo, _compaction) = (0, null);
                return;
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Error, Message = "{Error}")]
        public static partial void WriteFailed(ILogger logger, string error);

        [LoggerMessage(Level = LogLevel.Warning, Message = "Compaction put off: {Error}")]
        public static partial void CompactionFailed(ILogger logger, string error);
    }
}
