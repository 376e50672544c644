using System.Buffers.Binary;
using System.Net;
using System.Runtime.InteropServices;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>Key of an element of one of the maps: at most 24 octets, zero-padded.</summary>
internal readonly record struct NftKey(NftMap Map, ulong A, ulong B, ulong C)
{
    internal const int Most = 24;

    internal static NftKey Read(NftMap map, ReadOnlySpan<byte> octets)
    {
        Span<byte> padded = stackalloc byte[Most];
        padded.Clear();
        octets[..Math.Min(octets.Length, Most)].CopyTo(padded);
        var words = MemoryMarshal.Cast<byte, ulong>(padded);
        return new NftKey(map, words[0], words[1], words[2]);
    }

    internal void Write(Span<byte> octets)
    {
        Span<ulong> words = [A, B, C];
        MemoryMarshal.AsBytes(words)[..octets.Length].CopyTo(octets);
    }

    internal static NftKey Address(NftMap map, IPAddress address)
    {
        Span<byte> octets = stackalloc byte[16];
        address.TryWriteBytes(octets, out var length);
        return Read(map, octets[..length]);
    }

    internal static NftKey Port(IPAddress vip, byte protocol, ushort port)
    {
        Span<byte> octets = stackalloc byte[Most];
        octets.Clear();
        vip.TryWriteBytes(octets, out var length);
        octets[length] = protocol;
        BinaryPrimitives.WriteUInt16BigEndian(octets[(length + 4)..], port);
        return Read(NftMap.Ports, octets);
    }

    /// <param name="map">Servers or slots.</param>
    /// <param name="bucket">Or slot.</param>
    internal static NftKey Bucket(NftMap map, IPAddress vip, uint bucket)
    {
        Span<byte> octets = stackalloc byte[Most];
        octets.Clear();
        vip.TryWriteBytes(octets, out var length);
        // Marks are in host byte order.
        MemoryMarshal.Write(octets[length..], bucket);
        return Read(map, octets);
    }
}

/// <summary>Data of an element: at most 16 octets, zero-padded.</summary>
internal readonly record struct NftData(ulong A, ulong B)
{
    internal static NftData Read(ReadOnlySpan<byte> octets)
    {
        Span<byte> padded = stackalloc byte[16];
        padded.Clear();
        octets[..Math.Min(octets.Length, 16)].CopyTo(padded);
        var words = MemoryMarshal.Cast<byte, ulong>(padded);
        return new NftData(words[0], words[1]);
    }

    internal void Write(Span<byte> octets)
    {
        Span<ulong> words = [A, B];
        MemoryMarshal.AsBytes(words)[..octets.Length].CopyTo(octets);
    }

    internal static NftData Address(IPAddress address)
    {
        Span<byte> octets = stackalloc byte[16];
        address.TryWriteBytes(octets, out var length);
        return Read(octets[..length]);
    }

    internal static NftData Port(ushort port)
    {
        Span<byte> octets = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(octets, port);
        return Read(octets);
    }

    internal static NftData Number(uint value) => Read(MemoryMarshal.AsBytes(new ReadOnlySpan<uint>(in value)));
}
