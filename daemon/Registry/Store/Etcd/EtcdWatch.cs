using System.Runtime.CompilerServices;
using Google.Protobuf;
using OverlayNet.Daemon.Registry.Store.Etcd.Wire;

namespace OverlayNet.Daemon.Registry.Store.Etcd;

/// <summary>
/// A watch that outlives members: when the one it is with fails or is left by the client, it goes on at another from the next
/// revision, so that nothing is missed, repeated or reordered.
/// </summary>
internal sealed class EtcdWatch(EtcdClient client, ulong clusterId, ByteString key, ByteString end)
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromMilliseconds(100);

    /// <summary>The events of each revision from <paramref name="next"/> on, without end.</summary>
    /// <exception cref="CompactedException">The first of them are gone.</exception>
    /// <exception cref="RegistryStoreException">The member belongs to another cluster: another history.</exception>
    public async IAsyncEnumerable<(long Revision, List<Event> Events)> ReadAsync(long next, [EnumeratorCancellation] CancellationToken cancel)
    {
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            var home = client.Home;
            using var moves = CancellationTokenSource.CreateLinkedTokenSource(cancel, client.HomeChanges);
            var stream = OpenAsync(home, next, moves.Token).GetAsyncEnumerator(moves.Token);
            try
            {
                while (await NextAsync(stream, home, cancel, moves.Token).ConfigureAwait(false) is { } answer)
                {
                    foreach (var (revision, events) in Batches(answer, next))
                    {
                        next = revision + 1;
                        yield return (revision, events);
                    }
                }
            }
            finally
            {
                await stream.DisposeAsync().ConfigureAwait(false);
            }
            await Task.Delay(RetryPause, cancel).ConfigureAwait(false);
        }
    }

    /// <remarks>
    /// Asked for is the revision before the next: etcd refuses only what is older than its compaction, and of the compacted revision
    /// itself deletions are gone. So an answer means that everything from the next on is there.
    /// </remarks>
    private IAsyncEnumerable<WatchResponse> OpenAsync(Uri home, long next, CancellationToken cancel) => client.Channel(home).StreamAsync(
        EtcdMethods.Watch,
        new WatchRequest { CreateRequest = new WatchCreateRequest { Key = key, RangeEnd = end, StartRevision = Math.Max(next - 1, 1) } },
        WatchResponse.Parser, cancel);

    /// <returns>Null: this stream is over, go on with another.</returns>
    private async Task<WatchResponse?> NextAsync(IAsyncEnumerator<WatchResponse> stream, Uri home, CancellationToken cancel, CancellationToken moves)
    {
        try
        {
            if (!await stream.MoveNextAsync().ConfigureAwait(false))
                return null;
        }
        catch (GrpcException e)
        {
            client.Failed(home, e);
            return null;
        }
        catch (OperationCanceledException) when (moves.IsCancellationRequested && !cancel.IsCancellationRequested)
        {
            return null;
        }
        var answer = stream.Current;
        if (answer.Header.ClusterId != clusterId)
            throw new RegistryStoreException("etcd has been replaced by another cluster since it was opened");
        if (answer.CompactRevision > 0)
            throw new CompactedException(answer.CompactRevision, answer.CompactRevision + 1);
        return answer.Canceled ? null : answer;
    }

    private static IEnumerable<(long Revision, List<Event> Events)> Batches(WatchResponse answer, long next)
    {
        List<Event>? events = null;
        foreach (var change in answer.Events)
        {
            if (change.Kv.ModRevision < next)
                continue;
            if (events is not null && events[0].Kv.ModRevision != change.Kv.ModRevision)
            {
                yield return (events[0].Kv.ModRevision, events);
                events = null;
            }
            (events ??= []).Add(change);
        }
        if (events is not null)
            yield return (events[0].Kv.ModRevision, events);
    }
}
