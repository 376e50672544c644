using OverlayNet.Daemon.Registry.Store.Etcd.Wire;

namespace OverlayNet.Daemon.Registry.Store.Etcd;

/// <summary>One commit on its way to etcd.</summary>
/// <param name="transaction">Whose keys these are.</param>
/// <param name="guards">Its guards in etcd's terms.</param>
/// <param name="operations">Its puts and deletes in etcd's terms.</param>
internal sealed class EtcdCommit(Transaction transaction, IReadOnlyList<Compare> guards, IReadOnlyList<RequestOp> operations)
{
    private readonly TaskCompletionSource<(ResponseHeader Header, bool Succeeded)?> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public IReadOnlyList<Compare> Guards => guards;

    public IReadOnlyList<RequestOp> Operations => operations;

    public IEnumerable<string> Read => transaction.Guards.Select(guard => guard.Key);

    public IEnumerable<string> Written => transaction.Puts.Select(put => put.Key).Concat(transaction.Deletes);

    public int Bytes { get; } = transaction.Puts.Sum(put => put.Value.Length);

    /// <summary>Null: nobody knows whether it was carried out.</summary>
    public Task<(ResponseHeader Header, bool Succeeded)?> Done => _done.Task;

    public void Complete((ResponseHeader Header, bool Succeeded)? answer) => _done.TrySetResult(answer);

    public void Fail(Exception error) => _done.TrySetException(error);
}

/// <summary>
/// Sends commits to etcd. Those that come while one is under way wait for its answer and then go together, as one transaction whose
/// operations are theirs (nested transactions, etcd 3.3): one message, one proposal and one write to the disks for all of them. They
/// then share a revision.
/// </summary>
/// <remarks>
/// etcd evaluates all guards before it writes anything, so that what goes together must not write a key which another one reads or
/// writes; such a commit waits for the next.
/// </remarks>
/// <param name="client">The cluster.</param>
/// <param name="identity">Holds in this registry only.</param>
/// <param name="time">Clock.</param>
internal sealed class EtcdCommitter(EtcdClient client, Compare identity, TimeProvider time)
{
    /// <summary>Together with <see cref="MostOperations"/> within the 128 operations of an etcd that is not started by us: it adds up a path of nested ones.</summary>
    private const int MostTogether = 64;
    private const int MostOperations = 64;

    /// <summary>A third of what etcd takes in one request.</summary>
    private const int MostBytes = 512 * 1024;

    /// <summary>Later ones do not wait longer than this for an answer.</summary>
    private static readonly TimeSpan MostHeldUp = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan MostGathering = TimeSpan.FromMilliseconds(2);
    private readonly Lock _gate = new();
    private readonly List<EtcdCommit> _waiting = [];

    // A commit that met no other one; and whether those that met one are being sent.
    private TaskCompletionSource? _alone;
    private bool _sending;

    /// <summary>Sends it, now or with the next ones.</summary>
    /// <returns>Null: nobody knows whether it was carried out.</returns>
    /// <exception cref="GrpcException">As <see cref="EtcdClient.WriteAsync"/>.</exception>
    public async Task<(ResponseHeader Header, bool Succeeded)?> CommitAsync(EtcdCommit commit)
    {
        TaskCompletionSource? ended = null, before = null;
        lock (_gate)
        {
            if (_alone is null && !_sending)
            {
                _alone = ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }
            else
            {
                _waiting.Add(commit);
                if (!_sending)
                    (_sending, before) = (true, _alone);
            }
        }
        if (ended is null)
        {
            if (before is not null)
                _ = SendAllAsync(before.Task);
            return await commit.Done.ConfigureAwait(false);
        }
        try
        {
            return await SendAloneAsync(commit).ConfigureAwait(false);
        }
        finally
        {
            lock (_gate)
                _alone = null;
            ended.SetResult();
        }
    }

