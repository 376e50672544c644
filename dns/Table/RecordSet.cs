using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.Dns.Table;

/// <summary>Collects the records of one name from one or more contributions and encodes them as an <see cref="Entry"/>. Reused.</summary>
internal sealed class RecordSet
{
    /// <summary>What TCP's 65535 bytes hold of AAAA records, with room for the rest of the message.</summary>
    private const int MostRecords = 2300;

    private readonly List<(IPAddress Address, int Weight)> _v4 = [];
    private readonly List<(IPAddress Address, int Weight)> _v6 = [];
    private readonly List<SrvRecord> _srv = [];
    private readonly List<byte[]> _ptr = [];
    private readonly List<string[]> _txt = [];
    private byte[] _buffer = new byte[4096];
    private int _length;
    private int _limit;

    /// <param name="Weight">0..65535.</param>
    /// <param name="Port">Host order.</param>
    /// <param name="Target">Wire form with the root octet.</param>
    /// <param name="Addresses">For the additional section.</param>
    public readonly record struct SrvRecord(int Weight, int Port, byte[] Target, IReadOnlyList<IPAddress> Addresses);

    public void Clear()
    {
        _v4.Clear();
        _v6.Clear();
        _srv.Clear();
        _ptr.Clear();
        _txt.Clear();
        _limit = int.MaxValue;
    }

    public void AddAddress(IPAddress address, int weight = 1)
    {
        var list = address.AddressFamily == AddressFamily.InterNetwork ? _v4 : _v6;
        // An address named twice is published once; big sets come from one service and are distinct already.
        if (list.Count < 64)
        {
            foreach (var (known, _) in list)
            {
                if (known.Equals(address))
                    return;
            }
        }

        list.Add((address, weight));
    }

    public void AddSrv(SrvRecord record) => _srv.Add(record);

    /// <param name="target">Wire form with the root octet.</param>
    public void AddPtr(byte[] target)
    {
        foreach (var known in _ptr)
        {
            if (target.AsSpan().SequenceEqual(known))
                return;
        }

        _ptr.Add(target);
    }

    public void AddTxt(string[] strings) => _txt.Add(strings);

    /// <summary>Most addresses in one answer; contributions without a limit lift that of others only if all lack one.</summary>
    public void Limit(int limit)
    {
        if (limit > 0)
            _limit = Math.Min(_limit, limit);
    }

    /// <summary>The encoded entry; valid until the next call.</summary>
    public ReadOnlySpan<byte> Encode(ReadOnlySpan<byte> name, int owner, bool merged, uint ttl)
    {
        _length = Entry.NameAt;
        Reserve(name.Length);
        name.CopyTo(_buffer.AsSpan(_length));
        _length += name.Length;
        var sets = 0;
        sets += Addresses(RrType.A, _v4, 4, ttl);
        sets += Addresses(RrType.AAAA, _v6, 16, ttl);
        sets += Srv(ttl);
        sets += Ptr(ttl);
        sets += Txt(ttl);
        BitConverter.TryWriteBytes(_buffer.AsSpan(Entry.OwnerAt), owner);
        BitConverter.TryWriteBytes(_buffer.AsSpan(Entry.SizeAt), _length);
        _buffer[Entry.FlagsAt] = merged ? Entry.FlagMerged : (byte)0;
        _buffer[Entry.SetsAt] = (byte)sets;
        _buffer[Entry.NameLengthAt] = (byte)name.Length;
        return _buffer.AsSpan(0, _length);
    }

    private int Addresses(RrType type, List<(IPAddress Address, int Weight)> list, int size, uint ttl)
    {
        if (list.Count == 0)
            return 0;
        var count = Math.Min(list.Count, MostRecords);
        var weighted = false;
        for (var i = 1; i < count; i++)
            weighted |= list[i].Weight != list[0].Weight;

        var set = BeginSet(type, count, 12 + size, weighted ? Entry.SetWeighted : (byte)0, _limit == int.MaxValue ? 0 : Math.Min(_limit, ushort.MaxValue));
        Reserve(count * (12 + size) + count * 4);
        for (var i = 0; i < count; i++)
        {
            RecordHead(type, ttl, size);
            list[i].Address.TryWriteBytes(_buffer.AsSpan(_length), out _);
            _length += size;
        }

        EndData(set);
        if (weighted)
        {
            var sum = 0;
            for (var i = 0; i < count; i++, _length += 4)
                BitConverter.TryWriteBytes(_buffer.AsSpan(_length), sum += Math.Clamp(list[i].Weight, 1, 65535));
        }

        EndSet(set);
        return 1;
    }

