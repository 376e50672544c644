using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Google.Protobuf;
using OverlayNet.Daemon.Registry.Store.Etcd.Wire;

namespace OverlayNet.Daemon.Registry.Store.Etcd;

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(StoreIdentity))]
internal sealed partial class EtcdJson : JsonSerializerContext;

/// <summary>
/// The store of several managers: etcd 3.4, of which every daemon uses one member at a time (<see cref="EtcdClient"/>). Keys lie under
/// a prefix; one key beside them says which registry this is, and every transaction is guarded by it.
/// </summary>
/// <remarks>
/// Revisions are etcd's own and count every write to it; a watch of everything gets a batch without changes for those that are not
/// the registry's, so that waiting for a revision ends.
/// </remarks>
public sealed partial class EtcdStore : IRegistryStore
{
    public const string DefaultPrefix = "/overlaynet/";

    /// <summary>Operations a transaction may have; the members are started with the same limit.</summary>
    public const int MaxOperations = 1024;
    private const string KeySpace = "k/", IdentityKey = "identity";
    private const int PageSize = 4000, ImportPage = 400;
    private static readonly TimeSpan LongCall = TimeSpan.FromSeconds(20);
    private static readonly ByteString Everything = ByteString.CopyFrom(0);
    private readonly EtcdClient _client;
    private readonly string _prefix;
    private readonly ByteString _identityKey;
    private readonly EtcdCommitter _committer;
    private readonly long _identityRevision;
    private readonly ulong _clusterId;

    private EtcdStore(EtcdClient client, TimeProvider time, string prefix, StoreIdentity identity, long identityRevision, ulong clusterId)
    {
        _client = client;
        _prefix = prefix + KeySpace;
        _identityKey = ByteString.CopyFromUtf8(prefix + IdentityKey);
        _identityRevision = identityRevision;
        _clusterId = clusterId;
        _committer = new EtcdCommitter(client, new Compare { Key = _identityKey, Target = Compare.Types.CompareTarget.Mod, ModRevision = identityRevision }, time);
        Identity = identity;
        client.Start(_identityKey);
    }

    public StoreIdentity Identity { get; }

    /// <summary>etcd's own cluster, for its members' supervision.</summary>
    internal EtcdClient Client => _client;

    /// <summary>etcd's id of the cluster: another one is another history.</summary>
    internal ulong EtcdClusterId => _clusterId;

    /// <summary>Opens the registry that an etcd holds.</summary>
    /// <param name="stale">Also when the member cannot reach the others: reads then show what it had.</param>
    /// <returns>Null: it holds none.</returns>
    /// <exception cref="RegistryStoreException">No member answers.</exception>
    public static async Task<EtcdStore?> OpenAsync(
        EtcdClientOptions options, string prefix = DefaultPrefix, bool stale = false, CancellationToken cancel = default)
    {
        var client = new EtcdClient(options);
        try
        {
            var answer = await client.ReadAsync(
                EtcdMethods.Range,
                new RangeRequest { Key = ByteString.CopyFromUtf8(prefix + IdentityKey), Serializable = stale },
                RangeResponse.Parser, cancel, needsLeader: !stale).ConfigureAwait(false);
            if (answer.Kvs.Count == 1)
            {
                var identity = JsonSerializer.Deserialize(answer.Kvs[0].Value.Span, EtcdJson.Default.StoreIdentity);
                return new EtcdStore(client, options.Time, prefix, identity, answer.Kvs[0].ModRevision, answer.Header.ClusterId);
            }
        }
        catch
        {
            await client.DisposeAsync().ConfigureAwait(false);
            throw;
        }
        await client.DisposeAsync().ConfigureAwait(false);
        return null;
    }

