using System.Runtime.CompilerServices;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>
/// A store that can be replaced by another while it is in use: watches break off, so that who follows reads the whole anew, and
/// transactions planned on the old one are refused by the new one, since its incarnation is another.
/// </summary>
public sealed class StoreSwitch(IRegistryStore first) : IRegistryStore
{
    private IRegistryStore _current = first;
    private CancellationTokenSource _replaced = new();

    public IRegistryStore Current => Volatile.Read(ref _current);

    public StoreIdentity Identity => Current.Identity;

    /// <returns>The store that was in use, for the caller to close.</returns>
    public IRegistryStore Replace(IRegistryStore next)
    {
        var old = Interlocked.Exchange(ref _current, next);
        Interlocked.Exchange(ref _replaced, new CancellationTokenSource()).Cancel();
        return old;
    }

    public ValueTask<RangePage> RangeAsync(
        string prefix, string? after = null, int limit = 0, long? atRevision = null, bool stale = false, CancellationToken cancel = default) =>
        Current.RangeAsync(prefix, after, limit, atRevision, stale, cancel);

    public ValueTask<CommitResult> CommitAsync(Transaction transaction, CancellationToken cancel = default) => Current.CommitAsync(transaction, cancel);

    public async IAsyncEnumerable<WatchBatch> WatchAsync(string prefix, long fromRevision, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        var replaced = Volatile.Read(ref _replaced);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancel, replaced.Token);
        var batches = Current.WatchAsync(prefix, fromRevision, either.Token).GetAsyncEnumerator(either.Token);
        await using (batches.ConfigureAwait(false))
        {
            while (true)
            {
                try
                {
                    if (!await batches.MoveNextAsync().ConfigureAwait(false))
                        yield break;
                }
                catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
                {
                    throw new RegistryStoreException("the store has been replaced");
                }
                yield return batches.Current;
            }
        }
    }

    public ValueTask<long> GrantAsync(TimeSpan ttl, CancellationToken cancel = default) => Current.GrantAsync(ttl, cancel);

    public ValueTask RenewAsync(long lease, CancellationToken cancel = default) => Current.RenewAsync(lease, cancel);

    public ValueTask RevokeAsync(long lease, CancellationToken cancel = default) => Current.RevokeAsync(lease, cancel);

    public ValueTask CompactAsync(long revision, CancellationToken cancel = default) => Current.CompactAsync(revision, cancel);

    public Task BackupAsync(Stream destination, CancellationToken cancel = default) => Current.BackupAsync(destination, cancel);

    public ValueTask<long?> ConfirmAsync(CancellationToken cancel = default) => Current.ConfirmAsync(cancel);

    public TimeSpan SinceConfirmed => Current.SinceConfirmed;

    public ValueTask<StoreHealth> HealthAsync(CancellationToken cancel = default) => Current.HealthAsync(cancel);

    public ValueTask DisposeAsync() => Current.DisposeAsync();
}
