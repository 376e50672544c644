using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Files;

namespace OverlayNet.Tools.Capture.Live;

/// <summary>
/// Captures at several points and hands the packets on in the order of time. Each point has a buffer of its own in the
/// kernel, so a packet may turn up after a later one of another point: what is younger than <see cref="Window"/> waits.
/// </summary>
/// <param name="reached">Told again and again up to when (nanoseconds since 1970) everything has been handed on; null: nobody asks.</param>
internal sealed class LiveCapture(IReadOnlyList<PcapHandle> handles, Action<int, CaptureRecord> sink, Action<long>? reached = null)
{
    /// <summary>Longer than the points' own read time-out.</summary>
    private static readonly TimeSpan Window = TimeSpan.FromMilliseconds(60);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);
    private const int MostAtOnce = 256;
    private readonly IReadOnlyList<PcapHandle> _handles = handles;
    private readonly Action<int, CaptureRecord> _sink = sink;
    private readonly Action<long>? _reached = reached;
    private readonly PriorityQueue<(int Handle, CaptureRecord Record), long> _waiting = new();

    /// <summary>Runs until <paramref name="enough"/> says so, or the token is cancelled; what waits is handed on then.</summary>
    public void Run(Func<bool> enough, CancellationToken cancellation)
    {
        using var poll = new PollSet();
        using var stop = cancellation.Register(poll.Wake);
        var descriptors = _handles.Select(handle => handle.Fd).ToArray();
        while (!cancellation.IsCancellationRequested && !enough())
        {
            poll.Wait(descriptors, _waiting.Count > 0 ? Window : TimeSpan.FromMilliseconds(200));
            var busy = true;
            while (busy && !cancellation.IsCancellationRequested && !enough())
                HandOn(enough, out busy);
        }
        // What has been captured by now is still to come; what comes from now on is not waited for: it may never end.
        var end = WallClock.Nanoseconds;
        while (!enough() && HandOn(enough, out var read) < end)
        {
            if (!read)
                Thread.Sleep(Pause);
        }
        Release(long.MaxValue, enough);
    }

    /// <summary>Reads what is there, and hands on what nothing earlier can come before.</summary>
    /// <returns>Up to when everything has been handed on.</returns>
    private long HandOn(Func<bool> enough, out bool read)
    {
        var now = WallClock.Nanoseconds;
        read = Read(out var known);
        known = Math.Min(known, now - (long)Window.TotalNanoseconds);
        Release(known, enough);
        _reached?.Invoke(known);
        return known;
    }

    /// <param name="known">Up to when all that was captured has been read: a point of which there is more may have earlier packets than the others' latest.</param>
    private bool Read(out long known)
    {
        known = long.MaxValue;
        var read = false;
        for (var i = 0; i < _handles.Count; i++)
        {
            for (var n = 0; n < MostAtOnce && _handles[i].TryNext(out var time, out var length, out var data); n++)
            {
                _waiting.Enqueue((i, new CaptureRecord(_handles[i].Point.Name, _handles[i].Link, time, length, data.ToArray())), time);
                read = true;
                if (n == MostAtOnce - 1)
                    known = Math.Min(known, time);
            }
        }
        return read;
    }

    private void Release(long until, Func<bool> enough)
    {
        while (_waiting.TryPeek(out var next, out var time) && time <= until && !enough())
        {
            _waiting.Dequeue();
            _sink(next.Handle, next.Record);
        }
    }
}