    /// <summary>Puts a registry into an etcd that holds none: the values first, the identity last, so that half an import is never opened.</summary>
    /// <exception cref="RegistryStoreException">It holds one already, or does not take it.</exception>
    public static async Task<EtcdStore> CreateAsync(
        EtcdClientOptions options, StoreIdentity identity, IEnumerable<Put> content, string prefix = DefaultPrefix, CancellationToken cancel = default)
    {
        var client = new EtcdClient(options);
        await using (client.ConfigureAwait(false))
        {
            var key = ByteString.CopyFromUtf8(prefix + IdentityKey);
            var unclaimed = new Compare { Key = key, Target = Compare.Types.CompareTarget.Mod, ModRevision = 0 };
            foreach (var page in content.Chunk(ImportPage))
            {
                var put = new TxnRequest { Compare = { unclaimed } };
                put.Success.AddRange(page.Select(item => PutOp(prefix + KeySpace + item.Key, ByteString.CopyFrom(item.Value.Span), 0)));
                await ImportAsync(client, put, cancel).ConfigureAwait(false);
            }
            await ImportAsync(client, new TxnRequest
            {
                Compare = { unclaimed },
                Success = { PutOp(prefix + IdentityKey, ByteString.CopyFrom(JsonSerializer.SerializeToUtf8Bytes(identity, EtcdJson.Default.StoreIdentity)), 0) },
            }, cancel).ConfigureAwait(false);
        }
        return await OpenAsync(options, prefix, cancel: cancel).ConfigureAwait(false)
            ?? throw new RegistryStoreException("etcd does not have the registry that was just put into it");
    }

    public async ValueTask<RangePage> RangeAsync(
        string prefix, string? after = null, int limit = 0, long? atRevision = null, bool stale = false, CancellationToken cancel = default)
    {
        KeyRange.CheckPrefix(prefix);
        var items = new List<StoredValue>();
        while (true)
        {
            var page = limit == 0 ? PageSize : Math.Min(PageSize, limit - items.Count);
            var request = new RangeRequest
            {
                Key = after is null ? Key(prefix) : ByteString.CopyFromUtf8(_prefix + after + '\0'),
                RangeEnd = End(prefix),
                Limit = page,
                Revision = atRevision ?? 0,
                Serializable = stale,
            };
            RangeResponse answer;
            try
            {
                answer = await _client.ReadAsync(EtcdMethods.Range, request, RangeResponse.Parser, cancel, LongCall, needsLeader: !stale).ConfigureAwait(false);
            }
            catch (GrpcException e) when (e.Code == GrpcCode.OutOfRange && e.Text.Contains("compacted", StringComparison.Ordinal))
            {
                throw new CompactedException(atRevision ?? 0, 0);
            }
            ThrowIfOther(answer.Header);
            // The pages after the first show the revision of the first.
            atRevision ??= answer.Header.Revision;
            items.AddRange(answer.Kvs.Select(Value));
            if (!answer.More || items.Count == limit)
                return new RangePage(items, atRevision.Value, answer.More);
            after = items[^1].Key;
        }
    }

    public async ValueTask<CommitResult> CommitAsync(Transaction transaction, CancellationToken cancel = default)
    {
        KeyRange.Check(transaction);
        if (transaction.Incarnation != 0 && transaction.Incarnation != Identity.Incarnation)
            return new CommitResult(CommitOutcome.OtherIncarnation, 0);
        var operations = transaction.Puts.Select(put => PutOp(_prefix + put.Key, ByteString.CopyFrom(put.Value.Span), put.Lease))
            .Concat(transaction.Deletes.Select(key => new RequestOp { RequestDeleteRange = new DeleteRangeRequest { Key = Key(key) } }));
        var commit = new EtcdCommit(transaction, [.. transaction.Guards.Select(Compared)], [.. operations]);
        if (commit.Guards.Count >= MaxOperations || commit.Operations.Count > MaxOperations)
            throw new ArgumentException($"a transaction of more than {MaxOperations} operations", nameof(transaction));
        (ResponseHeader Header, bool Succeeded) answer;
        try
        {
            if (await _committer.CommitAsync(commit).WaitAsync(cancel).ConfigureAwait(false) is not { } known)
                return new CommitResult(CommitOutcome.Unknown, 0);
            answer = known;
        }
        catch (GrpcException e) when (e.Code == GrpcCode.NotFound)
        {
            throw new LeaseNotFoundException(transaction.Puts.FirstOrDefault(put => put.Lease != 0).Lease);
        }
        catch (GrpcException e) when (e.Code == GrpcCode.ResourceExhausted)
        {
            throw new RegistryStoreException("etcd's space is used up; it is being compacted and defragmented by itself, try again in a minute", e);
        }
        ThrowIfOther(answer.Header);
        if (answer.Succeeded)
            return new CommitResult(CommitOutcome.Committed, answer.Header.Revision);
        return await WhichFailedAsync(transaction.Guards, answer.Header.Revision, cancel).ConfigureAwait(false);
    }

