using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;

namespace OverlayNet.Dns.Answer;

/// <summary>A client's address as 16 bytes; IPv4 in mapped form (RFC 4291 §2.5.5.2), so that one map serves both.</summary>
internal readonly record struct ClientAddress(ulong High, ulong Low)
{
    private const ulong MappedPrefix = 0x0000FFFF00000000;

    /// <summary>Reads a <c>sockaddr_in</c> or <c>sockaddr_in6</c>.</summary>
    public static unsafe ClientAddress FromSockAddr(byte* address)
    {
        if (Unsafe.ReadUnaligned<ushort>(address) == (ushort)AddressFamily.InterNetwork)
            return new(0, MappedPrefix | BinaryPrimitives.ReverseEndianness(Unsafe.ReadUnaligned<uint>(address + 4)));
        return new(
            BinaryPrimitives.ReverseEndianness(Unsafe.ReadUnaligned<ulong>(address + 8)),
            BinaryPrimitives.ReverseEndianness(Unsafe.ReadUnaligned<ulong>(address + 16)));
    }

    public static ClientAddress From(IPAddress address)
    {
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out var count);
        return count == 4
            ? new(0, MappedPrefix | BinaryPrimitives.ReadUInt32BigEndian(bytes))
            : new(BinaryPrimitives.ReadUInt64BigEndian(bytes), BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]));
    }

    public IPAddress ToIPAddress()
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, High);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Low);
        return High == 0 && (Low & 0xFFFFFFFF00000000) == MappedPrefix ? new IPAddress(bytes[12..]) : new IPAddress(bytes);
    }
}

/// <summary>Source address → scope, for the clients that see more than the network they ask on. Immutable.</summary>
internal sealed class SourceMap
{
    private readonly Dictionary<ClientAddress, Scope> _scopes;

    public SourceMap(Dictionary<ClientAddress, Scope> scopes) => _scopes = scopes;

    public IEnumerable<Scope> Scopes => _scopes.Values;

    public Scope? Find(in ClientAddress client) => _scopes.GetValueOrDefault(client);
}
