using System.Buffers.Binary;

namespace OverlayNet.Dns;

/// <summary>A record as it lies in a message; offsets are into the message, so that names in it can be followed.</summary>
internal readonly record struct WireRecord(RrType Type, ushort Class, uint Ttl, int OwnerAt, int DataAt, int DataLength);

/// <summary>
/// Reads a message from an untrusted peer. Every method returns false instead of reading outside the message.
/// Compression pointers must point backwards, which also bounds the work.
/// </summary>
internal ref struct MessageReader(ReadOnlySpan<byte> message)
{
    private readonly ReadOnlySpan<byte> _message = message;

    public int Position { get; set; } = Header.Size;

    public readonly ReadOnlySpan<byte> Message => _message;

    public readonly ushort Id => BinaryPrimitives.ReadUInt16BigEndian(_message);

    public readonly bool IsResponse => (_message[Header.Flags1] & Header.Qr) != 0;

    public readonly bool Truncated => (_message[Header.Flags1] & Header.Tc) != 0;

    public readonly int Rcode => _message[Header.Flags2] & Header.RcodeMask;

    public readonly int Count(int at) => BinaryPrimitives.ReadUInt16BigEndian(_message[at..]);

    /// <summary>Expands the name at <paramref name="position"/>, with the root octet, and moves behind it.</summary>
    public readonly bool TryReadName(ref int position, scoped Span<byte> name, out int length)
    {
        length = 0;
        var at = position;
        var jumped = false;
        var lowest = position;
        while (true)
        {
            if (at >= _message.Length)
                return false;
            int size = _message[at];
            if (size >= 0xC0)
            {
                if (at + 1 >= _message.Length)
                    return false;
                var target = ((size & 0x3F) << 8) | _message[at + 1];
                if (!jumped)
                    position = at + 2;
                jumped = true;
                if (target >= lowest)
                    return false;
                lowest = at = target;
                continue;
            }

            if (size > Limits.LabelLength || length + size + 1 > Limits.NameLength || at + size + 1 > _message.Length)
                return false;
            _message.Slice(at, size + 1).CopyTo(name[length..]);
            length += size + 1;
            at += size + 1;
            if (size != 0)
                continue;
            if (!jumped)
                position = at;
            return true;
        }
    }

    /// <summary>Moves over the question.</summary>
    public bool TryReadQuestion(scoped Span<byte> name, out int nameLength, out RrType type, out ushort @class)
    {
        type = 0;
        @class = 0;
        var position = Position;
        if (!TryReadName(ref position, name, out nameLength) || position + 4 > _message.Length)
            return false;
        type = (RrType)BinaryPrimitives.ReadUInt16BigEndian(_message[position..]);
        @class = BinaryPrimitives.ReadUInt16BigEndian(_message[(position + 2)..]);
        Position = position + 4;
        return true;
    }

    /// <summary>Moves over one record.</summary>
    public bool TryReadRecord(out WireRecord record)
    {
        record = default;
        var ownerAt = Position;
        var position = Position;
        Span<byte> name = stackalloc byte[Limits.NameLength];
        if (!TryReadName(ref position, name, out _) || position + 10 > _message.Length)
            return false;
        var head = _message.Slice(position, 10);
        var dataLength = BinaryPrimitives.ReadUInt16BigEndian(head[8..]);
        if (position + 10 + dataLength > _message.Length)
            return false;
        record = new(
            (RrType)BinaryPrimitives.ReadUInt16BigEndian(head),
            BinaryPrimitives.ReadUInt16BigEndian(head[2..]),
            BinaryPrimitives.ReadUInt32BigEndian(head[4..]),
            ownerAt,
            position + 10,
            dataLength);
        Position = position + 10 + dataLength;
        return true;
    }
}
