using System.Net;
using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// The expressions of one rule, in order (linux/netfilter/nf_tables.h: enum nft_*_attributes). Registers are numbered 0-15, four octets
/// each (NFT_REG32_00...); a value of n octets takes the next (n+3)/4 registers. Values loaded from packets keep network byte
/// order; marks, counters and interface numbers are in host byte order. The kernel checks that what is read was written in the same rule.
/// </summary>
public sealed class NfExpressions
{
    private const int InterfaceNameLength = 16;
    private readonly List<byte> octets = [];

    /// <summary>The list as NFTA_RULE_EXPRESSIONS holds it.</summary>
    public ReadOnlySpan<byte> Written => CollectionsMarshal.AsSpan(octets);

    public int Count { get; private set; }

    /// <summary>Loads octets of the packet.</summary>
    public NfExpressions Payload(NfPayloadBase from, int offset, int length, int register)
    {
        var w = Begin("payload", stackalloc byte[96]);
        w.U32BigEndian(1, Register(register));
        w.U32BigEndian(2, (uint)from);
        w.U32BigEndian(3, (uint)offset);
        w.U32BigEndian(4, (uint)length);
        return End(ref w);
    }

    /// <summary>Writes octets of the packet and keeps the checksums right.</summary>
    /// <param name="checksumOffset">Of the header's own checksum, from the same base; null: it has none.</param>
    /// <param name="pseudoHeader">The octets are part of the transport protocol's pseudo header (addresses).</param>
    public NfExpressions PayloadSet(NfPayloadBase to, int offset, int length, int register, int? checksumOffset, bool pseudoHeader)
    {
        var w = Begin("payload", stackalloc byte[128]);
        w.U32BigEndian(5, Register(register));
        w.U32BigEndian(2, (uint)to);
        w.U32BigEndian(3, (uint)offset);
        w.U32BigEndian(4, (uint)length);
        w.U32BigEndian(6, checksumOffset is null ? 0u : 1u);
        if (checksumOffset is { } at)
            w.U32BigEndian(7, (uint)at);
        if (pseudoHeader)
            w.U32BigEndian(8, 1);
        return End(ref w);
    }

    public NfExpressions Meta(NfMeta key, int register)
    {
        var w = Begin("meta", stackalloc byte[64]);
        w.U32BigEndian(1, Register(register));
        w.U32BigEndian(2, (uint)key);
        return End(ref w);
    }

    public NfExpressions MetaSet(NfMeta key, int register)
    {
        var w = Begin("meta", stackalloc byte[64]);
        w.U32BigEndian(2, (uint)key);
        w.U32BigEndian(3, Register(register));
        return End(ref w);
    }

    /// <param name="reply">Direction, for keys that have one.</param>
    public NfExpressions Ct(NfCt key, int register, bool? reply = null)
    {
        var w = Begin("ct", stackalloc byte[64]);
        w.U32BigEndian(1, Register(register));
        w.U32BigEndian(2, (uint)key);
        if (reply is { } direction)
            w.U8(3, direction ? (byte)1 : (byte)0);
        return End(ref w);
    }

    public NfExpressions CtSet(NfCt key, int register)
    {
        var w = Begin("ct", stackalloc byte[64]);
        w.U32BigEndian(2, (uint)key);
        w.U32BigEndian(4, Register(register));
        return End(ref w);
    }

    /// <summary>Goes on only when a register compares so with a value.</summary>
    public NfExpressions Compare(NfCompare how, int register, ReadOnlySpan<byte> value)
    {
        var w = Begin("cmp", stackalloc byte[160]);
        w.U32BigEndian(1, Register(register));
        w.U32BigEndian(2, (uint)how);
        Data(ref w, 3, value);
        return End(ref w);
    }

    /// <summary>register = (source and mask) xor value.</summary>
    public NfExpressions Bitwise(int source, int register, ReadOnlySpan<byte> mask, ReadOnlySpan<byte> xor)
    {
        var w = Begin("bitwise", stackalloc byte[256]);
        w.U32BigEndian(1, Register(source));
        w.U32BigEndian(2, Register(register));
        w.U32BigEndian(3, (uint)mask.Length);
        Data(ref w, 4, mask);
        Data(ref w, 5, xor);
        return End(ref w);
    }

