using System.Runtime.CompilerServices;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// What watchers are sent: each change is written once, as a line, for all of them. A watcher has only a position, so one that
/// is slow delays nobody; when it falls out of the kept revisions it gets a snapshot.
/// </summary>
/// <param name="stale">Whether the manager has lost its majority.</param>
/// <param name="confirm">Waits until everything acknowledged by any manager is here; false: it cannot be said, for want of a majority.</param>
internal sealed class ChangeFeed(int revisions, Func<bool>? stale = null, Func<CancellationToken, Task<bool>>? confirm = null)
{
    private static readonly TimeSpan LifeSign = TimeSpan.FromSeconds(1);

    private readonly RecentLog<(long Revision, ReadOnlyMemory<byte> Line)> _log = new(revisions);
    private readonly SharedSnapshot _shared = new();
    private Snapshot _newest = Snapshot.Empty;

    /// <summary>Begins anew: every watcher gets a snapshot, but for those that lack no more than what is recent.</summary>
    /// <param name="recent">What led to the snapshot, a message for each visible revision after <paramref name="since"/>.</param>
    public void Start(Snapshot snapshot, long since, IEnumerable<WatchMessage> recent)
    {
        Volatile.Write(ref _newest, snapshot);
        _log.Start(since);
        foreach (var message in recent)
            _log.Append(message.Revision, (message.Revision, Line(message)));
    }

    public void Add(WatchMessage message, Snapshot after)
    {
        Volatile.Write(ref _newest, after);
        _log.Append(message.Revision, (message.Revision, Line(message)));
    }

    public void Signal() => _log.Signal();

    /// <summary>Lines of the watch stream, without end; each ends with a line feed. A long one comes in pieces.</summary>
    /// <param name="have">The revision the watcher has; null: none, so a snapshot first.</param>
    /// <param name="incarnation">The incarnation that <paramref name="have"/> is of.</param>
    public async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadAsync(
        long? have, long incarnation, TimeProvider time, [EnumeratorCancellation] CancellationToken cancel)
    {
        var next = have + 1;
        var isUpToDate = confirm is null;
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            var newest = Volatile.Read(ref _newest);
            if (!isUpToDate && incarnation == newest.Incarnation && next > newest.Revision + 1)
            {
                // It comes from a manager that is further on. Thrown back to what is known here, it would see what is gone by.
                isUpToDate = await confirm!(cancel).ConfigureAwait(false);
                if (isUpToDate)
                    continue;
                yield return Line(new WatchMessage { Incarnation = incarnation, Revision = newest.Revision, Stale = true });
                _log.Read(newest.Revision + 1, out var news);
                await HappensAsync(news, time, cancel).ConfigureAwait(false);
                continue;
            }
            // Of another incarnation, or ahead of everything there is (then what it has is not ours): start over.
            if (next is null || incarnation != newest.Incarnation || next > newest.Revision + 1)
            {
                // One that another watcher was just sent is as good: what has happened since follows.
                var (revision, pieces) = await _shared.OfAsync(newest, newest.Revision - (revisions / 2), cancel).ConfigureAwait(false);
                (next, incarnation) = (revision + 1, newest.Incarnation);
                foreach (var piece in pieces)
                    yield return piece;
                continue;
            }
            var lines = _log.Read(next.Value, out var more);
            if (lines is null)
            {
                next = null;
                continue;
            }
            foreach (var (at, line) in lines)
            {
                next = at + 1;
                yield return line;
            }
            if (lines.Count == 0 && !await HappensAsync(more, time, cancel).ConfigureAwait(false))
                yield return Line(new WatchMessage { Incarnation = incarnation, Revision = next.Value - 1, Stale = stale?.Invoke() == true ? true : null });
        }
    }

    private static async Task<bool> HappensAsync(Task more, TimeProvider time, CancellationToken cancel)
    {
        try
        {
            await more.WaitAsync(LifeSign, time, cancel).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    private static byte[] Line(WatchMessage message)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(message, OverlayNetJson.Default.WatchMessage);
        Array.Resize(ref json, json.Length + 1);
        json[^1] = (byte)'\n';
        return json;
    }
}
