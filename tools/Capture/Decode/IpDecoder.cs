using System.Buffers.Binary;
using System.Net;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>IPv4 (RFC 791) and IPv6 with its extension headers (RFC 8200 section 4).</summary>
internal static class IpDecoder
{
    internal const byte Icmp4 = 1, Tcp = 6, Udp = 17, Icmp6 = 58;
    private const byte HopByHop = 0, Routing = 43, FragmentHeader = 44, Authentication = 51, DestinationOptions = 60;

    public static void Decode4(PacketDecoder decoder, DecodedPacket packet, ReadOnlySpan<byte> data, int depth)
    {
        const int least = 20;
        if (data.Length < least)
        {
            packet.Malformed ??= packet.Cut ? null : $"IPv4: {data.Length} octets are shorter than a header";
            return;
        }
        var header = (data[0] & 0xf) * 4;
        var total = BinaryPrimitives.ReadUInt16BigEndian(data[2..]);
        if (data[0] >> 4 != 4 || header < least || (total != 0 && total < header))
        {
            packet.Malformed ??= $"IPv4: version {data[0] >> 4}, header {header} and total length {total} octets do not fit together";
            return;
        }
        // A segment that the sender's card is to cut may say 0 (TSO of more than 64 KiB).
        if (total == 0)
            total = (ushort)Math.Min(data.Length, ushort.MaxValue);
        var fragment = BinaryPrimitives.ReadUInt16BigEndian(data[6..]);
        packet.Ip = new IpHeader(
            new IPAddress(data.Slice(12, 4)),
            new IPAddress(data.Slice(16, 4)),
            data[9],
            data[8],
            total,
            (fragment & 0x4000) != 0,
            (fragment & 0x2000) != 0,
            (fragment & 0x1fff) * 8,
            BinaryPrimitives.ReadUInt16BigEndian(data[4..]),
            data.Length >= header ? InternetChecksum.Finish(InternetChecksum.Add(0, data[..header])) == 0 : null);
        Payload(decoder, packet, data, header, total, depth);
    }

    public static void Decode6(PacketDecoder decoder, DecodedPacket packet, ReadOnlySpan<byte> data, int depth)
    {
        const int header = 40;
        if (data.Length < header)
        {
            packet.Malformed ??= packet.Cut ? null : $"IPv6: {data.Length} octets are shorter than a header";
            return;
        }
        if (data[0] >> 4 != 6)
        {
            packet.Malformed ??= $"IPv6: version {data[0] >> 4}";
            return;
        }
        var payload = BinaryPrimitives.ReadUInt16BigEndian(data[4..]);
        var total = payload == 0 ? data.Length : header + payload;
        var next = data[6];
        var at = header;
        bool more = false;
        int offset = 0, identification = 0;
        while (next is HopByHop or Routing or DestinationOptions or Authentication or FragmentHeader && at + 8 <= data.Length)
        {
            if (next == FragmentHeader)
            {
                var field = BinaryPrimitives.ReadUInt16BigEndian(data[(at + 2)..]);
                (offset, more) = (field & 0xfff8, (field & 1) != 0);
                identification = (int)(BinaryPrimitives.ReadUInt32BigEndian(data[(at + 4)..]) & int.MaxValue);
            }
            var size = next switch
            {
                FragmentHeader => 8,
                Authentication => (data[at + 1] + 2) * 4,
                _ => (data[at + 1] + 1) * 8,
            };
            next = data[at];
            at += size;
            if (offset > 0)
                break;
        }
        packet.Ip = new IpHeader(new IPAddress(data.Slice(8, 16)), new IPAddress(data.Slice(24, 16)), next, data[7], total, true, more, offset, identification, null);
        Payload(decoder, packet, data, at, total, depth);
    }

    private static void Payload(PacketDecoder decoder, DecodedPacket packet, ReadOnlySpan<byte> data, int header, int total, int depth)
    {
        if (header > data.Length)
        {
            packet.Malformed ??= packet.Cut ? null : "IP: the headers are longer than the packet";
            return;
        }
        // What is beyond the total length is Ethernet's padding; what is short of it was cut, or lies about itself.
        var whole = data.Length >= total;
        if (!whole && !packet.Cut)
            packet.Malformed ??= $"IP: total length {total}, and {data.Length} octets are there";
        var payload = data[header..Math.Max(header, Math.Min(total, data.Length))];
        if (packet.Ip!.FragmentOffset > 0)
            return;
        var complete = whole && !packet.Ip.MoreFragments;
        switch (packet.Ip.Protocol)
        {
            case Tcp:
                TransportDecoder.Tcp(packet, payload, complete);
                break;
            case Udp:
                TransportDecoder.Udp(decoder, packet, payload, complete, depth);
                break;
            case Icmp4 or Icmp6:
                IcmpDecoder.Decode(decoder, packet, payload, complete, depth);
                break;
            case VrrpPacket.ProtocolNumber:
                VrrpDecoder.Decode(packet, payload, complete);
                break;
        }
    }
}