    private int Srv(uint ttl)
    {
        if (_srv.Count == 0)
            return 0;
        var set = BeginSet(RrType.SRV, 0, 0, Entry.SetAdditional, 0);
        var dataStart = _length;
        var count = 0;
        foreach (var record in _srv)
        {
            if (_length - dataStart + 18 + record.Target.Length > 60000)
                break;
            Reserve(18 + record.Target.Length);
            RecordHead(RrType.SRV, ttl, 6 + record.Target.Length);
            WriteU16(0);
            WriteU16(record.Weight);
            WriteU16(record.Port);
            record.Target.CopyTo(_buffer, _length);
            _length += record.Target.Length;
            count++;
        }

        EndData(set);
        BitConverter.TryWriteBytes(_buffer.AsSpan(set + 2), (ushort)count);

        // Additional: an address record per target, its owner a pointer to the target's name in the answer.
        var fixups = new ArrayBufferWriter<byte>();
        var additional = new ArrayBufferWriter<byte>();
        var records = 0;
        var target = 0;
        for (var i = 0; i < count; i++)
        {
            target += 18;
            foreach (var address in _srv[i].Addresses)
            {
                // Pointers reach 14 bits; what lies beyond is left out, as additional data may be.
                if (target > 0x3E00 || additional.WrittenCount > 60000)
                    continue;
                var v4 = address.AddressFamily == AddressFamily.InterNetwork;
                var size = v4 ? 4 : 16;
                var fixup = fixups.GetSpan(4);
                BitConverter.TryWriteBytes(fixup, (ushort)additional.WrittenCount);
                BitConverter.TryWriteBytes(fixup[2..], (ushort)target);
                fixups.Advance(4);
                var record = additional.GetSpan(12 + size);
                WriteHead(record, v4 ? RrType.A : RrType.AAAA, ttl, size);
                address.TryWriteBytes(record[12..], out _);
                additional.Advance(12 + size);
                records++;
            }

            target += _srv[i].Target.Length;
        }

        Reserve(8 + fixups.WrittenCount + additional.WrittenCount);
        BitConverter.TryWriteBytes(_buffer.AsSpan(_length), (ushort)records);
        BitConverter.TryWriteBytes(_buffer.AsSpan(_length + 2), (ushort)records);
        BitConverter.TryWriteBytes(_buffer.AsSpan(_length + 4), additional.WrittenCount);
        _length += 8;
        fixups.WrittenSpan.CopyTo(_buffer.AsSpan(_length));
        _length += fixups.WrittenCount;
        additional.WrittenSpan.CopyTo(_buffer.AsSpan(_length));
        _length += additional.WrittenCount;
        EndSet(set);
        return 1;
    }

    private int Ptr(uint ttl)
    {
        if (_ptr.Count == 0)
            return 0;
        var set = BeginSet(RrType.PTR, _ptr.Count, 0, 0, 0);
        foreach (var target in _ptr)
        {
            Reserve(12 + target.Length);
            RecordHead(RrType.PTR, ttl, target.Length);
            target.CopyTo(_buffer, _length);
            _length += target.Length;
        }

        EndData(set);
        EndSet(set);
        return 1;
    }

    private int Txt(uint ttl)
    {
        if (_txt.Count == 0)
            return 0;
        var set = BeginSet(RrType.TXT, 0, 0, 0, 0);
        var dataStart = _length;
        var count = 0;
        foreach (var strings in _txt)
        {
            var size = 0;
            foreach (var text in strings)
                size += 1 + Math.Min(255, Encoding.UTF8.GetByteCount(text));
            if (_length - dataStart + size > 60000)
                break;
            Reserve(12 + size);
            RecordHead(RrType.TXT, ttl, size);
            foreach (var text in strings)
            {
                var bytes = Encoding.UTF8.GetBytes(text).AsSpan();
                bytes = bytes[..Math.Min(255, bytes.Length)];
                _buffer[_length++] = (byte)bytes.Length;
                bytes.CopyTo(_buffer.AsSpan(_length));
                _length += bytes.Length;
            }

            count++;
        }

        BitConverter.TryWriteBytes(_buffer.AsSpan(set + 2), (ushort)count);
        EndData(set);
        EndSet(set);
        return 1;
    }

    private int BeginSet(RrType type, int count, int fixedSize, byte flags, int limit)
    {
        Reserve(Entry.SetHead);
        var set = _length;
        var head = _buffer.AsSpan(set, Entry.SetHead);
        BitConverter.TryWriteBytes(head, (ushort)type);
        BitConverter.TryWriteBytes(head[2..], (ushort)count);
        head[4] = (byte)fixedSize;
        head[5] = flags;
        BitConverter.TryWriteBytes(head[6..], (ushort)limit);
        _length += Entry.SetHead;
        return set;
    }

    private void EndData(int set) => BitConverter.TryWriteBytes(_buffer.AsSpan(set + 12), _length - set - Entry.SetHead);

    private void EndSet(int set) => BitConverter.TryWriteBytes(_buffer.AsSpan(set + 8), _length - set);

    private void RecordHead(RrType type, uint ttl, int dataLength)
    {
        WriteHead(_buffer.AsSpan(_length), type, ttl, dataLength);
        _length += 12;
    }

    private static void WriteHead(Span<byte> at, RrType type, uint ttl, int dataLength)
    {
        BinaryPrimitives.WriteUInt16BigEndian(at, 0xC000 | Header.Size);
        BinaryPrimitives.WriteUInt16BigEndian(at[2..], (ushort)type);
        BinaryPrimitives.WriteUInt16BigEndian(at[4..], ClassCode.In);
        BinaryPrimitives.WriteUInt32BigEndian(at[6..], ttl);
        BinaryPrimitives.WriteUInt16BigEndian(at[10..], (ushort)dataLength);
    }

    private void WriteU16(int value)
    {
        BinaryPrimitives.WriteUInt16BigEndian(_buffer.AsSpan(_length), (ushort)value);
        _length += 2;
    }

    private void Reserve(int more)
    {
        if (_length + more > _buffer.Length)
            Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, _length + more));
    }
}
