using System.Collections.Concurrent;
using System.Net;
using Microsoft.Extensions.Logging;
using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Forward;

/// <summary>How an answer to a forwarded question came about.</summary>
internal enum ForwardOrigin
{
    Upstream,
    Cache,
    Stale,
    Failed,
}

internal readonly record struct ForwardResult(ForwardedAnswer Answer, ForwardOrigin Origin, uint Age)
{
    /// <summary>TTL of answers served past their time (RFC 8767 §4).</summary>
    public uint? FixedTtl => Origin == ForwardOrigin.Stale ? Forwarder.StaleTtl : null;
}

/// <summary>Answers what is not ours: from the cache, or by asking upstreams once for all clients that wait for it.</summary>
internal sealed partial class Forwarder : IDisposable
{
    /// <summary>Seconds.</summary>
    public const uint StaleTtl = 30;

    /// <summary>How long a client waits before an expired answer is better than none (RFC 8767 §5).</summary>
    private static readonly TimeSpan ClientPatience = TimeSpan.FromMilliseconds(1800);

    /// <summary>After a failed refresh, the expired answer is served this long without another try.</summary>
    private static readonly TimeSpan FailureRecheck = TimeSpan.FromSeconds(5);

    /// <summary>A failure is remembered this long (RFC 9520 §3.2: at least one second).</summary>
    private static readonly TimeSpan FailureMemory = TimeSpan.FromSeconds(1);

    private static readonly TimeSpan FollowInterval = TimeSpan.FromSeconds(1);

    private readonly DnsServerOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly UpstreamClient _client;
    private readonly AnswerCache _cache;
    private readonly ConcurrentDictionary<UpstreamQuery, Lazy<Task<ForwardedAnswer?>>> _inFlight = new();
    private readonly ITimer _follow;
    private readonly Lock _configuring = new();
    private DnsForwardConfig _config = new();
    private IReadOnlyCollection<IPAddress> _own = [];
    private UpstreamSet _upstreams;
    private long _asked;
    private long _coalesced;
    private long _failed;
    private long _stale;
    private long _prefetched;

    public Forwarder(DnsServerOptions options, ILogger logger, TimeProvider time)
    {
        _options = options;
        _logger = logger;
        _time = time;
        _client = new UpstreamClient(time, options.UpstreamSocket);
        _cache = new AnswerCache(options.CacheBytes);
        _upstreams = MakeSet([], []);
        _follow = time.CreateTimer(_ => Refresh(), null, FollowInterval, FollowInterval);
    }

    public AnswerCache Cache => _cache;

    public UpstreamSet Upstreams => Volatile.Read(ref _upstreams);

    public long Asked => Interlocked.Read(ref _asked);

    public long Coalesced => Interlocked.Read(ref _coalesced);

    public long Failed => Interlocked.Read(ref _failed);

    public long Stale => Interlocked.Read(ref _stale);

    public long Prefetched => Interlocked.Read(ref _prefetched);

    public long Mismatches => _client.Mismatches;

    public int InFlight => _inFlight.Count;

    /// <param name="config">Where to forward.</param>
    /// <param name="own">Addresses we listen on; never forwarded to.</param>
    public void Apply(DnsForwardConfig config, IReadOnlyCollection<IPAddress> own)
    {
        lock (_configuring)
        {
            _config = config;
            _own = own;
        }

        Refresh();
    }

    /// <summary>Re-reads resolv.conf and replaces the upstreams when they changed.</summary>
    internal void Refresh()
    {
        lock (_configuring)
        {
            var servers = _config.Upstreams.Count > 0 || _config.ResolvConfPath is null
                ? [.. _config.Upstreams.Where(u => !_own.Contains(u.Address))]
                : ResolvConf.Read(_config.ResolvConfPath, _own, ResolvConf.ReadFile);
            var current = _upstreams;
            if (servers.SequenceEqual(current.Servers) && SameDomains(_config.Domains, current.Domains))
                return;
            var next = MakeSet(servers, _config.Domains);
            Volatile.Write(ref _upstreams, next);
            current.Dispose();
            // Another server may know other names.
            _cache.Flush(null);
            Log.UpstreamsChanged(_logger, servers.Count == 0 ? "none" : string.Join(", ", servers));
            next.StartLoopProbes();
        }
    }

    /// <summary>A live answer, or one that may be served past its time; null when upstreams must be asked. Does not allocate.</summary>
    public CacheEntry? Lookup(in CacheProbe probe, long now, out bool stale)
    {
        stale = false;
        if (_cache.Find(probe) is not { } entry)
            return null;
        if (now < entry.ExpiresAt)
        {
            entry.Hit();
            MaybePrefetch(entry, now);
            return entry;
        }

        if (now >= entry.StaleUntil)
            return null;
        stale = true;
        entry.Hit();
        Interlocked.Increment(ref _stale);
        return entry;
    }

    public uint AgeOf(CacheEntry entry, long now) => (uint)Math.Max(0, (now - entry.StoredAt) / _time.TimestampFrequency);

