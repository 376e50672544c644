using System.Buffers.Binary;
using System.Net;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>ARP for IPv4 over Ethernet (RFC 826); other kinds are left alone.</summary>
internal static class ArpDecoder
{
    private const int Length = 28;

    public static void Decode(DecodedPacket packet, ReadOnlySpan<byte> data)
    {
        if (data.Length < Length)
        {
            packet.Malformed ??= packet.Cut ? null : $"ARP: {data.Length} octets are shorter than a message";
            return;
        }
        if (BinaryPrimitives.ReadUInt16BigEndian(data[2..]) != PacketDecoder.EtherTypeIpv4 || data[4] != MacAddress.Length || data[5] != 4)
            return;
        packet.Arp = new ArpMessage(
            BinaryPrimitives.ReadUInt16BigEndian(data[6..]),
            MacAddress.Read(data[8..]),
            new IPAddress(data.Slice(14, 4)),
            MacAddress.Read(data[18..]),
            new IPAddress(data.Slice(24, 4)));
    }
}
