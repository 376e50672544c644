using System.Buffers.Binary;
using System.Net;

namespace OverlayNet.Vip.Vrrp;

/// <summary>The one's complement sum of RFC 1071, with the pseudo-headers of RFC 793 (IPv4) and RFC 8200 §8.1 (IPv6).</summary>
internal static class InternetChecksum
{
    public static ulong Add(ulong sum, ReadOnlySpan<byte> data)
    {
        while (data.Length >= 2)
        {
            sum += BinaryPrimitives.ReadUInt16BigEndian(data);
            data = data[2..];
        }

        return data.Length == 0 ? sum : sum + ((ulong)data[0] << 8);
    }

    public static ulong PseudoHeader(IPAddress source, IPAddress destination, int length, byte protocol)
    {
        Span<byte> address = stackalloc byte[16];
        source.TryWriteBytes(address, out var written);
        var sum = Add(0, address[..written]);
        destination.TryWriteBytes(address, out written);
        return Add(sum, address[..written]) + (ulong)length + protocol;
    }

    /// <summary>Folds and complements; 0 when the data summed includes a right checksum.</summary>
    public static ushort Finish(ulong sum)
    {
        while (sum >> 16 != 0)
            sum = (sum & 0xffff) + (sum >> 16);
        return (ushort)~sum;
    }
}
