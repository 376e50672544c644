using System.Buffers.Binary;
using System.Text;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>TCP (RFC 9293) and UDP (RFC 768), and what is known by its port.</summary>
internal static class TransportDecoder
{
    private const int DnsPort = 53;

    public static void Tcp(DecodedPacket packet, ReadOnlySpan<byte> data, bool complete)
    {
        const int least = 20;
        if (data.Length < least)
        {
            packet.Malformed ??= complete ? $"TCP: {data.Length} octets are shorter than a header" : null;
            return;
        }
        var header = (data[12] >> 4) * 4;
        if (header < least || (complete && header > data.Length))
        {
            packet.Malformed ??= $"TCP: a header of {header} octets in {data.Length}";
            return;
        }
        var payload = header <= data.Length ? data[header..] : default;
        packet.Tcp = new TcpHeader(
            BinaryPrimitives.ReadUInt16BigEndian(data),
            BinaryPrimitives.ReadUInt16BigEndian(data[2..]),
            BinaryPrimitives.ReadUInt32BigEndian(data[4..]),
            BinaryPrimitives.ReadUInt32BigEndian(data[8..]),
            (TcpFlags)(data[13] & 0x3f),
            payload.Length,
            complete ? Checksum(packet, data, IpDecoder.Tcp, at: 16) : ChecksumState.Unknown);
        if (packet.Tcp.SourcePort == DnsPort || packet.Tcp.DestinationPort == DnsPort)
        {
            // Each message has its length in front (RFC 1035 section 4.2.2); one that spans segments is not put together.
            if (payload.Length > 2 && BinaryPrimitives.ReadUInt16BigEndian(payload) is var length && length <= payload.Length - 2)
                packet.Dns = DnsDecoder.Decode(payload.Slice(2, length));
        }
        else
        {
            packet.HttpLine = HttpLine(payload);
        }
    }

    public static void Udp(PacketDecoder decoder, DecodedPacket packet, ReadOnlySpan<byte> data, bool complete, int depth)
    {
        const int header = 8;
        if (data.Length < header)
        {
            packet.Malformed ??= complete ? $"UDP: {data.Length} octets are shorter than a header" : null;
            return;
        }
        var length = BinaryPrimitives.ReadUInt16BigEndian(data[4..]);
        if (complete && (length < header || length > data.Length))
        {
            packet.Malformed ??= $"UDP: length {length} in {data.Length} octets";
            return;
        }
        var given = BinaryPrimitives.ReadUInt16BigEndian(data[6..]) != 0;
        packet.Udp = new UdpHeader(
            BinaryPrimitives.ReadUInt16BigEndian(data),
            BinaryPrimitives.ReadUInt16BigEndian(data[2..]),
            length - header,
            complete && given ? Checksum(packet, data[..length], IpDecoder.Udp, at: 6) : ChecksumState.Unknown);
        var payload = data[header..Math.Max(header, Math.Min((int)length, data.Length))];
        if (decoder.IsVxlan(packet.Udp.DestinationPort))
            Vxlan(decoder, packet, payload, complete, depth);
        else if (packet.Udp.SourcePort == DnsPort || packet.Udp.DestinationPort == DnsPort)
            packet.Dns = DnsDecoder.Decode(payload);
        if (packet.Udp is { SourcePort: DnsPort } or { DestinationPort: DnsPort } && packet.Dns is null && complete)
            packet.Malformed ??= "DNS: the message cannot be read";
    }

    private static void Vxlan(PacketDecoder decoder, DecodedPacket packet, ReadOnlySpan<byte> data, bool complete, int depth)
    {
        const int header = 8;
        const byte vniFlag = 0x08;
        if (data.Length < header || (data[0] & vniFlag) == 0)
        {
            packet.Malformed ??= complete || data.Length >= header ? "VXLAN: no header with a VNI" : null;
            return;
        }
        packet.Vxlan = new VxlanHeader((int)(BinaryPrimitives.ReadUInt32BigEndian(data[4..]) >> 8));
        packet.Inner = decoder.Nested(data[header..], depth + 1, packet.Cut || !complete, frame: true);
    }

    /// <param name="at">Where in the segment the checksum is.</param>
    internal static ChecksumState Checksum(DecodedPacket packet, ReadOnlySpan<byte> segment, byte protocol, int at)
    {
        var pseudo = InternetChecksum.PseudoHeader(packet.Ip!.Source, packet.Ip.Destination, segment.Length, protocol);
        if (InternetChecksum.Finish(InternetChecksum.Add(pseudo, segment)) == 0)
            return ChecksumState.Right;
        // CHECKSUM_PARTIAL (linux/skbuff.h): the field has the pseudo-header's sum, not complemented.
        var partial = (ushort)~InternetChecksum.Finish(pseudo);
        return BinaryPrimitives.ReadUInt16BigEndian(segment[at..]) == partial ? ChecksumState.Offloaded : ChecksumState.Wrong;
    }

    private static string? HttpLine(ReadOnlySpan<byte> payload)
    {
        const int longest = 120;
        if (!(payload.StartsWith("HTTP/1."u8) || payload.StartsWith("GET "u8) || payload.StartsWith("POST "u8) || payload.StartsWith("HEAD "u8)
            || payload.StartsWith("PUT "u8) || payload.StartsWith("DELETE "u8)))
            return null;
        var end = payload.IndexOfAny((byte)'\r', (byte)'\n');
        var line = payload[..Math.Min(longest, end < 0 ? payload.Length : end)];
        return Encoding.Latin1.GetString(line);
    }
}
