using System.Collections.Concurrent;
using OverlayNet.Dns.Table;

namespace OverlayNet.Dns.Forward;

/// <summary>A key to look up without making an <see cref="UpstreamQuery"/>.</summary>
internal readonly ref struct CacheProbe(ReadOnlySpan<byte> name, RrType type, bool dnssecOk, bool checkingDisabled, bool wantsAuthentic)
{
    public readonly ReadOnlySpan<byte> Name = name;
    public readonly RrType Type = type;
    public readonly bool DnssecOk = dnssecOk, CheckingDisabled = checkingDisabled, WantsAuthentic = wantsAuthentic;
}

/// <summary>One answer that is kept.</summary>
internal sealed class CacheEntry(UpstreamQuery query, ForwardedAnswer answer, long storedAt, long expiresAt)
{
    private int _refreshing;
    private long _staleUntil;
    private int _hits;

    public UpstreamQuery Query => query;

    public ForwardedAnswer Answer => answer;

    /// <summary>Timestamps of the <see cref="TimeProvider"/>.</summary>
    public long StoredAt => storedAt;

    public long ExpiresAt => expiresAt;

    /// <summary>While this lies ahead, an expired answer is served without asking again (RFC 8767 §5: failure recheck).</summary>
    public long StaleUntil { get => Volatile.Read(ref _staleUntil); set => Volatile.Write(ref _staleUntil, value); }

    public int Hits => _hits;

    /// <summary>Looked at since the eviction hand passed.</summary>
    public bool Used { get; set; }

    public bool Removed { get; set; }

    public int Size => 256 + query.Name.Length + answer.Body.Length + answer.TtlAt.Length * 4;

    public void Hit()
    {
        Used = true;
        _hits++;
    }

    /// <summary>True for the one caller that is to refresh the answer before it expires.</summary>
    public bool TryBeginRefresh() => Interlocked.Exchange(ref _refreshing, 1) == 0;
}

/// <summary>
/// Forwarded answers, bounded in bytes. Lookups take no lock and do not allocate; when it is full, a hand goes round and
/// takes what was not looked at since its last visit (CLOCK).
/// </summary>
internal sealed class AnswerCache(long capacity)
{
    private readonly ConcurrentDictionary<UpstreamQuery, CacheEntry> _entries = new(Comparer.Instance);
    private readonly Queue<CacheEntry> _hand = new();
    private readonly Lock _writing = new();
    private long _bytes;
    private long _evicted;

    public int Count => _entries.Count;

    public long Bytes => Interlocked.Read(ref _bytes);

    public long Evicted => Interlocked.Read(ref _evicted);

    public IEnumerable<CacheEntry> Entries => _entries.Values;

    public CacheEntry? Find(in CacheProbe probe) =>
        _entries.GetAlternateLookup<CacheProbe>().TryGetValue(probe, out var entry) ? entry : null;

    public CacheEntry? Find(UpstreamQuery query) => _entries.GetValueOrDefault(query);

    public void Put(CacheEntry entry)
    {
        if (entry.Size > capacity / 8)
            return;
        lock (_writing)
        {
            if (_entries.TryGetValue(entry.Query, out var old))
                Forget(old);
            _entries[entry.Query] = entry;
            _bytes += entry.Size;
            _hand.Enqueue(entry);
            while (_bytes > capacity && _hand.TryDequeue(out var candidate))
            {
                if (candidate.Removed)
                    continue;
                if (candidate.Used)
                {
                    candidate.Used = false;
                    _hand.Enqueue(candidate);
                    continue;
                }

                _entries.TryRemove(new KeyValuePair<UpstreamQuery, CacheEntry>(candidate.Query, candidate));
                Forget(candidate);
                _evicted++;
            }

            // Replaced entries wait in the queue for the hand; do not let them outnumber the living.
            if (_hand.Count > 64 && _hand.Count > 4 * _entries.Count)
            {
                for (var n = _hand.Count; n > 0; n--)
                {
                    var kept = _hand.Dequeue();
                    if (!kept.Removed)
                        _hand.Enqueue(kept);
                }
            }
        }
    }

    /// <summary>Removes what lies at or below a wire name; everything when null. Returns how many.</summary>
    public int Flush(byte[]? domain)
    {
        lock (_writing)
        {
            var removed = 0;
            foreach (var (query, entry) in _entries)
            {
                if (domain is not null && !DnsName.IsAtOrBelow(query.Name, domain))
                    continue;
                if (_entries.TryRemove(query, out _))
                {
                    Forget(entry);
                    removed++;
                }
            }

            return removed;
        }
    }

    private void Forget(CacheEntry entry)
    {
        entry.Removed = true;
        _bytes -= entry.Size;
    }

    private sealed class Comparer : IEqualityComparer<UpstreamQuery>, IAlternateEqualityComparer<CacheProbe, UpstreamQuery>
    {
        public static readonly Comparer Instance = new();

        public bool Equals(UpstreamQuery? a, UpstreamQuery? b) => a is null ? b is null : a.Equals(b);

        public int GetHashCode(UpstreamQuery query) => Hash(query.Name, query.Type);

        public bool Equals(CacheProbe probe, UpstreamQuery query) =>
            probe.Type == query.Type && probe.DnssecOk == query.DnssecOk && probe.CheckingDisabled == query.CheckingDisabled
            && probe.WantsAuthentic == query.WantsAuthentic && probe.Name.SequenceEqual(query.Name);

        public int GetHashCode(CacheProbe probe) => Hash(probe.Name, probe.Type);

        public UpstreamQuery Create(CacheProbe probe) =>
            new(probe.Name.ToArray(), probe.Type, probe.DnssecOk, probe.CheckingDisabled, probe.WantsAuthentic);

        private static int Hash(ReadOnlySpan<byte> name, RrType type) => (int)(NameHash.Compute(name) * 31 + (uint)type);
    }
}
