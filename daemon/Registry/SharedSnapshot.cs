using System.Buffers;
using System.Text.Json;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// The snapshot's line of the watch stream, written once for all watchers that need one at about the same time: after an outage that
/// may be all of a cluster's nodes, and a large registry is many megabytes. Kept only as long as somebody is being sent it.
/// </summary>
internal sealed class SharedSnapshot
{
    private readonly SemaphoreSlim _gate = new(1, 1);
    private readonly WeakReference<Written?> _last = new(null);

    private sealed record Written(long Incarnation, long Revision, IReadOnlyList<ReadOnlyMemory<byte>> Pieces);

    /// <param name="least">The oldest revision that will do.</param>
    /// <returns>The revision it shows, and the line in pieces.</returns>
    public async Task<(long Revision, IReadOnlyList<ReadOnlyMemory<byte>> Pieces)> OfAsync(Snapshot newest, long least, CancellationToken cancel)
    {
        await _gate.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            if (!_last.TryGetTarget(out var last) || last.Incarnation != newest.Incarnation || last.Revision < least || last.Revision > newest.Revision)
                _last.SetTarget(last = Write(newest));
            return (last.Revision, last.Pieces);
        }
        finally
        {
            _gate.Release();
        }
    }

    private static Written Write(Snapshot snapshot)
    {
        var pieces = new Pieces();
        using (var writer = new Utf8JsonWriter(pieces, new JsonWriterOptions { SkipValidation = true }))
        {
            JsonSerializer.Serialize(
                writer, new WatchMessage { Incarnation = snapshot.Incarnation, Revision = snapshot.Revision, Snapshot = snapshot.ToContract() }, OverlayNetJson.Default.WatchMessage);
        }
        pieces.Write("\n"u8);
        return new Written(snapshot.Incarnation, snapshot.Revision, pieces.Taken());
    }

    /// <summary>Memory in pieces: one array of the whole would be grown and copied again and again, and stay behind as large objects.</summary>
    private sealed class Pieces : IBufferWriter<byte>
    {
        private const int Size = 64 * 1024;
        private readonly List<ReadOnlyMemory<byte>> _full = [];
        private byte[] _piece = [];
        private int _used;

        public void Advance(int count) => _used += count;

        public Memory<byte> GetMemory(int sizeHint = 0)
        {
            if (_piece.Length - _used < Math.Max(sizeHint, 1))
            {
                Close();
                _piece = new byte[Math.Max(Size, sizeHint)];
            }
            return _piece.AsMemory(_used);
        }

        public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

        public List<ReadOnlyMemory<byte>> Taken()
        {
            Close();
            return _full;
        }

        private void Close()
        {
            if (_used > 0)
                _full.Add(_piece.AsMemory(0, _used));
            (_piece, _used) = ([], 0);
        }
    }
}
