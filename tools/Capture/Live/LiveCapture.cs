using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Files;

namespace OverlayNet.Tools.Capture.Live;

/// <summary>
/// Captures at several points and hands the packets on in the order of time. Each point has a buffer of its own in the
/// kernel, so a packet may turn up after a later one of another point: what is younger than <see cref="Window"/> waits.
/// </summary>
internal sealed class LiveCapture(IReadOnlyList<PcapHandle> handles, Action<int, CaptureRecord> sink)
{
    /// <summary>Longer than the points' own read time-out.</summary>
    private static readonly TimeSpan Window = TimeSpan.FromMilliseconds(60);
    private const int MostAtOnce = 256;
    private readonly IReadOnlyList<PcapHandle> _handles = handles;
    private readonly Action<int, CaptureRecord> _sink = sink;
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
            {
                busy = Read();
                Release(Now() - (long)Window.TotalNanoseconds, enough);
            }
        }
        Read();
        Release(long.MaxValue, enough);
    }

    private bool Read()
    {
        var read = false;
        for (var i = 0; i < _handles.Count; i++)
        {
            for (var n = 0; n < MostAtOnce && _handles[i].TryNext(out var time, out var length, out var data); n++)
            {
                _waiting.Enqueue((i, new CaptureRecord(_handles[i].Point.Name, _handles[i].Link, time, length, data.ToArray())), time);
                read = true;
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

    private static long Now() => (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100;
}
