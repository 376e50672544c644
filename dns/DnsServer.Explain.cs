using System.Net;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Forward;
using OverlayNet.Dns.Server;
using OverlayNet.Dns.Table;
using OverlayNet.Dns.Taps;

namespace OverlayNet.Dns;

/// <summary>What the server holds and would answer. All of it runs beside the query path without disturbing it.</summary>
public sealed partial class DnsServer
{
    /// <summary>
    /// Answers a question as the query path would (it is the same code) and says why.
    /// </summary>
    /// <param name="name">As a client would ask.</param>
    /// <param name="type">Mnemonic or TYPEnnn.</param>
    /// <param name="source">The client's address.</param>
    /// <param name="networkId">Network on which it asks; null: the fixed listener.</param>
    /// <param name="forward">Whether upstreams are asked when the name is not ours and not cached.</param>
    /// <exception cref="FormatException">Name or type is malformed; the message says how.</exception>
    /// <exception cref="KeyNotFoundException">There is no such network.</exception>
    public async Task<DnsExplanation> ExplainAsync(string name, string type, IPAddress source, string? networkId, bool forward)
    {
        if (!RecordText.TryParseType(type, out var rrType))
            throw new FormatException($"'{type}' is not a record type; use A, AAAA, SRV, PTR, TXT, ... or TYPE followed by a number.");
        var wireName = DnsName.Encode(name);
        ListenerView view;
        long revision;
        lock (_lock)
        {
            if (networkId is not null && !_views.ContainsKey(networkId))
                throw new KeyNotFoundException($"This node serves no network with id '{networkId}'.");
            view = MakeListenerView(networkId);
            revision = _config.Revision;
        }

        var client = ClientAddress.From(source);
        var trace = new AnswerTrace();
        var query = MakeQuery(wireName, rrType);
        var answer = AnswerAside(query, client, view, trace, null);
        var origin = trace.Entry is null ? "none" : "table";
        ForwardResult? result = null;
        IReadOnlyList<string> candidates = [];
        if (answer is null)
        {
            candidates = [.. _forwarder.Upstreams.For(wireName).Upstreams.Select(u => u.Endpoint.ToString())];
            (result, origin) = await ForwardAsideAsync(new UpstreamQuery(wireName, rrType, false, false, false), forward).ConfigureAwait(false);
            if (result is not null)
                answer = AnswerAside(query, client, view, new AnswerTrace(), result);
        }

        var (rcode, sections) = Decode(answer);
        return new DnsExplanation
        {
            Name = DnsName.ToText(wireName),
            Type = RecordText.Type(rrType),
            Source = source,
            Networks = [.. view.ScopeOf(client).Views.Select(v => v.Name)],
            Rcode = rcode,
            Rule = trace.Rule,
            Origin = origin,
            Network = trace.Network,
            Entry = trace.Entry,
            Upstream = result?.Answer.Source is { Length: > 0 } upstream ? upstream : null,
            Candidates = candidates,
            Age = result?.Age ?? 0,
            Revision = revision,
            Synced = view.Zone.Synced,
            Answers = sections[0],
            Authority = sections[1],
            Additional = sections[2],
            InKernel = networkId is not null && _kernel is { } kernel && kernel.Knows(kernel.NumberOf(networkId), (ushort)rrType, wireName),
        };
    }

    /// <summary>Every upstream server that a name may be forwarded to, as address:port.</summary>
    public IReadOnlyList<string> DumpUpstreams() => [.. _forwarder.Upstreams.All.Select(upstream => upstream.Endpoint.ToString())];

    /// <summary>All records of one network's table, or of all; in no particular order.</summary>
    public IReadOnlyList<DnsTableRecord> DumpTable(string? networkId = null)
    {
        var records = new List<DnsTableRecord>();
        lock (_lock)
        {
            foreach (var view in _views.Values.Append(_nodes))
            {
                if (networkId is null || view.Id == networkId)
                    TableDump.Add(view, records);
            }
        }

        return records;
    }

    /// <summary>Forwarded answers that are kept.</summary>
    public IReadOnlyList<DnsCacheRecord> DumpCache()
    {
        var now = _time.GetTimestamp();
        return
        [
            .. _forwarder.Cache.Entries.Select(e => new DnsCacheRecord(
                DnsName.ToText(e.Query.Name), RecordText.Type(e.Query.Type), e.Answer.Rcode,
                (e.ExpiresAt - now) / _time.TimestampFrequency, e.Answer.Source, e.Hits, e.Size)),
        ];
    }

    /// <summary>Forgets forwarded answers at or below a domain, or all; returns how many.</summary>
    /// <exception cref="FormatException">Not a domain name.</exception>
    public int FlushCache(string? domain = null) => _forwarder.Cache.Flush(domain is null ? null : DnsName.Encode(domain));

