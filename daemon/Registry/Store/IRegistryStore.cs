namespace OverlayNet.Daemon.Registry.Store;

/// <summary>
/// A revisioned key-value store: every successful commit gives one new revision to all the keys it touches, and a watcher
/// sees the revisions in that order without a gap. Commits of several callers at once may share one, where none of them
/// touches what another one writes. Keys are printable ASCII, ordered by their bytes.
/// </summary>
/// <remarks>
/// Leases are for liveness and clean-up only; nothing may rely on their timing for safety (see docs/registry.md).
/// Every member throws <see cref="RegistryStoreException"/> when the store itself fails.
/// </remarks>
public interface IRegistryStore : IAsyncDisposable
{
    StoreIdentity Identity { get; }

    /// <summary>Keys that begin with <paramref name="prefix"/>, in order, at one revision.</summary>
    /// <param name="after">Only keys after this one (the last of the page before); null: from the beginning.</param>
    /// <param name="limit">At most so many; 0: all.</param>
    /// <param name="atRevision">The registry as it was then; null: now.</param>
    /// <param name="stale">Accept an answer of a store that has lost its quorum.</param>
    /// <exception cref="CompactedException"><paramref name="atRevision"/> is no longer in the history.</exception>
    ValueTask<RangePage> RangeAsync(
        string prefix, string? after = null, int limit = 0, long? atRevision = null, bool stale = false,
        CancellationToken cancel = default);

    /// <summary>Writes everything of a transaction at one new revision if all guards hold, else nothing.</summary>
    /// <remarks>
    /// Deleting an absent key is no change; a transaction that changes nothing gives no revision.
    /// A cancelled call may still be committed.
    /// </remarks>
    ValueTask<CommitResult> CommitAsync(Transaction transaction, CancellationToken cancel = default);

    /// <summary>
    /// Every change of keys with the prefix from a revision on, a batch a revision. Ends by cancellation or an exception only.
    /// </summary>
    /// <exception cref="CompactedException">Batches that were asked for are gone: read the range again and watch from there.</exception>
    IAsyncEnumerable<WatchBatch> WatchAsync(string prefix, long fromRevision, CancellationToken cancel = default);

    /// <returns>The lease's number, never 0.</returns>
    ValueTask<long> GrantAsync(TimeSpan ttl, CancellationToken cancel = default);

    /// <summary>Gives a lease its whole time again.</summary>
    /// <exception cref="LeaseNotFoundException">It has expired or was revoked.</exception>
    ValueTask RenewAsync(long lease, CancellationToken cancel = default);

    /// <summary>Ends a lease and deletes the keys attached to it, at one revision.</summary>
    ValueTask RevokeAsync(long lease, CancellationToken cancel = default);

    /// <summary>Forgets what was overwritten or deleted up to a revision.</summary>
    ValueTask CompactAsync(long revision, CancellationToken cancel = default);

    /// <summary>A consistent copy of the whole store, made while it runs.</summary>
    Task BackupAsync(Stream destination, CancellationToken cancel = default);

    /// <summary>
    /// The newest revision as of now, confirmed by a majority: who sees at least this sees everything acknowledged before the call.
    /// </summary>
    /// <returns>Null: embedded, where memory that follows the store has everything when a commit is acknowledged.</returns>
    ValueTask<long?> ConfirmAsync(CancellationToken cancel = default);

    /// <summary>Since the store last had its majority for certain; <see cref="TimeSpan.MaxValue"/>: never yet.</summary>
    TimeSpan SinceConfirmed { get; }

    ValueTask<StoreHealth> HealthAsync(CancellationToken cancel = default);
}
