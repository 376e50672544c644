using OverlayNet.Tools.Capture.Files;

namespace OverlayNet.Tools.Capture.Nodes;

/// <summary>
/// Puts packets of several sources into one order of time while they come in. Each source is in its own order, and says up to when it has handed on
/// everything; a packet goes on once every source has got past it. A source that is silent is not waited for. Pure; not thread-safe.
/// </summary>
/// <param name="most">Packets that may wait; beyond it the earliest goes on, whatever is still to come.</param>
internal sealed class TimeMerge(int sources, Action<CaptureRecord> sink, int most = 200_000)
{
    private readonly PriorityQueue<CaptureRecord, (long TimeNs, long Number)> _waiting = new();
    private readonly long[] _reached = [.. Enumerable.Repeat(long.MinValue, sources)];
    private readonly bool[] _silent = new bool[sources];
    private long _number, _handedNs = long.MinValue;

    /// <summary>Packets that came too late for their place.</summary>
    public long Late { get; private set; }

    public int Waiting => _waiting.Count;

    /// <param name="record">Its data must stay as it is.</param>
    public void Take(int source, CaptureRecord record)
    {
        _waiting.Enqueue(record, (record.TimeNs, _number++));
        Reach(source, record.TimeNs);
        while (_waiting.Count > most)
            Hand();
    }

    /// <summary>A source has handed on everything up to a time, nanoseconds since 1970.</summary>
    public void Reach(int source, long timeNs)
    {
        _silent[source] = false;
        _reached[source] = Math.Max(_reached[source], timeNs);
        Release();
    }

    /// <summary>Nothing more comes of a source.</summary>
    public void End(int source) => Reach(source, long.MaxValue);

    /// <summary>A source is not waited for until it speaks again.</summary>
    public void Silence(int source)
    {
        _silent[source] = true;
        Release();
    }

    public long Reached(int source) => _reached[source];

    /// <summary>All that waits goes on.</summary>
    public void Drain()
    {
        while (_waiting.Count > 0)
            Hand();
    }

    private void Release()
    {
        var passed = long.MaxValue;
        for (var i = 0; i < _reached.Length; i++)
        {
            if (!_silent[i])
                passed = Math.Min(passed, _reached[i]);
        }
        // Of the same time as the mark more may come, but not earlier ones: the order holds.
        while (_waiting.TryPeek(out _, out var key) && key.TimeNs <= passed)
            Hand();
    }

    private void Hand()
    {
        var record = _waiting.Dequeue();
        if (record.TimeNs < _handedNs)
            Late++;
        _handedNs = Math.Max(_handedNs, record.TimeNs);
        sink(record);
    }
}