    /// <summary>Counters and gauges of this moment.</summary>
    public DnsMetrics GetMetrics()
    {
        long revision, names;
        DateTimeOffset? appliedAt;
        lock (_lock)
        {
            revision = _config.Revision;
            appliedAt = _appliedAt;
            names = _views.Values.Sum(v => (long)v.Table.Count) + _nodes.Table.Count;
        }

        var counters = _udp.Select(u => u.Counters).Concat(_workers.Counters).ToList();
        var rcodes = new Dictionary<Rcode, long>();
        foreach (var code in Enum.GetValues<Rcode>())
            rcodes[code] = counters.Sum(c => c.Rcodes[(int)code]);
        var kernel = _kernel?.Counts;
        rcodes[Rcode.NoError] += kernel?.Answered ?? 0;
        return new DnsMetrics
        {
            Queries = counters.Sum(c => c.Queries) + (kernel?.Answered ?? 0),
            Owned = counters.Sum(c => c.Owned) + (kernel?.Answered ?? 0),
            Negative = counters.Sum(c => c.Negative),
            Edns = counters.Sum(c => c.Edns) + (kernel?.Edns ?? 0),
            Truncated = counters.Sum(c => c.Truncated),
            Malformed = counters.Sum(c => c.Malformed),
            RateLimited = counters.Sum(c => c.RateLimited),
            Merged = counters.Sum(c => c.Merged),
            SendFailed = counters.Sum(c => c.SendFailed),
            DnstapLost = _taps.OfType<Dnstap>().Sum(tap => tap.Lost),
            Rcodes = rcodes,
            AnswerBuckets = [.. Enumerable.Range(0, DnsMetrics.AnswerBounds.Count + 1).Select(i => counters.Sum(c => c.AnswerBuckets[i]))],
            AnswerSeconds = counters.Sum(c => c.AnswerSeconds),
            TcpAccepted = _tcp.AcceptedTotal,
            TcpRefused = _tcp.RefusedTotal,
            TcpConnections = _tcp.Connections,
            ForwardAsked = _forwarder.Asked,
            ForwardCoalesced = _forwarder.Coalesced,
            ForwardFailed = _forwarder.Failed,
            ForwardRefused = _dispatcher.Refused,
            ForwardInFlight = _dispatcher.InFlight,
            ForwardMismatches = _forwarder.Mismatches,
            CacheHits = _dispatcher.CacheHits,
            CacheStale = _forwarder.Stale,
            CachePrefetched = _forwarder.Prefetched,
            CacheEvicted = _forwarder.Cache.Evicted,
            CacheEntries = _forwarder.Cache.Count,
            CacheBytes = _forwarder.Cache.Bytes,
            Names = names,
            Revision = revision,
            AppliedAt = appliedAt,
            Upstreams =
            [
                .. _forwarder.Upstreams.All.Select(u => new UpstreamHealth(
                    u.Endpoint.ToString(), u.IsLooping ? "loop" : u.IsOpen ? "down" : "up", u.Queries, u.Failed)),
            ],
            Kernel = kernel,
        };
    }

    private static byte[] MakeQuery(byte[] name, RrType type)
    {
        var writer = new MessageWriter();
        writer.U16(0);
        writer.U16(Header.Rd << 8);
        writer.U16(1);
        writer.U32(0);
        writer.U16(0);
        writer.Bytes(name);
        writer.U16((int)type);
        writer.U16(ClassCode.In);
        return writer.Written.ToArray();
    }

    /// <summary>Null: to be forwarded.</summary>
    private unsafe byte[]? AnswerAside(byte[] query, in ClientAddress client, ListenerView view, AnswerTrace trace, ForwardResult? forwarded)
    {
        // A worker of its own: questions asked here are not clients' and do not count.
        var worker = new AnswerWorker(new QueryProcessor(_cookies) { Trace = trace });
        worker.Load(query);
        var length = worker.Processor.Process(worker.Packet, query.Length, tcp: true, client, view);
        if (length == QueryProcessor.Forward)
        {
            if (forwarded is not { } result)
                return null;
            length = worker.Processor.WriteForwarded(result.Answer, result.Age, result.FixedTtl, tcp: true, client);
        }

        return worker.Answer(length).ToArray();
    }

    private async Task<(ForwardResult? Result, string Origin)> ForwardAsideAsync(UpstreamQuery query, bool forward)
    {
        if (!forward)
        {
            var now = _time.GetTimestamp();
            return _forwarder.Cache.Find(query) is { } entry && now < entry.ExpiresAt
                ? (new ForwardResult(entry.Answer, ForwardOrigin.Cache, _forwarder.AgeOf(entry, now)), "cache")
                : (null, "forward");
        }

        var result = await _forwarder.ResolveAsync(query).ConfigureAwait(false);
        return (result, result.Origin switch
        {
            ForwardOrigin.Cache => "cache",
            ForwardOrigin.Stale => "stale",
            ForwardOrigin.Upstream => "upstream",
            _ => "none",
        });
    }

    private static (Rcode Rcode, List<DnsRecord>[] Sections) Decode(byte[]? answer)
    {
        List<DnsRecord>[] sections = [[], [], []];
        if (answer is null)
            return (Rcode.NoError, sections);
        var reader = new MessageReader(answer);
        Span<byte> name = stackalloc byte[Limits.NameLength];
        reader.TryReadQuestion(name, out _, out _, out _);
        for (var section = 0; section < 3; section++)
        {
            for (var n = reader.Count(Header.AnCount + section * 2); n > 0 && reader.TryReadRecord(out var record); n--)
            {
                if (RecordText.Format(reader, record) is { } text)
                    sections[section].Add(text);
            }
        }

        return ((Rcode)reader.Rcode, sections);
    }
}