    private async Task SendAllAsync(Task before)
    {
        var (lastCount, last) = (1, before);
        while (true)
        {
            var begun = time.GetTimestamp();
            await last.WaitAsync(MostHeldUp, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await GatherAsync(lastCount, time.GetElapsedTime(begun)).ConfigureAwait(false);
            if (Take() is not { } group)
                return;
            last = SendAsync(group);
            lastCount = group.Count;
        }
    }

    /// <summary>
    /// Whoever was answered just now is likely about to come again, a moment after its fellows: as many as then are waited for, for a
    /// quarter of what that transaction took.
    /// </summary>
    private async Task GatherAsync(int lastCount, TimeSpan lastTime)
    {
        var begun = time.GetTimestamp();
        var most = TimeSpan.FromTicks(Math.Min(lastTime.Ticks / 4, MostGathering.Ticks));
        while (Waiting < lastCount && lastCount > 1 && time.GetElapsedTime(begun) < most)
            await Task.Yield();
    }

    private int Waiting
    {
        get
        {
            lock (_gate)
                return _waiting.Count;
        }
    }

    /// <returns>What goes together; null: nothing waits, and the next commit begins anew.</returns>
    private List<EtcdCommit>? Take()
    {
        lock (_gate)
        {
            if (_waiting.Count == 0)
            {
                _sending = false;
                return null;
            }
            var (read, written) = (new HashSet<string>(StringComparer.Ordinal), new HashSet<string>(StringComparer.Ordinal));
            var group = new List<EtcdCommit>();
            var bytes = 0;
            _waiting.RemoveAll(commit =>
            {
                if (group.Count > 0 && (!FitsAmong(group, bytes, commit) || commit.Read.Any(written.Contains) || commit.Written.Any(key => written.Contains(key) || read.Contains(key))))
                    return false;
                group.Add(commit);
                bytes += commit.Bytes;
                read.UnionWith(commit.Read);
                written.UnionWith(commit.Written);
                return true;
            });
            return group;
        }
    }

    private static bool FitsAmong(List<EtcdCommit> group, int bytes, EtcdCommit commit) =>
        group.Count < MostTogether && bytes + commit.Bytes <= MostBytes && MayNest(group[0]) && MayNest(commit);

    private static bool MayNest(EtcdCommit commit) => commit.Guards.Count <= MostOperations && commit.Operations.Count <= MostOperations;

    private async Task SendAsync(List<EtcdCommit> group)
    {
        try
        {
            if (group is [var only])
            {
                only.Complete(await SendAloneAsync(only).ConfigureAwait(false));
                return;
            }
            var request = new TxnRequest { Compare = { identity } };
            request.Success.AddRange(group.Select(commit => new RequestOp { RequestTxn = new TxnRequest { Compare = { commit.Guards }, Success = { commit.Operations } } }));
            var answer = await WriteAsync(request).ConfigureAwait(false);
            for (var i = 0; i < group.Count; i++)
                group[i].Complete(answer is null ? null : (answer.Header, answer.Succeeded && answer.Responses[i].ResponseTxn.Succeeded));
        }
        catch (GrpcException e) when (group.Count > 1 && !e.IsTransient)
        {
            // One of them was refused (its lease has ended, say) and all with it: each for itself.
            foreach (var commit in group)
                await SendAsync([commit]).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            foreach (var commit in group)
                commit.Fail(e);
        }
    }

    private async Task<(ResponseHeader Header, bool Succeeded)?> SendAloneAsync(EtcdCommit commit)
    {
        var answer = await WriteAsync(new TxnRequest { Compare = { identity, commit.Guards }, Success = { commit.Operations } }).ConfigureAwait(false);
        return answer is null ? null : (answer.Header, answer.Succeeded);
    }

    private Task<TxnResponse?> WriteAsync(TxnRequest request) => client.WriteAsync(EtcdMethods.Txn, request, TxnResponse.Parser, CancellationToken.None);
}