    /// <summary>Goes on when the key is in the set (or not).</summary>
    public NfExpressions Lookup(string set, int keyRegister, bool inverted = false)
    {
        var w = Begin("lookup", stackalloc byte[384]);
        w.String(1, set);
        w.U32BigEndian(2, Register(keyRegister));
        if (inverted)
            w.U32BigEndian(5, 1);
        return End(ref w);
    }

    /// <summary>Loads the value that a map has for the key; goes on only when there is one.</summary>
    public NfExpressions Map(string map, int keyRegister, int register) => MapTo(map, keyRegister, Register(register));

    /// <summary>Takes the verdict that a verdict map has for the key, when there is one.</summary>
    public NfExpressions VerdictMap(string map, int keyRegister) => MapTo(map, keyRegister, 0);

    public NfExpressions Immediate(int register, ReadOnlySpan<byte> value)
    {
        var w = Begin("immediate", stackalloc byte[160]);
        w.U32BigEndian(1, Register(register));
        Data(ref w, 2, value);
        return End(ref w);
    }

    public NfExpressions Verdict(NfVerdict verdict)
    {
        var w = Begin("immediate", stackalloc byte[384]);
        w.U32BigEndian(1, 0);
        var data = w.BeginNest(2);
        WriteVerdict(ref w, verdict);
        w.EndNest(data);
        return End(ref w);
    }

    /// <summary>Translates the destination; nat chains at prerouting and output only.</summary>
    /// <param name="portRegister">Two octets in network byte order; null: the port stays.</param>
    public NfExpressions DestinationNat(NfFamily family, int addressRegister, int? portRegister = null, NfNatFlags flags = NfNatFlags.None) =>
        Nat(1, family, addressRegister, portRegister, flags);

    /// <summary>Translates the source; nat chains at postrouting and input only.</summary>
    public NfExpressions SourceNat(NfFamily family, int addressRegister, int? portRegister = null, NfNatFlags flags = NfNatFlags.None) =>
        Nat(0, family, addressRegister, portRegister, flags);

    /// <summary>Translates the source to the outgoing interface's address.</summary>
    public NfExpressions Masquerade(NfNatFlags flags = NfNatFlags.None)
    {
        var w = Begin("masq", stackalloc byte[64]);
        if (flags != NfNatFlags.None)
            w.U32BigEndian(1, (uint)flags);
        return End(ref w);
    }

    /// <summary>A number below the modulus, counting up or random; host byte order.</summary>
    public NfExpressions Number(int register, uint modulus, bool random, uint offset = 0)
    {
        var w = Begin("numgen", stackalloc byte[96]);
        w.U32BigEndian(1, Register(register));
        w.U32BigEndian(2, modulus);
        w.U32BigEndian(3, random ? 1u : 0u);
        w.U32BigEndian(4, offset);
        return End(ref w);
    }

    /// <summary>Jenkins hash of <paramref name="length"/> octets, modulo; host byte order.</summary>
    public NfExpressions Hash(int source, int length, int register, uint modulus, uint seed = 0, uint offset = 0)
    {
        var w = Begin("hash", stackalloc byte[128]);
        w.U32BigEndian(1, Register(source));
        w.U32BigEndian(2, Register(register));
        w.U32BigEndian(3, (uint)length);
        w.U32BigEndian(4, modulus);
        w.U32BigEndian(5, seed);
        w.U32BigEndian(6, offset);
        w.U32BigEndian(7, 0);
        return End(ref w);
    }

    public NfExpressions Counter()
    {
        var w = Begin("counter", stackalloc byte[96]);
        w.U64BigEndian(1, 0);
        w.U64BigEndian(2, 0);
        return End(ref w);
    }

    /// <param name="code">ICMP or ICMPv6 code of the table's family; not for a TCP reset.</param>
    public NfExpressions Reject(NfReject how, byte code = 0)
    {
        var w = Begin("reject", stackalloc byte[64]);
        w.U32BigEndian(1, (uint)how);
        if (how != NfReject.TcpReset)
            w.U8(2, code);
        return End(ref w);
    }

