using System.Collections.Immutable;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Registry;

/// <summary>A lease or bid with the revision of its key.</summary>
internal readonly record struct Revised<T>(T Value, long Revision);

/// <summary>
/// The leases and bids of floating VIPs as of a revision of the store. Immutable. Good enough to watch by; whoever decides
/// something reads the store.
/// </summary>
internal sealed record LeaseTable
{
    private const string Record = "/record", BidInfix = "/bid/";

    public static LeaseTable Empty { get; } = new();

    public long Incarnation { get; init; }

    /// <summary>The newest revision of the store that is known here, that of renewals included.</summary>
    public long Revision { get; init; }

    /// <summary>By lease set.</summary>
    public ImmutableDictionary<string, Revised<VipLease>> Leases { get; init; } = ImmutableDictionary<string, Revised<VipLease>>.Empty;

    /// <summary>By key.</summary>
    public ImmutableDictionary<string, Revised<(string Set, VipBid Bid)>> Bids { get; init; } = ImmutableDictionary<string, Revised<(string, VipBid)>>.Empty;

    public LeaseTable With(KeyChange change)
    {
        var rest = change.Key.AsSpan(Keys.LeasePrefix.Length);
        if (rest.EndsWith(Record))
        {
            var set = rest[..^Record.Length].ToString();
            return this with { Leases = change.Value is null ? Leases.Remove(set) : Leases.SetItem(set, new Revised<VipLease>(ReadLease(change.Value), change.Value.ModRevision)) };
        }
        if (rest.IndexOf(BidInfix) is var at and > 0)
        {
            var set = rest[..at].ToString();
            return this with
            {
                Bids = change.Value is null
                    ? Bids.Remove(change.Key)
                    : Bids.SetItem(change.Key, new((set, JsonSerializer.Deserialize(change.Value.Value.Span, OverlayNetJson.Default.VipBid)!), change.Value.ModRevision)),
            };
        }
        return this;
    }

    public static VipLease ReadLease(StoredValue value) => JsonSerializer.Deserialize(value.Value.Span, OverlayNetJson.Default.VipLease)!;
}

/// <summary>Floating addresses that are taken, or rest because their last holder may still answer for them.</summary>
internal sealed class VipAddressTable
{
    private const string Freed = "freed/";
    private readonly Dictionary<string, (string? Owner, long RestsUntilUnixMs)> _entries = new(StringComparer.Ordinal);

    public (string? Owner, long RestsUntilUnixMs) this[IPAddress address] => _entries.GetValueOrDefault(Keys.VipAddress(address));

    public static string RestsUntil(long unixMs) => Freed + unixMs.ToString(CultureInfo.InvariantCulture);

    public void Clear() => _entries.Clear();

    public void Index(KeyChange change)
    {
        if (change.Value is null)
        {
            _entries.Remove(change.Key);
            return;
        }
        var text = Encoding.ASCII.GetString(change.Value.Value.Span);
        _entries[change.Key] = text.StartsWith(Freed, StringComparison.Ordinal)
            ? (null, long.Parse(text.AsSpan(Freed.Length), CultureInfo.InvariantCulture))
            : (text, 0);
    }
}