    /// <summary>Which guard failed, by the values as of that very revision. Asked afterwards: few fail, and the questions would make every commit longer.</summary>
    private async Task<CommitResult> WhichFailedAsync(IReadOnlyList<Guard> guards, long revision, CancellationToken cancel)
    {
        RequestOp Asked(ByteString key) => new() { RequestRange = new RangeRequest { Key = key, KeysOnly = true, Revision = revision } };
        var question = new TxnRequest { Success = { Asked(_identityKey) } };
        question.Success.AddRange(guards.Select(guard => Asked(Key(guard.Key))));
        try
        {
            var answer = await _client.ReadAsync(EtcdMethods.Txn, question, TxnResponse.Parser, cancel).ConfigureAwait(false);
            ThrowIfOther(answer.Header);
            return ModRevision(answer.Responses[0]) != _identityRevision
                ? new CommitResult(CommitOutcome.OtherIncarnation, revision)
                : new CommitResult(CommitOutcome.GuardFailed, revision, guards.Zip(answer.Responses.Skip(1)).First(pair => !Holds(pair.First, pair.Second)).First.Key);
        }
        catch (GrpcException)
        {
            // Nothing was written, that is certain; which guard it was only makes a better message.
            return new CommitResult(CommitOutcome.GuardFailed, revision);
        }
    }

    public async IAsyncEnumerable<WatchBatch> WatchAsync(string prefix, long fromRevision, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        KeyRange.CheckPrefix(prefix);
        var next = Math.Max(fromRevision, 1);
        // etcd takes a watch from the future silently, and it would say nothing for long.
        var now = await RevisionAsync(cancel).ConfigureAwait(false);
        if (next > now + 1)
            throw new RegistryStoreException($"cannot watch from revision {next}: the registry is at {now}");
        var reader = new EtcdWatch(_client, _clusterId, prefix.Length == 0 ? Everything : Key(prefix), prefix.Length == 0 ? Everything : End(prefix));
        await foreach (var (revision, events) in reader.ReadAsync(next, cancel).ConfigureAwait(false))
            yield return new WatchBatch(revision, [.. events.Where(IsOurs).Select(Change)]);
    }

    public async ValueTask<long> GrantAsync(TimeSpan ttl, CancellationToken cancel = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(ttl, TimeSpan.Zero);
        // A grant that may have happened is not harmful: a lease without keys runs out by itself.
        var answer = await _client.WriteAsync(
            EtcdMethods.LeaseGrant, new LeaseGrantRequest { TTL = (long)Math.Ceiling(ttl.TotalSeconds) }, LeaseGrantResponse.Parser, cancel).ConfigureAwait(false);
        return answer?.ID ?? throw new RegistryStoreException("etcd did not say whether it granted the lease; try again");
    }

    public async ValueTask RenewAsync(long lease, CancellationToken cancel = default)
    {
        var answer = await _client.Channel(_client.Home).CallAsync(
            EtcdMethods.LeaseKeepAlive, new LeaseKeepAliveRequest { ID = lease }, LeaseKeepAliveResponse.Parser, EtcdClient.AttemptTimeout, cancel, stream: true).ConfigureAwait(false);
        if (answer.TTL <= 0)
            throw new LeaseNotFoundException(lease);
    }

    public async ValueTask RevokeAsync(long lease, CancellationToken cancel = default)
    {
        try
        {
            if (await _client.WriteAsync(EtcdMethods.LeaseRevoke, new LeaseRevokeRequest { ID = lease }, LeaseRevokeResponse.Parser, cancel).ConfigureAwait(false) is null)
                throw new RegistryStoreException("etcd did not say whether it revoked the lease; it runs out by itself");
        }
        catch (GrpcException e) when (e.Code == GrpcCode.NotFound)
        {
            throw new LeaseNotFoundException(lease);
        }
    }

    public async ValueTask CompactAsync(long revision, CancellationToken cancel = default)
    {
        try
        {
            await _client.ReadAsync(EtcdMethods.Compact, new CompactionRequest { Revision = revision }, CompactionResponse.Parser, cancel, LongCall).ConfigureAwait(false);
        }
        catch (GrpcException e) when (e.Code == GrpcCode.OutOfRange)
        {
            // Compacted that far already.
        }
    }

