using System.Net;

namespace OverlayNet.Dns.Forward;

/// <summary>
/// One upstream with its circuit breaker. Three failures in a row open it; it is then left alone but for probes, sent
/// after 250 ms, 500 ms, ... 8 s, and closes at the first answer of whatever kind.
/// </summary>
internal sealed class Upstream(IPEndPoint endpoint, UpstreamClient client, TimeProvider time, CancellationToken stopProbing)
{
    private const int FailuresToOpen = 3;
    private static readonly TimeSpan FirstProbe = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan ProbeTimeout = TimeSpan.FromSeconds(1);

    // The root's name servers: what any recursive or forwarding server can answer.
    private static readonly UpstreamQuery ProbeQuery = new([0], RrType.NS, false, false, false);

    private readonly Lock _lock = new();
    private int _failures;
    private volatile bool _open;
    private volatile bool _looping;
    private long _queries;
    private long _failed;

    public IPEndPoint Endpoint => endpoint;

    /// <summary>Its answers were missing lately.</summary>
    public bool IsOpen => _open;

    /// <summary>It sends its queries to us.</summary>
    public bool IsLooping { get => _looping; set => _looping = value; }

    public bool IsUsable => !_open && !_looping;

    public long Queries => Interlocked.Read(ref _queries);

    public long Failed => Interlocked.Read(ref _failed);

    public async Task<UpstreamResult> AskAsync(UpstreamQuery query, TimeSpan timeout)
    {
        Interlocked.Increment(ref _queries);
        var result = await client.AskAsync(endpoint, query, timeout, CancellationToken.None).ConfigureAwait(false);
        Report(result.Failure);
        return result;
    }

    /// <summary>Asks without judging: a server may rightly ignore the question.</summary>
    public Task ProbeForLoopAsync(UpstreamQuery query) => client.AskAsync(endpoint, query, ProbeTimeout, stopProbing);

    private void Report(UpstreamFailure failure)
    {
        lock (_lock)
        {
            if (failure == UpstreamFailure.None)
            {
                _failures = 0;
                _open = false;
                return;
            }

            Interlocked.Increment(ref _failed);
            if (++_failures < FailuresToOpen || _open)
                return;
            _open = true;
        }

        _ = ProbeAsync();
    }

    private async Task ProbeAsync()
    {
        var pause = FirstProbe;
        try
        {
            while (_open)
            {
                await Task.Delay(pause, time, stopProbing).ConfigureAwait(false);
                var result = await client.AskAsync(endpoint, ProbeQuery, ProbeTimeout, stopProbing).ConfigureAwait(false);
                if (result.Failure == UpstreamFailure.None)
                    Report(UpstreamFailure.None);
                pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
            }
        }
        catch (OperationCanceledException)
        {
            // The server stops, or has other upstreams now.
        }
    }
}
