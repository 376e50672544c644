using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using OverlayNet.Dns.Table;

namespace OverlayNet.Dns.Answer;

/// <summary>Writes records behind the question.</summary>
internal sealed unsafe partial class QueryProcessor
{
    /// <summary>Names like <c>web</c> lie in no zone of ours; the SOA that goes with them is the root's.</summary>
    private const int RootOwner = -1;

    private void AnswerEntry(ref ParsedQuery query, byte* entry, ZoneInfo zone, int soaOwnerAt)
    {
        // ANY gets one RRset, not all (RFC 8482 §4.1).
        var set = query.Type == (ushort)RrType.ANY ? Entry.FirstSet(entry) : Entry.FindSet(entry, query.Type);
        if (set == null)
        {
            Negative(Rcode.NoError, zone, soaOwnerAt);
            return;
        }

        _flags1 |= Header.Aa;
        if (Entry.FixedSize(set) != 0)
            WriteAddresses(set);
        else
            WriteRecords(set);
    }

    private void WriteAddresses(byte* set)
    {
        var size = Entry.FixedSize(set);
        var count = Entry.Count(set);
        var data = Entry.Data(set);
        if (count == 1)
        {
            // Always fits: the smallest limit leaves 200 octets behind the longest name.
            Unsafe.CopyBlockUnaligned(_packet + _position, data, (uint)size);
            _position += size;
            _answers = 1;
            _recordSize = size;
            return;
        }

        var wanted = count;
        var limit = Entry.Limit(set);
        if (limit != 0 && limit < wanted)
            wanted = limit;
        var fits = (_limit - _position) / size;
        if (fits < wanted)
        {
            // A subset is still one when it is smaller; a complete set that was cut must say so.
            if (limit == 0)
                _flags1 |= Header.Tc;
            wanted = fits;
        }

        var start = (Entry.SetFlags(set) & Entry.SetWeighted) != 0
            ? WeightedStart((uint*)(data + Entry.DataSize(set)), count)
            : (int)(((NextRandom() >> 32) * (uint)count) >> 32);
        var first = Math.Min(wanted, count - start);
        Unsafe.CopyBlockUnaligned(_packet + _position, data + start * size, (uint)(first * size));
        _position += first * size;
        if (first < wanted)
        {
            Unsafe.CopyBlockUnaligned(_packet + _position, data, (uint)((wanted - first) * size));
            _position += (wanted - first) * size;
        }

        _answers = wanted;
    }

    /// <summary>The first address is what most clients use, so it is drawn by weight; the others follow in turn.</summary>
    private int WeightedStart(uint* cumulative, int count)
    {
        var total = Unsafe.ReadUnaligned<uint>(cumulative + count - 1);
        var drawn = (uint)(((NextRandom() >> 32) * total) >> 32);
        int low = 0, high = count - 1;
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (Unsafe.ReadUnaligned<uint>(cumulative + middle) > drawn)
                high = middle;
            else
                low = middle + 1;
        }

