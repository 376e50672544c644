using System.Buffers;
using System.Buffers.Binary;
using System.Net;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// Writes netlink messages (linux/netlink.h) one behind the other into one buffer: header, the family's own fixed
/// header, attributes, nests. Integers are in host byte order unless the method says otherwise. Sequence numbers
/// are stamped by <see cref="NetlinkSocket"/> when it sends. Starts in the caller's span and moves to a rented array when full (undisposed, that array goes to the collector instead of back to the pool).
/// </summary>
public ref struct NetlinkMessageWriter(Span<byte> initial)
{
    private Span<byte> buffer = initial;
    private byte[]? rented;
    private int position;
    private int messageStart = -1;

    /// <summary>All messages written so far, padded to 4 octets each.</summary>
    public readonly ReadOnlySpan<byte> Written => buffer[..position];

    /// <summary>How many messages were begun.</summary>
    public int Count { get; private set; }

    /// <summary>Octets written so far.</summary>
    public readonly int Length => position;

    /// <summary>Begins a message; the one before ends here.</summary>
    public void Begin(ushort type, NetlinkFlags flags)
    {
        End();
        messageStart = position;
        Count++;
        var header = Grow(NetlinkType.HeaderLength);
        header.Clear();
        MemoryMarshal.Write(header[4..], type);
        MemoryMarshal.Write(header[6..], (ushort)flags);
    }

    /// <summary>Ends the message under way by writing its length; called by <see cref="Begin"/> and by the socket.</summary>
    public void End()
    {
        if (messageStart < 0)
            return;
        MemoryMarshal.Write(buffer[messageStart..], (uint)(position - messageStart));
        Pad();
        messageStart = -1;
    }

    /// <summary>Forgets everything written, keeping the buffer.</summary>
    public void Clear()
    {
        position = 0;
        Count = 0;
        messageStart = -1;
    }

    /// <summary>The family's fixed header, or any other fixed structure, in memory layout.</summary>
    public void Struct<T>(scoped in T value) where T : unmanaged
    {
        MemoryMarshal.Write(Grow(Unsafe.SizeOf<T>()), value);
        Pad();
    }

    public void Attribute(ushort type, scoped ReadOnlySpan<byte> payload)
    {
        var length = NetlinkType.AttributeHeaderLength + payload.Length;
        if (length > ushort.MaxValue)
            throw new ArgumentException($"netlink attribute {type} has {payload.Length} octets; the most is {ushort.MaxValue - NetlinkType.AttributeHeaderLength}");
        var target = Grow(length);
        MemoryMarshal.Write(target, (ushort)length);
        MemoryMarshal.Write(target[2..], type);
        payload.CopyTo(target[NetlinkType.AttributeHeaderLength..]);
        Pad();
    }

    /// <summary>Attributes written before, padded as they were: the content of a nest, say.</summary>
    public void Octets(scoped ReadOnlySpan<byte> attributes)
    {
        attributes.CopyTo(Grow(attributes.Length));
        Pad();
    }

    /// <summary>An attribute without payload (a flag).</summary>
    public void Flag(ushort type) => Attribute(type, []);

    public void U8(ushort type, byte value) => Attribute(type, [value]);

    public void U16(ushort type, ushort value) => Attribute(type, MemoryMarshal.AsBytes(new ReadOnlySpan<ushort>(in value)));

    public void U32(ushort type, uint value) => Attribute(type, MemoryMarshal.AsBytes(new ReadOnlySpan<uint>(in value)));

    public void U64(ushort type, ulong value) => Attribute(type, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));

    public void I32(ushort type, int value) => U32(type, (uint)value);

    /// <summary>Network byte order.</summary>
    public void U16BigEndian(ushort type, ushort value) => U16(type, BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value);

    /// <summary>Network byte order.</summary>
    public void U32BigEndian(ushort type, uint value) => U32(type, BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value);

    /// <summary>Network byte order.</summary>
    public void U64BigEndian(ushort type, ulong value) => U64(type, BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(value) : value);

    /// <summary>UTF-8 with a closing NUL, as the kernel's NLA_NUL_STRING wants it.</summary>
    public void String(ushort type, string value)
    {
        Span<byte> text = stackalloc byte[256];
        var length = Encoding.UTF8.GetByteCount(value);
        if (length + 1 > text.Length)
            text = new byte[length + 1];
        Encoding.UTF8.GetBytes(value, text);
        text[length] = 0;
        Attribute(type, text[..(length + 1)]);
    }

    /// <summary>Four or sixteen octets in network byte order.</summary>
    public void Address(ushort type, IPAddress value)
    {
        Span<byte> octets = stackalloc byte[16];
        value.TryWriteBytes(octets, out var length);
        Attribute(type, octets[..length]);
    }

    public void Mac(ushort type, MacAddress value)
    {
        Span<byte> octets = stackalloc byte[MacAddress.Length];
        value.Write(octets);
        Attribute(type, octets);
    }

    /// <summary>An attribute holding a fixed structure in memory layout.</summary>
    public void StructAttribute<T>(ushort type, scoped in T value) where T : unmanaged =>
        Attribute(type, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));

    /// <summary>Opens a nest with the NLA_F_NESTED bit; close it with what this returns.</summary>
    public int BeginNest(ushort type) => BeginNestRaw((ushort)(type | NetlinkType.NestedBit));

    /// <summary>Opens a nest without the NLA_F_NESTED bit, for families older than it (IFLA_LINKINFO's data takes both).</summary>
    public int BeginNestRaw(ushort type)
    {
        var start = position;
        var header = Grow(NetlinkType.AttributeHeaderLength);
        MemoryMarshal.Write(header, (ushort)0);
        MemoryMarshal.Write(header[2..], type);
        return start;
    }

    /// <exception cref="InvalidOperationException">The nest holds more than 64 KiB, which the format cannot say.</exception>
    public readonly void EndNest(int start)
    {
        var length = position - start;
        if (length > ushort.MaxValue)
            throw new InvalidOperationException($"a netlink nest has {length} octets; the most is {ushort.MaxValue}");
        MemoryMarshal.Write(buffer[start..], (ushort)length);
    }

    /// <summary>Octets that a nest opened at <paramref name="start"/> holds so far.</summary>
    public readonly int NestLength(int start) => position - start;

    internal readonly Span<byte> Mutable => buffer[..position];

    public void Dispose()
    {
        if (rented is not null)
            ArrayPool<byte>.Shared.Return(rented);
        rented = null;
        buffer = default;
    }

    private void Pad()
    {
        var padded = NetlinkType.Align(position);
        if (padded > position)
            Grow(padded - position).Clear();
    }

    private Span<byte> Grow(int count)
    {
        if (position + count > buffer.Length)
        {
            var larger = ArrayPool<byte>.Shared.Rent(Math.Max(position + count, Math.Max(buffer.Length * 2, 4096)));
            buffer[..position].CopyTo(larger);
            if (rented is not null)
                ArrayPool<byte>.Shared.Return(rented);
            rented = larger;
            buffer = larger;
        }
        var span = buffer.Slice(position, count);
        position += count;
        return span;
    }
}