    public async Task BackupAsync(Stream destination, CancellationToken cancel = default)
    {
        await foreach (var part in _client.Channel(_client.Home)
            .StreamAsync(EtcdMethods.Snapshot, new SnapshotRequest(), SnapshotResponse.Parser, cancel).ConfigureAwait(false))
            await destination.WriteAsync(part.Blob.Memory, cancel).ConfigureAwait(false);
    }

    public async ValueTask<long?> ConfirmAsync(CancellationToken cancel = default) => await RevisionAsync(cancel).ConfigureAwait(false);

    public TimeSpan SinceConfirmed => _client.SinceConfirmed;

    public async ValueTask<StoreHealth> HealthAsync(CancellationToken cancel = default)
    {
        try
        {
            var status = await _client.StatusAsync(_client.Home, cancel).ConfigureAwait(false);
            var revision = await RevisionAsync(cancel).ConfigureAwait(false);
            return new StoreHealth(status.Errors.Count == 0, string.Join("; ", status.Errors), revision, 0, status.DbSize);
        }
        catch (GrpcException e)
        {
            return new StoreHealth(false, e.Message, 0, 0, 0);
        }
    }

    public ValueTask DisposeAsync() => _client.DisposeAsync();

    /// <summary>The newest revision, confirmed by a majority.</summary>
    /// <exception cref="RegistryStoreException">No majority.</exception>
    public async Task<long> RevisionAsync(CancellationToken cancel = default)
    {
        var answer = await _client.ReadAsync(
            EtcdMethods.Range, new RangeRequest { Key = _identityKey, KeysOnly = true }, RangeResponse.Parser, cancel).ConfigureAwait(false);
        ThrowIfOther(answer.Header);
        return answer.Header.Revision;
    }

    private static async Task ImportAsync(EtcdClient client, TxnRequest request, CancellationToken cancel)
    {
        // An unknown result is no matter here: the same values put again are the same.
        for (var attempt = 0; attempt < 10; attempt++)
        {
            var answer = await client.WriteAsync(EtcdMethods.Txn, request, TxnResponse.Parser, cancel, LongCall).ConfigureAwait(false);
            if (answer is { Succeeded: true })
                return;
            if (answer is not null)
                throw new RegistryStoreException("etcd holds a registry already");
        }
        throw new RegistryStoreException("etcd did not take the registry's content");
    }

    private void ThrowIfOther(ResponseHeader header)
    {
        if (header.ClusterId != _clusterId)
            throw new RegistryStoreException("etcd has been replaced by another cluster since it was opened");
    }

    private bool IsOurs(Event change) => change.Kv.Key.Span.StartsWith(Encoding.ASCII.GetBytes(_prefix));

    private ByteString Key(string key) => ByteString.CopyFromUtf8(_prefix + key);

    private ByteString End(string prefix) => ByteString.CopyFromUtf8(KeyRange.End(_prefix + prefix)!);

    private static RequestOp PutOp(string key, ByteString value, long lease) => new()
    {
        RequestPut = new PutRequest { Key = ByteString.CopyFromUtf8(key), Value = value, Lease = lease },
    };

    private Compare Compared(Guard guard) => guard.Field == GuardField.CreateRevision
        ? new Compare { Key = Key(guard.Key), Target = Compare.Types.CompareTarget.Create, CreateRevision = guard.Revision }
        : new Compare { Key = Key(guard.Key), Target = Compare.Types.CompareTarget.Mod, ModRevision = guard.Revision };

    private static bool Holds(Guard guard, ResponseOp found)
    {
        var value = found.ResponseRange.Kvs.FirstOrDefault();
        return (guard.Field == GuardField.CreateRevision ? value?.CreateRevision ?? 0 : value?.ModRevision ?? 0) == guard.Revision;
    }

    private static long ModRevision(ResponseOp found) => found.ResponseRange.Kvs.FirstOrDefault()?.ModRevision ?? 0;

    private StoredValue Value(KeyValue value) => new(
        value.Key.ToStringUtf8()[_prefix.Length..], value.Value.Memory, value.CreateRevision, value.ModRevision, value.Lease);

    private KeyChange Change(Event change) => new(
        change.Kv.Key.ToStringUtf8()[_prefix.Length..], change.Type == Event.Types.EventType.Delete ? null : Value(change.Kv));
}