    /// <summary>Sends the packet out of the device whose index is in the register; netdev ingress and egress only.</summary>
    public NfExpressions Forward(int deviceRegister)
    {
        var w = Begin("fwd", stackalloc byte[48]);
        w.U32BigEndian(1, Register(deviceRegister));
        return End(ref w);
    }

    /// <summary>Keeps the packet out of connection tracking; chains before conntrack's priority only.</summary>
    public NfExpressions NoTrack()
    {
        var start = Start("notrack", stackalloc byte[32], withData: false);
        return End(ref start);
    }

    /// <summary>Uses a named object (a counter: type 1).</summary>
    public NfExpressions ObjectReference(uint type, string name)
    {
        var w = Begin("objref", stackalloc byte[384]);
        w.U32BigEndian(1, type);
        w.String(2, name);
        return End(ref w);
    }

    /// <param name="size">Octets of each number: 2, 4 or 8.</param>
    public NfExpressions HostToNetwork(int source, int register, int length, int size) => ByteOrder(source, register, length, size, 1);

    /// <inheritdoc cref="HostToNetwork"/>
    public NfExpressions NetworkToHost(int source, int register, int length, int size) => ByteOrder(source, register, length, size, 0);

    /// <summary>Adds to, updates in or deletes from a dynamic set.</summary>
    public NfExpressions Dynset(NfDynset operation, string set, int keyRegister, int? dataRegister = null, TimeSpan timeout = default)
    {
        var w = Begin("dynset", stackalloc byte[384]);
        w.String(1, set);
        w.U32BigEndian(3, (uint)operation);
        w.U32BigEndian(4, Register(keyRegister));
        if (dataRegister is { } data)
            w.U32BigEndian(5, Register(data));
        if (timeout > TimeSpan.Zero)
            w.U64BigEndian(6, (ulong)timeout.TotalMilliseconds);
        return End(ref w);
    }

    public NfExpressions Fib(NfFibFlags flags, NfFibResult result, int register)
    {
        var w = Begin("fib", stackalloc byte[64]);
        w.U32BigEndian(1, Register(register));
        w.U32BigEndian(2, (uint)result);
        w.U32BigEndian(3, (uint)flags);
        return End(ref w);
    }

    /// <summary>Goes on for one transport protocol (IPPROTO_*). Uses register 0.</summary>
    public NfExpressions MatchL4Protocol(byte protocol) => Meta(NfMeta.L4Protocol, 0).Compare(NfCompare.Equal, 0, [protocol]);

    /// <summary>Goes on for one destination port (host byte order here) of the transport header. Uses register 0.</summary>
    public NfExpressions MatchDestinationPort(ushort port) =>
        Payload(NfPayloadBase.Transport, 2, 2, 0).Compare(NfCompare.Equal, 0, [(byte)(port >> 8), (byte)port]);

    /// <inheritdoc cref="MatchDestinationPort"/>
    public NfExpressions MatchSourcePort(ushort port) =>
        Payload(NfPayloadBase.Transport, 0, 2, 0).Compare(NfCompare.Equal, 0, [(byte)(port >> 8), (byte)port]);

    /// <summary>Goes on for sources in (or outside) a network; in inet tables match the family first. Uses registers 0-3.</summary>
    public NfExpressions MatchSource(IPNetwork network, bool inverted = false) => MatchAddress(network, destination: false, inverted);

    /// <inheritdoc cref="MatchSource"/>
    public NfExpressions MatchDestination(IPNetwork network, bool inverted = false) => MatchAddress(network, destination: true, inverted);

    /// <summary>Goes on for packets that came in by (or not by) an interface. Uses registers 0-3.</summary>
    public NfExpressions MatchInputInterface(string name, bool inverted = false) => MatchInterface(NfMeta.InputInterfaceName, name, inverted);

    /// <summary>Goes on for packets that go out by (or not by) an interface. Uses registers 0-3.</summary>
    public NfExpressions MatchOutputInterface(string name, bool inverted = false) => MatchInterface(NfMeta.OutputInterfaceName, name, inverted);

    internal static void WriteVerdict(ref NetlinkMessageWriter w, NfVerdict verdict)
    {
        var nest = w.BeginNest(NfTablesType.DataVerdict);
        w.U32BigEndian(NfTablesType.VerdictCode, (uint)verdict.Code);
        if (verdict.Chain is not null)
            w.String(NfTablesType.VerdictChain, verdict.Chain);
        w.EndNest(nest);
    }

