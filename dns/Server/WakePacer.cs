namespace OverlayNet.Dns.Server;

/// <summary>
/// When a thread that watches many sockets should let queries gather before it asks which of them are ready. A thread
/// that sleeps between any two queries pays for each of them its own wake-up, which costs more than the answer. One
/// query after the other, and whatever is below <see cref="LeastQueriesPerSecond"/>, never waits.
/// </summary>
/// <param name="ticksPerSecond">Of the timestamps given to <see cref="ShouldWait"/>.</param>
internal struct WakePacer(long ticksPerSecond)
{
    /// <summary>How long to wait: what a query is answered later at most.</summary>
    public static readonly TimeSpan Wait = TimeSpan.FromMicroseconds(100);

    /// <summary>Below this rate there is too little to gather within <see cref="Wait"/>.</summary>
    public const int LeastQueriesPerSecond = 12_000;

    /// <summary>After a pass of so many queries more are waiting already.</summary>
    private const int FullPass = 16;

    private readonly long _window = ticksPerSecond / 250;

    // A client that asks one after the other has the rate until it is made to wait: not tried again for so long.
    private readonly long _rest = ticksPerSecond / 2;

    private long _windowStart;
    private long _restsUntil;
    private int _queries;
    private int _waits;
    private int _gathered;
    private bool _waiting;
    private bool _waited;

    /// <param name="now">Timestamp of the end of a pass over the ready sockets.</param>
    /// <param name="queries">Answered in it.</param>
    public bool ShouldWait(long now, int queries)
    {
        _queries += queries;
        if (_waited)
        {
            _waits++;
            _gathered += queries;
        }

        var elapsed = now - _windowStart;
        if (elapsed >= _window)
        {
            if (_gathered * 2 < _waits * 3)
                _restsUntil = now + _rest;
            _waiting = now >= _restsUntil && _queries * (double)ticksPerSecond >= (double)LeastQueriesPerSecond * elapsed;
            _windowStart = now;
            _queries = _waits = _gathered = 0;
        }

        return _waited = _waiting && queries < FullPass;
    }
}
