using System.Buffers.Binary;

namespace OverlayNet.Dns;

/// <summary>Writes a message of its own, compressing names (RFC 1035 §4.1.4) against those it has written. Not for the hot path.</summary>
internal sealed class MessageWriter
{
    private const int MostPointer = 0x3FFF;

    private readonly List<int> _names = [];
    private byte[] _buffer = new byte[1024];

    public int Length { get; private set; }

    public ReadOnlySpan<byte> Written => _buffer.AsSpan(0, Length);

    public Span<byte> Mutable => _buffer.AsSpan(0, Length);

    public void Reset()
    {
        _names.Clear();
        Length = 0;
    }

    public void U8(int value)
    {
        Reserve(1);
        _buffer[Length++] = (byte)value;
    }

    public void U16(int value)
    {
        Reserve(2);
        BinaryPrimitives.WriteUInt16BigEndian(_buffer.AsSpan(Length), (ushort)value);
        Length += 2;
    }

    public void U32(uint value)
    {
        Reserve(4);
        BinaryPrimitives.WriteUInt32BigEndian(_buffer.AsSpan(Length), value);
        Length += 4;
    }

    public void Bytes(ReadOnlySpan<byte> bytes)
    {
        Reserve(bytes.Length);
        bytes.CopyTo(_buffer.AsSpan(Length));
        Length += bytes.Length;
    }

    /// <summary>Writes a wire name that ends in the root octet.</summary>
    /// <param name="name">Uncompressed.</param>
    /// <param name="compress">False in data of types that forbid it (RFC 3597 §4).</param>
    public void Name(ReadOnlySpan<byte> name, bool compress = true)
    {
        Reserve(name.Length);
        var i = 0;
        while (name[i] != 0)
        {
            if (compress && FindName(name[i..]) is var target and >= 0)
            {
                U16(0xC000 | target);
                return;
            }

            if (Length <= MostPointer)
                _names.Add(Length);
            Bytes(name.Slice(i, name[i] + 1));
            i += name[i] + 1;
        }

        U8(0);
    }

    /// <summary>Writes a 16-bit length over two bytes reserved earlier.</summary>
    public void PatchU16(int at, int value) => BinaryPrimitives.WriteUInt16BigEndian(_buffer.AsSpan(at), (ushort)value);

    /// <summary>Takes back what was written since.</summary>
    public void Truncate(int length)
    {
        Length = length;
        _names.RemoveAll(at => at >= length);
    }

    private int FindName(ReadOnlySpan<byte> name)
    {
        foreach (var at in _names)
        {
            if (Matches(at, name))
                return at;
        }

        return -1;
    }

    private bool Matches(int at, ReadOnlySpan<byte> name)
    {
        var i = 0;
        while (true)
        {
            int size = _buffer[at];
            if (size >= 0xC0)
            {
                at = ((size & 0x3F) << 8) | _buffer[at + 1];
                continue;
            }

            if (size != name[i])
                return false;
            if (size == 0)
                return true;
            for (var n = 1; n <= size; n++)
            {
                if (at + n >= Length || DnsName.ToLower(_buffer[at + n]) != DnsName.ToLower(name[i + n]))
                    return false;
            }

            at += size + 1;
            i += size + 1;
            if (at >= Length)
                return false;
        }
    }

    private void Reserve(int more)
    {
        if (Length + more > _buffer.Length)
            Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, Length + more));
    }
}