    internal static void Data(ref NetlinkMessageWriter w, ushort type, scoped ReadOnlySpan<byte> value)
    {
        var nest = w.BeginNest(type);
        w.Attribute(NfTablesType.DataValue, value);
        w.EndNest(nest);
    }

    private static uint Register(int register) => register is >= 0 and < 16
        ? (uint)register + 8
        : throw new ArgumentOutOfRangeException(nameof(register), register, "nftables has registers 0 to 15");

    private NfExpressions MatchAddress(IPNetwork network, bool destination, bool inverted)
    {
        Span<byte> prefix = stackalloc byte[16];
        Span<byte> mask = stackalloc byte[16];
        network.BaseAddress.TryWriteBytes(prefix, out var length);
        for (var bit = 0; bit < network.PrefixLength; bit++)
            mask[bit / 8] |= (byte)(0x80 >> bit % 8);
        var offset = (length, destination) switch { (4, false) => 12, (4, true) => 16, (_, false) => 8, _ => 24 };
        Payload(NfPayloadBase.Network, offset, length, 0);
        if (network.PrefixLength < length * 8)
            Bitwise(0, 0, mask[..length], stackalloc byte[length]);
        return Compare(inverted ? NfCompare.NotEqual : NfCompare.Equal, 0, prefix[..length]);
    }

    private NfExpressions MatchInterface(NfMeta key, string name, bool inverted)
    {
        Span<byte> padded = stackalloc byte[InterfaceNameLength];
        padded.Clear();
        if (!Encoding.UTF8.TryGetBytes(name, padded[..(InterfaceNameLength - 1)], out _))
            throw new ArgumentException($"interface name '{name}' has more than {InterfaceNameLength - 1} octets");
        return Meta(key, 0).Compare(inverted ? NfCompare.NotEqual : NfCompare.Equal, 0, padded);
    }

    private NfExpressions MapTo(string map, int keyRegister, uint register)
    {
        var w = Begin("lookup", stackalloc byte[384]);
        w.String(1, map);
        w.U32BigEndian(2, Register(keyRegister));
        w.U32BigEndian(3, register);
        return End(ref w);
    }

    private NfExpressions Nat(uint type, NfFamily family, int addressRegister, int? portRegister, NfNatFlags flags)
    {
        var w = Begin("nat", stackalloc byte[128]);
        w.U32BigEndian(1, type);
        w.U32BigEndian(2, (uint)family);
        w.U32BigEndian(3, Register(addressRegister));
        if (portRegister is { } port)
            w.U32BigEndian(5, Register(port));
        if (flags != NfNatFlags.None)
            w.U32BigEndian(7, (uint)flags);
        return End(ref w);
    }

    private NfExpressions ByteOrder(int source, int register, int length, int size, uint operation)
    {
        var w = Begin("byteorder", stackalloc byte[96]);
        w.U32BigEndian(1, Register(source));
        w.U32BigEndian(2, Register(register));
        w.U32BigEndian(3, operation);
        w.U32BigEndian(4, (uint)length);
        w.U32BigEndian(5, (uint)size);
        return End(ref w);
    }

    // A list element is { name, data { ... } }; both nests stay open until End, which knows where they began.
    private static NetlinkMessageWriter Begin(string name, Span<byte> buffer) => Start(name, buffer, withData: true);

    private static NetlinkMessageWriter Start(string name, Span<byte> buffer, bool withData)
    {
        var w = new NetlinkMessageWriter(buffer);
        w.BeginNest(NfTablesType.ListElement);
        w.String(NfTablesType.ExpressionName, name);
        if (withData)
            w.BeginNest(NfTablesType.ExpressionData);
        return w;
    }

    private NfExpressions End(ref NetlinkMessageWriter w)
    {
        var name = NetlinkType.Align(MemoryMarshal.Read<ushort>(w.Written[NetlinkType.AttributeHeaderLength..]));
        var data = NetlinkType.AttributeHeaderLength + name;
        if (data < w.Length)
            w.EndNest(data);
        w.EndNest(0);
        octets.AddRange(w.Written);
        w.Dispose();
        Count++;
        return this;
    }
}