    public async Task<ForwardResult> ResolveAsync(UpstreamQuery query)
    {
        if (Upstreams.RecogniseLoop(query.Name) is { } looping)
        {
            Log.Loop(_logger, looping.Endpoint);
            return new(ForwardedAnswer.Failure(Rcode.Refused), ForwardOrigin.Failed, 0);
        }

        var now = _time.GetTimestamp();
        var probe = new CacheProbe(query.Name, query.Type, query.DnssecOk, query.CheckingDisabled, query.WantsAuthentic);
        if (Lookup(probe, now, out var stale) is { } hit)
            return new(hit.Answer, stale ? ForwardOrigin.Stale : ForwardOrigin.Cache, AgeOf(hit, now));

        var expired = Expired(query, now);
        var asking = Ask(query);
        if (expired is not null)
        {
            await Task.WhenAny(asking, Task.Delay(ClientPatience, _time)).ConfigureAwait(false);
            if (!asking.IsCompleted)
                return ServeStale(expired);
        }

        var answer = await asking.ConfigureAwait(false);
        if (answer is not null && (answer.Rcode is Rcode.NoError or Rcode.NxDomain || expired is null))
            return new(answer, ForwardOrigin.Upstream, 0);
        if (expired is not null)
            return ServeStale(expired);
        Interlocked.Increment(ref _failed);
        return new(ForwardedAnswer.Failure(Rcode.ServFail), ForwardOrigin.Failed, 0);
    }

    public void Dispose()
    {
        _follow.Dispose();
        Upstreams.Dispose();
    }

    private UpstreamSet MakeSet(IReadOnlyList<IPEndPoint> servers, IReadOnlyList<DnsDomainUpstreams> domains) =>
        new(servers, domains, _client, _time, _options.UpstreamTry, _options.ForwardTotal);

    private CacheEntry? Expired(UpstreamQuery query, long now) =>
        _cache.Find(query) is { Answer.Rcode: Rcode.NoError or Rcode.NxDomain } entry
        && now < entry.ExpiresAt + Ticks(_options.MaxStale) ? entry : null;

    private ForwardResult ServeStale(CacheEntry entry)
    {
        var now = _time.GetTimestamp();
        entry.StaleUntil = now + Ticks(FailureRecheck);
        entry.Hit();
        Interlocked.Increment(ref _stale);
        return new(entry.Answer, ForwardOrigin.Stale, AgeOf(entry, now));
    }

    /// <summary>Joins the question already under way, or starts one.</summary>
    private Task<ForwardedAnswer?> Ask(UpstreamQuery query)
    {
        var mine = new Lazy<Task<ForwardedAnswer?>>(() => AskAndStoreAsync(query));
        var shared = _inFlight.GetOrAdd(query, mine);
        if (shared != mine)
            Interlocked.Increment(ref _coalesced);
        return shared.Value;
    }

    private async Task<ForwardedAnswer?> AskAndStoreAsync(UpstreamQuery query)
    {
        try
        {
            Interlocked.Increment(ref _asked);
            var begun = _time.GetTimestamp();
            var answer = await Upstreams.For(query.Name).AskAsync(query).ConfigureAwait(false);
            DnsInstruments.Forward.Record(_time.GetElapsedTime(begun).TotalSeconds, new KeyValuePair<string, object?>("result", answer is null ? "failed" : "answered"));
            Store(query, answer);
            return answer;
        }
        finally
        {
            _inFlight.TryRemove(query, out _);
        }
    }

    private void Store(UpstreamQuery query, ForwardedAnswer? answer)
    {
        var now = _time.GetTimestamp();
        if (answer is { Rcode: Rcode.NoError or Rcode.NxDomain })
        {
            if (answer.Ttl > 0)
                _cache.Put(new CacheEntry(query, answer, now, now + answer.Ttl * _time.TimestampFrequency));
            return;
        }

        // A failure must not push out an answer that could still be served.
        if (Expired(query, now) is { } expired)
            expired.StaleUntil = now + Ticks(FailureRecheck);
        else
            _cache.Put(new CacheEntry(query, answer ?? ForwardedAnswer.Failure(Rcode.ServFail), now, now + Ticks(FailureMemory)));
    }

    /// <summary>Asks again for an answer in demand before it expires, so that nobody has to wait for it.</summary>
    private void MaybePrefetch(CacheEntry entry, long now)
    {
        var life = entry.ExpiresAt - entry.StoredAt;
        if (entry.Hits < 3 || (entry.ExpiresAt - now) * 10 > life || life < 10 * _time.TimestampFrequency || !entry.TryBeginRefresh())
            return;
        Interlocked.Increment(ref _prefetched);
        _ = Task.Run(() => Ask(entry.Query));
    }

    private long Ticks(TimeSpan span) => (long)(span.TotalSeconds * _time.TimestampFrequency);

    private static bool SameDomains(IReadOnlyList<DnsDomainUpstreams> a, IReadOnlyList<DnsDomainUpstreams> b) =>
        ReferenceEquals(a, b)
        || (a.Count == b.Count && a.Zip(b).All(p => p.First.Domain == p.Second.Domain && p.First.Upstreams.SequenceEqual(p.Second.Upstreams)));

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Information, Message = "DNS upstreams are now: {Servers}")]
        public static partial void UpstreamsChanged(ILogger logger, string servers);

        [LoggerMessage(Level = LogLevel.Warning, Message = "DNS upstream {Upstream} forwards to this server; it is out of use until the upstreams change")]
        public static partial void Loop(ILogger logger, IPEndPoint upstream);
    }
}
