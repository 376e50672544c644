using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <param name="Owner">Key of the object that has it; null: freed.</param>
/// <param name="FreedAtUnixMs">When it was freed, while <paramref name="Owner"/> is null.</param>
/// <param name="ModRevision">Of the index key, for guards.</param>
internal readonly record struct AddressEntry(string? Owner, long FreedAtUnixMs, long ModRevision);

/// <summary>What is known of a network's addresses: the index keys as of a revision, and what is being written just now.</summary>
internal sealed class AddressTable
{
    /// <summary>Taken or freed addresses; absent: free since long.</summary>
    public Dictionary<IPAddress, AddressEntry> Entries { get; } = [];

    /// <summary>
    /// Chosen by requests of this process that are on their way to the store. Only spares them from choosing the same address
    /// and failing at the guard; that nobody gets it twice is the guard's work.
    /// </summary>
    public HashSet<IPAddress> Pending { get; } = [];

    /// <summary>The last address given out of each family.</summary>
    public IPAddress? Last4 { get; set; }
    public IPAddress? Last6 { get; set; }
}

/// <summary>
/// Chooses addresses of one prefix: serially, each the next free one after the last given out, so that a freed address rests
/// as long as possible; not at all while it is in quarantine, unless nothing else is left.
/// </summary>
internal readonly struct AddressPool
{
    /// <summary>Of a large IPv6 prefix only so many addresses are given out.</summary>
    private static readonly UInt128 MaxOffset = uint.MaxValue;

    private readonly AddressTable _table;
    private readonly IPNetwork _prefix;
    private readonly IPAddress? _gateway;
    private readonly UInt128 _first;
    private readonly UInt128 _last;

    /// <param name="range">The part of the prefix to choose from; null: all of it.</param>
    public AddressPool(AddressTable table, IPNetwork prefix, IPNetwork? range, IPAddress? gateway)
    {
        _table = table;
        _prefix = prefix;
        _gateway = gateway;
        var within = range ?? prefix;
        _first = Prefixes.Offset(prefix, within.BaseAddress);
        _last = _first + UInt128.Min(Prefixes.LastOffset(within), MaxOffset);
    }

    public static AddressPool? V4(AddressTable table, Network network) => network.Subnet4 is { } subnet
        ? new AddressPool(table, subnet, network.IpRange4, network.Gateway4)
        : null;

    public static AddressPool? V6(AddressTable table, Network network) => network.Subnet6 is { } subnet
        ? new AddressPool(table, subnet, null, network.Gateway6)
        : null;

    /// <summary>Why nobody can have an address, or null: the network's own, the broadcast and the gateway address.</summary>
    public string? Reserved(IPAddress address)
    {
        var offset = Prefixes.Offset(_prefix, address);
        if (offset == 0)
            return Prefixes.Bits(address) == 32 ? "it is the network's own address" : "it is the subnet-router anycast address";
        if (Prefixes.Bits(address) == 32 && offset == Prefixes.LastOffset(_prefix))
            return "it is the broadcast address";
        return address.Equals(_gateway) ? "it is the gateway" : null;
    }

    public bool Contains(IPAddress address) =>
        address.AddressFamily == _prefix.BaseAddress.AddressFamily && _prefix.Contains(address);

    /// <summary>The address at the same distance from the prefix's beginning, if it is free.</summary>
    public IPAddress? Matching(UInt128 offset, long nowUnixMs, TimeSpan quarantine)
    {
        if (offset < _first || offset > _last)
            return null;
        var address = Prefixes.At(_prefix, offset);
        return IsFree(address, nowUnixMs, quarantine) ? address : null;
    }

    public UInt128 OffsetOf(IPAddress address) => Prefixes.Offset(_prefix, address);

    /// <returns>Null: every address is taken.</returns>
    public IPAddress? Next(IPAddress? last, long nowUnixMs, TimeSpan quarantine)
    {
        var size = _last - _first + 1;
        var start = _first;
        if (last is not null && Contains(last) && Prefixes.Offset(_prefix, last) is var offset && offset >= _first && offset < _last)
            start = offset + 1;
        // Three addresses are reserved; of the others only those in the table can be in the way.
        var tries = UInt128.Min(size, (UInt128)(_table.Entries.Count + _table.Pending.Count + 4));
        for (UInt128 i = 0; i < tries; i++)
        {
            var address = Prefixes.At(_prefix, _first + ((start - _first + i) % size));
            if (IsFree(address, nowUnixMs, quarantine))
                return address;
        }
        return OldestFreed();
    }

    private bool IsFree(IPAddress address, long nowUnixMs, TimeSpan quarantine)
    {
        if (_table.Pending.Contains(address) || Reserved(address) is not null)
            return false;
        if (!_table.Entries.TryGetValue(address, out var entry))
            return true;
        // The distance, not the difference: a clock that was set back does not prolong the rest beyond twice its time.
        return entry.Owner is null && Math.Abs(nowUnixMs - entry.FreedAtUnixMs) >= quarantine.TotalMilliseconds;
    }

    private IPAddress? OldestFreed()
    {
        IPAddress? oldest = null;
        var freedAt = long.MaxValue;
        foreach (var (address, entry) in _table.Entries)
        {
            if (entry.Owner is not null || entry.FreedAtUnixMs >= freedAt || !Contains(address)
                || _table.Pending.Contains(address) || Reserved(address) is not null)
                continue;
            var offset = Prefixes.Offset(_prefix, address);
            if (offset >= _first && offset <= _last)
                (oldest, freedAt) = (address, entry.FreedAtUnixMs);
        }
        return oldest;
    }
}
