using System.Buffers.Binary;

namespace OverlayNet.Dns.Forward;

/// <summary>
/// Keeps of an upstream's answer only what answers the question: records whose owner lies on the chain of aliases
/// from the asked name, and in the authority section only what concerns a zone above one of these. Everything else
/// (out of bailiwick, additional data) could plant false records and is dropped.
/// </summary>
internal sealed class AnswerSanitizer
{
    /// <summary>Aliases followed; longer chains are loops or attacks.</summary>
    private const int MostAliases = 16;

    /// <summary>RFC 8767 §4: no TTL above a week; a day serves as well.</summary>
    private const uint MostTtl = 86400;

    private const uint MostNegativeTtl = 300;

    private readonly MessageWriter _writer = new();
    private readonly List<byte[]> _chain = [];
    private readonly List<int> _ttlAt = [];

    /// <summary>False: not a well-formed answer to this question.</summary>
    /// <param name="message">The answer, id and question already matched.</param>
    /// <param name="name">Asked name, lower-case with the root octet.</param>
    /// <param name="type">Asked type.</param>
    /// <param name="dnssecOk">Whether signatures and denial records were asked for.</param>
    /// <param name="source">Recorded in the answer.</param>
    /// <param name="answer">The result.</param>
    public bool TryRun(ReadOnlySpan<byte> message, byte[] name, RrType type, bool dnssecOk, string source, out ForwardedAnswer answer)
    {
        answer = null!;
        var reader = new MessageReader(message);
        Span<byte> scratch = stackalloc byte[Limits.NameLength];
        if (reader.Count(Header.QdCount) != 1 || !reader.TryReadQuestion(scratch, out _, out _, out _))
            return false;

        var records = new List<WireRecord>();
        var answers = reader.Count(Header.AnCount);
        var total = answers + reader.Count(Header.NsCount) + reader.Count(Header.ArCount);
        var authorityEnd = answers + reader.Count(Header.NsCount);
        var rcode = reader.Rcode;
        for (var i = 0; i < total; i++)
        {
            if (!reader.TryReadRecord(out var record))
                return false;
            if (i < authorityEnd)
                records.Add(record);
            else if (record.Type == RrType.OPT)
                rcode |= (int)(record.Ttl >> 24) << 4;
        }

        _writer.Reset();
        _chain.Clear();
        _ttlAt.Clear();
        _chain.Add(name);
        for (var i = 0; i < Header.Size; i++)
            _writer.U8(0);
        _writer.Name(name);
        _writer.U32(0);
        var bodyAt = _writer.Length;

        var minTtl = uint.MaxValue;
        var kept = new bool[answers];
        var answerCount = 0;
        // Several passes, because nothing guarantees that aliases come in order.
        for (var progress = true; progress;)
        {
            progress = false;
            for (var i = 0; i < answers; i++)
            {
                if (kept[i] || !Belongs(reader, records[i], type, dnssecOk))
                    continue;
                kept[i] = progress = true;
                if (!TryCopy(reader, records[i]))
                    return false;
                answerCount++;
                minTtl = Math.Min(minTtl, Clamp(records[i].Ttl));
            }
        }

        var authorityCount = 0;
        uint? negative = null;
        for (var i = answers; i < authorityEnd; i++)
        {
            if (!BelongsToAuthority(reader, records[i], dnssecOk))
                continue;
            if (!TryCopy(reader, records[i]))
                return false;
            authorityCount++;
            if (records[i].Type == RrType.SOA)
            {
                var end = records[i].DataAt + records[i].DataLength;
                var minimum = BinaryPrimitives.ReadUInt32BigEndian(message[(end - 4)..]);
                negative = Math.Min(Math.Min(Clamp(records[i].Ttl), minimum), MostNegativeTtl);
            }
        }

        var isNegative = rcode == (int)Rcode.NxDomain || !HasType(records, kept, type);
        answer = new ForwardedAnswer
        {
            Rcode = (Rcode)rcode,
            Body = _writer.Written[bodyAt..].ToArray(),
            Answers = answerCount,
            Authorities = authorityCount,
            Authenticated = (message[Header.Flags2] & Header.Ad) != 0,
            TtlAt = [.. _ttlAt.Select(at => at - bodyAt)],
            Ttl = isNegative ? Math.Min(negative ?? 0, minTtl) : minTtl,
            Source = source,
        };
        return true;
    }

    private static bool HasType(List<WireRecord> records, bool[] kept, RrType type)
    {
        for (var i = 0; i < kept.Length; i++)
        {
            if (kept[i] && (records[i].Type == type || type == RrType.ANY))
                return true;
        }

        return false;
    }

