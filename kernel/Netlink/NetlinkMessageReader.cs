using System.Buffers.Binary;
using System.Net;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Netlink;

/// <summary>One received message: its header's fields and what follows.</summary>
public readonly ref struct NetlinkMessage(ushort type, NetlinkFlags flags, uint sequence, uint portId, ReadOnlySpan<byte> payload)
{
    public ushort Type { get; } = type;
    public NetlinkFlags Flags { get; } = flags;
    public uint Sequence { get; } = sequence;

    /// <summary>The socket the message is for; 0 for notifications.</summary>
    public uint PortId { get; } = portId;

    /// <summary>The family's fixed header and the attributes.</summary>
    public ReadOnlySpan<byte> Payload { get; } = payload;

    /// <summary>The family's fixed header in memory layout.</summary>
    /// <exception cref="InvalidDataException">The message is shorter than the header.</exception>
    public T Header<T>() where T : unmanaged => Payload.Length >= Unsafe.SizeOf<T>()
        ? MemoryMarshal.Read<T>(Payload)
        : throw new InvalidDataException($"netlink message {Type} has {Payload.Length} octets; {Unsafe.SizeOf<T>()} are needed");

    /// <summary>The attributes behind a fixed header of that type.</summary>
    public NetlinkAttributes Attributes<T>() where T : unmanaged
    {
        var skip = NetlinkType.Align(Unsafe.SizeOf<T>());
        return new NetlinkAttributes(Payload.Length > skip ? Payload[skip..] : []);
    }
}

/// <summary>What to do with one message of an answer.</summary>
public delegate T NetlinkParser<out T>(in NetlinkMessage message);

/// <summary>What to do with one notification.</summary>
public delegate void NetlinkHandler(in NetlinkMessage message);

/// <summary>Splits a datagram into messages.</summary>
public ref struct NetlinkMessageReader(ReadOnlySpan<byte> datagram)
{
    private ReadOnlySpan<byte> rest = datagram;

    public NetlinkMessage Current { get; private set; }

    /// <exception cref="InvalidDataException">A length that does not fit the datagram.</exception>
    public bool MoveNext()
    {
        if (rest.Length < NetlinkType.HeaderLength)
            return false;
        var length = MemoryMarshal.Read<uint>(rest);
        if (length < NetlinkType.HeaderLength || length > rest.Length)
            throw new InvalidDataException($"netlink message length {length} does not fit the {rest.Length} octets received");
        Current = new NetlinkMessage(
            MemoryMarshal.Read<ushort>(rest[4..]),
            (NetlinkFlags)MemoryMarshal.Read<ushort>(rest[6..]),
            MemoryMarshal.Read<uint>(rest[8..]),
            MemoryMarshal.Read<uint>(rest[12..]),
            rest[NetlinkType.HeaderLength..(int)length]);
        rest = rest[Math.Min(NetlinkType.Align((int)length), rest.Length)..];
        return true;
    }

    public readonly NetlinkMessageReader GetEnumerator() => this;
}

/// <summary>One attribute: its type without the nested and byte-order bits, and its payload.</summary>
public readonly ref struct NetlinkAttribute(ushort type, ReadOnlySpan<byte> payload)
{
    public ushort Type { get; } = type;
    public ReadOnlySpan<byte> Payload { get; } = payload;

    /// <summary>The payload as attributes.</summary>
    public NetlinkAttributes Nested => new(Payload);
    public byte U8 => Fixed(1)[0];
    public ushort U16 => MemoryMarshal.Read<ushort>(Fixed(2));
    public uint U32 => MemoryMarshal.Read<uint>(Fixed(4));
    public ulong U64 => MemoryMarshal.Read<ulong>(Fixed(8));
    public int I32 => (int)U32;
    public ushort U16BigEndian => BinaryPrimitives.ReadUInt16BigEndian(Fixed(2));
    public uint U32BigEndian => BinaryPrimitives.ReadUInt32BigEndian(Fixed(4));
    public ulong U64BigEndian => BinaryPrimitives.ReadUInt64BigEndian(Fixed(8));
    public MacAddress Mac => MacAddress.Read(Fixed(MacAddress.Length));

    /// <summary>Text up to the first NUL.</summary>
    public string String
    {
        get
        {
            var end = Payload.IndexOf((byte)0);
            return Encoding.UTF8.GetString(end < 0 ? Payload : Payload[..end]);
        }
    }

    /// <summary>Four or sixteen octets in network byte order.</summary>
    /// <exception cref="InvalidDataException">Another length.</exception>
    public IPAddress Address => Payload.Length is 4 or 16
        ? new IPAddress(Payload)
        : throw new InvalidDataException($"netlink attribute {Type} has {Payload.Length} octets; an address has 4 or 16");

    /// <summary>A fixed structure in memory layout; octets the kernel did not send (an older one) are zero.</summary>
    public T Struct<T>() where T : unmanaged
    {
        Span<byte> whole = stackalloc byte[Unsafe.SizeOf<T>()];
        whole.Clear();
        Payload[..Math.Min(Payload.Length, whole.Length)].CopyTo(whole);
        return MemoryMarshal.Read<T>(whole);
    }

    private ReadOnlySpan<byte> Fixed(int length) => Payload.Length >= length
        ? Payload
        : throw new InvalidDataException($"netlink attribute {Type} has {Payload.Length} octets; {length} are needed");
}

/// <summary>Walks attributes: <c>foreach (var attribute in message.Attributes&lt;T&gt;())</c>. Stops at the first length that does not fit, as the kernel's own walker does.</summary>
public ref struct NetlinkAttributes(ReadOnlySpan<byte> octets)
{
    private ReadOnlySpan<byte> rest = octets;

    public NetlinkAttribute Current { get; private set; }

    public bool MoveNext()
    {
        if (rest.Length < NetlinkType.AttributeHeaderLength)
            return false;
        int length = MemoryMarshal.Read<ushort>(rest);
        if (length < NetlinkType.AttributeHeaderLength || length > rest.Length)
            return false;
        Current = new NetlinkAttribute(
            (ushort)(MemoryMarshal.Read<ushort>(rest[2..]) & NetlinkType.TypeMask),
            rest[NetlinkType.AttributeHeaderLength..length]);
        rest = rest[Math.Min(NetlinkType.Align(length), rest.Length)..];
        return true;
    }

    public readonly NetlinkAttributes GetEnumerator() => this;
}
