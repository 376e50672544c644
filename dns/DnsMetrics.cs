using System.Diagnostics.Metrics;
using OverlayNet.Dns.InKernel;

namespace OverlayNet.Dns;

/// <summary>Counters since the server was made; all monotonic but those said to be gauges.</summary>
public sealed record DnsMetrics
{
    public long Queries { get; init; }

    /// <summary>Queries that met a name of ours.</summary>
    public long Owned { get; init; }

    /// <summary>Names absent or without the asked type.</summary>
    public long Negative { get; init; }

    public long Edns { get; init; }

    public long Truncated { get; init; }

    /// <summary>Packets that are not queries; dropped.</summary>
    public long Malformed { get; init; }

    public long RateLimited { get; init; }

    /// <summary>Answers the kernel did not take.</summary>
    public long SendFailed { get; init; }

    /// <summary>Answers that are missing in the dnstap file, because the disk was too slow or failed.</summary>
    public long DnstapLost { get; init; }

    /// <summary>Answers that shared the way through the kernel with another to the same client.</summary>
    public long Merged { get; init; }

    /// <summary>Answers by response code.</summary>
    public IReadOnlyDictionary<Rcode, long> Rcodes { get; init; } = new Dictionary<Rcode, long>();

    /// <summary>Upper bounds in seconds of <see cref="AnswerBuckets"/>; the last bucket is beyond them.</summary>
    public static IReadOnlyList<double> AnswerBounds { get; } = [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1];

    /// <summary>UDP queries by the time from their arrival in the daemon to the last answer of their batch; waits for upstreams are not in it.</summary>
    public IReadOnlyList<long> AnswerBuckets { get; init; } = new long[AnswerBounds.Count + 1];

    /// <summary>Sum of those times.</summary>
    public double AnswerSeconds { get; init; }

    public long TcpAccepted { get; init; }

    public long TcpRefused { get; init; }

    /// <summary>Gauge.</summary>
    public int TcpConnections { get; init; }

    /// <summary>Questions put to upstreams.</summary>
    public long ForwardAsked { get; init; }

    /// <summary>Clients that joined a question already under way.</summary>
    public long ForwardCoalesced { get; init; }

    public long ForwardFailed { get; init; }

    /// <summary>Queries answered SERVFAIL because too many were in flight.</summary>
    public long ForwardRefused { get; init; }

    /// <summary>Gauge.</summary>
    public int ForwardInFlight { get; init; }

    /// <summary>Upstream answers ignored because id, port or question did not match.</summary>
    public long ForwardMismatches { get; init; }

    public long CacheHits { get; init; }

    public long CacheStale { get; init; }

    public long CachePrefetched { get; init; }

    public long CacheEvicted { get; init; }

    /// <summary>Gauge.</summary>
    public int CacheEntries { get; init; }

    /// <summary>Gauge.</summary>
    public long CacheBytes { get; init; }

    /// <summary>Gauge: names of all networks.</summary>
    public long Names { get; init; }

    /// <summary>Gauge: revision of the state that is served.</summary>
    public long Revision { get; init; }

    /// <summary>When it was applied; null before the first.</summary>
    public DateTimeOffset? AppliedAt { get; init; }

    public IReadOnlyList<UpstreamHealth> Upstreams { get; init; } = [];

    /// <summary>What the kernel answers; these queries are also in <see cref="Queries"/>, <see cref="Owned"/>, <see cref="Edns"/> and <see cref="Rcodes"/>. Null: it answers none.</summary>
    public KernelAnswerCounts? Kernel { get; init; }
}

/// <param name="Endpoint">Address and port.</param>
/// <param name="State"><c>up</c>, <c>down</c> (breaker open, probed) or <c>loop</c> (forwards to us).</param>
/// <param name="Queries">Tries.</param>
/// <param name="Failed">Tries without a usable answer.</param>
public sealed record UpstreamHealth(string Endpoint, string State, long Queries, long Failed);

/// <summary>Instruments of what does not happen on the UDP threads, in the meter "OverlayNet".</summary>
public static class DnsInstruments
{
    private static readonly Meter Meter = new("OverlayNet");

    /// <summary>From a question's start to the answer, or to the end of all tries; by result: answered or failed.</summary>
    internal static Histogram<double> Forward { get; } = Meter.CreateHistogram(
        "overlaynet.dns.forward", "s", "How long upstreams took to answer, over all tries", advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5] });
}
