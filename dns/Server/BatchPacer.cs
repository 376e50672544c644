namespace OverlayNet.Dns.Server;

/// <summary>
/// When a thread should let queries gather before it asks for the next batch, as network cards moderate their
/// interrupts. It pays only where answers then share messages (<see cref="AnswerBatch"/>): many queries a second from
/// few sockets, as forwarders send them. A lookup of a C library, or one query after the other, never waits.
/// </summary>
/// <param name="ticksPerSecond">Of the timestamps given to <see cref="ShouldWait"/>.</param>
internal struct BatchPacer(long ticksPerSecond)
{
    /// <summary>How long to wait: what a query is answered later at most.</summary>
    public static readonly TimeSpan Wait = TimeSpan.FromMicroseconds(50);

    /// <summary>Below this rate there is too little to gather within <see cref="Wait"/>.</summary>
    private const int LeastQueriesPerSecond = 30_000;

    /// <summary>A batch of this size is worth sending at once, more of them are waiting already.</summary>
    private const int FullBatch = 32;

    private readonly long _window = ticksPerSecond / 1000;
    private long _windowStart;
    private int _queries;
    private int _messages;
    private bool _waiting;

    /// <param name="now">Timestamp of the batch.</param>
    /// <param name="queries">Queries in it.</param>
    /// <param name="messages">Messages that carried its answers.</param>
    public bool ShouldWait(long now, int queries, int messages)
    {
        _queries += queries;
        _messages += messages;
        var elapsed = now - _windowStart;
        if (elapsed >= _window)
        {
            _waiting = _queries * (double)ticksPerSecond >= (double)LeastQueriesPerSecond * elapsed && _messages * 2 <= _queries;
            _windowStart = now;
            _queries = _messages = 0;
        }

        return _waiting && queries < FullBatch;
    }
}
