namespace OverlayNet.Daemon.Registry.Store;

/// <param name="Incarnation">Raised by restore, recover and conversion; revisions of different incarnations do not compare.</param>
public readonly record struct StoreIdentity(string ClusterId, long Incarnation)
{
    /// <summary>
    /// The incarnation of a registry that is put in the place of others: above every one that is known, and at least the time in
    /// seconds, so that a registry restored on an empty machine outranks what it replaces without having known it. Revisions and
    /// lease epochs compare as (incarnation, value); by this rule they never fall.
    /// </summary>
    public static long Next(long known, DateTimeOffset now) => Math.Max(known + 1, now.ToUnixTimeSeconds());
}

/// <summary>A key with its value.</summary>
/// <param name="CreateRevision">When the key came into being (again).</param>
/// <param name="ModRevision">When it was last put.</param>
/// <param name="Lease">The lease whose end deletes the key; 0: none.</param>
public sealed record StoredValue(string Key, ReadOnlyMemory<byte> Value, long CreateRevision, long ModRevision, long Lease);

/// <param name="Revision">The revision of the store that the page shows.</param>
/// <param name="More">There are keys after the last one of the page.</param>
public sealed record RangePage(IReadOnlyList<StoredValue> Items, long Revision, bool More);

public enum GuardField
{
    ModRevision,
    CreateRevision,
}

/// <summary>A condition of a transaction: the key's revision is exactly this; 0 stands for an absent key.</summary>
public readonly record struct Guard(string Key, GuardField Field, long Revision)
{
    public static Guard Absent(string key) => new(key, GuardField.ModRevision, 0);

    /// <summary>Nobody has put or deleted the key since.</summary>
    public static Guard Unchanged(string key, long modRevision) => new(key, GuardField.ModRevision, modRevision);

    /// <summary>The key exists without having been deleted in between; it may have been put again.</summary>
    public static Guard Alive(string key, long createRevision) => new(key, GuardField.CreateRevision, createRevision);
}

/// <param name="Lease">0: none.</param>
public readonly record struct Put(string Key, ReadOnlyMemory<byte> Value, long Lease = 0);

/// <summary>What is written together. A key may occur once among puts and deletes.</summary>
public sealed record Transaction
{
    public IReadOnlyList<Guard> Guards { get; init; } = [];
    public IReadOnlyList<Put> Puts { get; init; } = [];
    public IReadOnlyList<string> Deletes { get; init; } = [];

    /// <summary>
    /// The incarnation that the guards' revisions are of: in any other one nothing is written
    /// (<see cref="CommitOutcome.OtherIncarnation"/>). 0: whichever; for transactions whose guards say only "absent".
    /// </summary>
    public long Incarnation { get; init; }
}

public enum CommitOutcome
{
    Committed,
    GuardFailed,

    /// <summary>The store did not say: read again before trying again.</summary>
    Unknown,

    /// <summary>The store has been restored, recovered or converted since the transaction was planned: nothing was written.</summary>
    OtherIncarnation,
}

/// <param name="Revision">Of the commit; when a guard failed, the revision of the store at which it did; 0 when unknown.</param>
/// <param name="FailedKey">The key of the first guard that failed.</param>
public readonly record struct CommitResult(CommitOutcome Outcome, long Revision, string? FailedKey = null);

/// <param name="Value">Null: deleted.</param>
public sealed record KeyChange(string Key, StoredValue? Value);

/// <summary>What one revision did to the watched keys: one commit, or several that share it.</summary>
public sealed record WatchBatch(long Revision, IReadOnlyList<KeyChange> Changes);

/// <param name="Writable">A commit would be accepted, as far as is known.</param>
/// <param name="Detail">The last failure, or empty.</param>
public sealed record StoreHealth(bool Writable, string Detail, long Revision, long CompactedRevision, long SizeBytes);

/// <summary>The store failed: what it said, and on which file or member.</summary>
public class RegistryStoreException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>History that was asked for has been compacted away.</summary>
public sealed class CompactedException(long asked, long minimum)
    : RegistryStoreException($"revision {asked} is compacted away; the history begins at {minimum}")
{
    /// <summary>The oldest revision that can still be watched from.</summary>
    public long Minimum { get; } = minimum;
}

public sealed class LeaseNotFoundException(long lease)
    : RegistryStoreException($"lease {lease} does not exist: it has expired or was revoked");