    private bool Belongs(MessageReader reader, in WireRecord record, RrType type, bool dnssecOk)
    {
        if (record.Class != ClassCode.In)
            return false;
        var owner = Owner(reader, record);
        if (record.Type == RrType.DNAME)
        {
            foreach (var link in _chain)
            {
                if (link.Length > owner.Length && DnsName.IsAtOrBelow(link, owner))
                    return true;
            }

            return type == RrType.DNAME && InChain(owner);
        }

        if (!InChain(owner))
            return record.Type == RrType.RRSIG && dnssecOk && Covered(reader, record) == RrType.DNAME && IsAboveChain(owner);
        if (record.Type == RrType.CNAME)
        {
            var position = record.DataAt;
            Span<byte> target = stackalloc byte[Limits.NameLength];
            if (!reader.TryReadName(ref position, target, out var length))
                return false;
            var lower = Lower(target[..length]);
            if (type is not RrType.CNAME && !InChain(lower))
            {
                if (_chain.Count >= MostAliases)
                    return false;
                _chain.Add(lower);
            }

            return true;
        }

        return record.Type == type || type == RrType.ANY || (record.Type == RrType.RRSIG && dnssecOk);
    }

    private bool BelongsToAuthority(MessageReader reader, in WireRecord record, bool dnssecOk)
    {
        if (record.Class != ClassCode.In)
            return false;
        return record.Type switch
        {
            RrType.SOA or RrType.NS => IsAboveChain(Owner(reader, record)),
            // We draw no conclusion from denial records, so they can do no harm; a validating client needs them.
            RrType.NSEC or RrType.NSEC3 or RrType.RRSIG => dnssecOk,
            _ => false,
        };
    }

    private static RrType Covered(MessageReader reader, in WireRecord record) =>
        record.DataLength < 18 ? 0 : (RrType)BinaryPrimitives.ReadUInt16BigEndian(reader.Message[record.DataAt..]);

    private bool InChain(byte[] owner)
    {
        foreach (var link in _chain)
        {
            if (owner.AsSpan().SequenceEqual(link))
                return true;
        }

        return false;
    }

    private bool IsAboveChain(byte[] owner)
    {
        foreach (var link in _chain)
        {
            if (DnsName.IsAtOrBelow(link, owner))
                return true;
        }

        return false;
    }

    private static byte[] Owner(MessageReader reader, in WireRecord record)
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var position = record.OwnerAt;
        reader.TryReadName(ref position, name, out var length);
        return Lower(name[..length]);
    }

    private static byte[] Lower(Span<byte> name)
    {
        foreach (ref var b in name)
            b = DnsName.ToLower(b);
        return name.ToArray();
    }

    private bool TryCopy(MessageReader reader, in WireRecord record)
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var position = record.OwnerAt;
        if (!reader.TryReadName(ref position, name, out var length))
            return false;
        _writer.Name(name[..length]);
        _writer.U16((int)record.Type);
        _writer.U16(record.Class);
        _ttlAt.Add(_writer.Length);
        _writer.U32(Clamp(record.Ttl));
        var lengthAt = _writer.Length;
        _writer.U16(0);

        // Names in the data of the types of RFC 1035 may be compressed and must be followed; SRV's are not compressed
        // by the book, yet some servers do.
        // The last figure is the length of what follows the names; -1: any.
        var (before, names, compress, after) = record.Type switch
        {
            RrType.A => (0, 0, false, 4),
            RrType.AAAA => (0, 0, false, 16),
            RrType.NS or RrType.CNAME or RrType.PTR => (0, 1, true, 0),
            RrType.DNAME => (0, 1, false, 0),
            RrType.MX => (2, 1, true, 0),
            RrType.SRV => (6, 1, false, 0),
            RrType.SOA => (0, 2, true, 20),
            _ => (0, 0, false, -1),
        };
        var end = record.DataAt + record.DataLength;
        position = record.DataAt;
        if (position + before > end)
            return false;
        _writer.Bytes(reader.Message.Slice(position, before));
        position += before;
        for (; names > 0; names--)
        {
            if (!reader.TryReadName(ref position, name, out length) || position > end)
                return false;
            _writer.Name(name[..length], compress);
        }

        if (after >= 0 && end - position != after)
            return false;
        _writer.Bytes(reader.Message[position..end]);
        _writer.PatchU16(lengthAt, _writer.Length - lengthAt - 2);
        return _writer.Length <= Limits.Tcp - QuerySlack;
    }

    private const int QuerySlack = 64;

    /// <summary>RFC 2181 §8: the top bit set means zero.</summary>
    private static uint Clamp(uint ttl) => ttl > int.MaxValue ? 0 : Math.Min(ttl, MostTtl);
}