        return low;
    }

    private void WriteRecords(byte* set)
    {
        var dataSize = Entry.DataSize(set);
        if (dataSize > _limit - _position)
        {
            _flags1 |= Header.Tc;
            return;
        }

        var answersAt = _position;
        Unsafe.CopyBlockUnaligned(_packet + _position, Entry.Data(set), (uint)dataSize);
        _position += dataSize;
        _answers = Entry.Count(set);
        if ((Entry.SetFlags(set) & Entry.SetAdditional) == 0)
            return;

        var extra = Entry.Data(set) + dataSize;
        var records = Unsafe.ReadUnaligned<ushort>(extra);
        var fixups = extra + 8;
        var size = Unsafe.ReadUnaligned<int>(extra + 4);
        if (records == 0 || size > _limit - _position)
            return; // additional data is a courtesy
        Unsafe.CopyBlockUnaligned(_packet + _position, fixups + records * 4, (uint)size);
        for (var i = 0; i < records; i++, fixups += 4)
        {
            var pointer = answersAt + Unsafe.ReadUnaligned<ushort>(fixups + 2);
            if (pointer > 0x3FFF)
                return;
            Write16(_packet + _position + Unsafe.ReadUnaligned<ushort>(fixups), 0xC000 | pointer);
        }

        _position += size;
        _additionals += records;
    }

    /// <summary>NXDOMAIN or an empty answer, with the SOA that says for how long (RFC 2308).</summary>
    /// <param name="rcode">NXDOMAIN or NOERROR.</param>
    /// <param name="zone">Whose SOA.</param>
    /// <param name="ownerAt">Offset of the domain within the name, or <see cref="RootOwner"/> when the name is not below it.</param>
    private bool Negative(Rcode rcode, ZoneInfo zone, int ownerAt)
    {
        _rcode = (int)rcode;
        _flags1 |= Header.Aa;
        Counters.Negative++;
        WriteSoa(zone, ownerAt);
        _authorities++;
        return true;
    }

    private void WriteSoa(ZoneInfo zone, int ownerAt)
    {
        var p = _packet + _position;
        if (ownerAt == RootOwner)
            *p++ = 0;
        else
            p = WritePointer(p, ownerAt);
        p = WriteHead(p, RrType.SOA, zone.NegativeTtl, zone.SoaData.Length);
        zone.SoaData.CopyTo(new Span<byte>(p, zone.SoaData.Length));
        Write32(p + zone.SerialAt, zone.Serial);
        _position = (int)(p - _packet) + zone.SoaData.Length;
    }

    private bool Apex(ref ParsedQuery query, ZoneInfo zone, int domainAt)
    {
        Trace?.Because("the cluster domain itself");
        switch ((RrType)query.Type)
        {
            case RrType.SOA or RrType.ANY:
                _flags1 |= Header.Aa;
                WriteSoa(zone, domainAt);
                _answers++;
                return true;
            case RrType.NS:
                _flags1 |= Header.Aa;
                var p = WritePointer(_packet + _position, domainAt);
                p = WriteHead(p, RrType.NS, zone.NegativeTtl, 5);
                *p++ = 2;
                "ns"u8.CopyTo(new Span<byte>(p, 2));
                p = WritePointer(p + 2, domainAt);
                _position = (int)(p - _packet);
                _answers++;
                return true;
            default:
                return Negative(Rcode.NoError, zone, domainAt);
        }
    }

    /// <summary><c>ns.domain</c>: the addresses the client asked.</summary>
    private bool NameServer(ref ParsedQuery query, ListenerView view, int domainAt)
    {
        Trace?.Because("the name server's own name");
        foreach (var address in view.Addresses)
        {
            var v4 = address.AddressFamily == AddressFamily.InterNetwork;
            var type = v4 ? RrType.A : RrType.AAAA;
            var asked = query.Type == (ushort)type || (query.Type == (ushort)RrType.ANY && _answers == 0);
            if (!asked || _limit - _position < 28)
                continue;
            var p = WritePointer(_packet + _position, 0);
            p = WriteHead(p, type, view.Zone.NegativeTtl, v4 ? 4 : 16);
            address.TryWriteBytes(new Span<byte>(p, 16), out var size);
            _position = (int)(p - _packet) + size;
            _answers++;
        }

        if (_answers == 0)
            return Negative(Rcode.NoError, view.Zone, domainAt);
        _flags1 |= Header.Aa;
        return true;
    }

    private static byte* WritePointer(byte* p, int nameOffset)
    {
        Write16(p, 0xC000 | (Header.Size + nameOffset));
        return p + 2;
    }

    private static byte* WriteHead(byte* p, RrType type, uint ttl, int dataLength)
    {
        Write16(p, (int)type);
        Write16(p + 2, ClassCode.In);
        Write32(p + 4, ttl);
        Write16(p + 8, dataLength);
        return p + 10;
    }

    /// <summary>xorshift64*: picks where rotation starts, nothing that must not be guessed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong NextRandom()
    {
        _random ^= _random >> 12;
        _random ^= _random << 25;
        _random ^= _random >> 27;
        return _random * 2685821657736338717;
    }
}
