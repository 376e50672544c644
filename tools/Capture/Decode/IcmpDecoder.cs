using System.Buffers.Binary;
using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861 section 4).</summary>
internal static class IcmpDecoder
{
    private const int HeaderLength = 8;
    private const byte SourceLinkAddress = 1, TargetLinkAddress = 2;

    public static void Decode(PacketDecoder decoder, DecodedPacket packet, ReadOnlySpan<byte> data, bool complete, int depth)
    {
        var v6 = packet.Ip!.Protocol == IpDecoder.Icmp6;
        if (data.Length < HeaderLength)
        {
            packet.Malformed ??= complete ? $"ICMP: {data.Length} octets are shorter than a message" : null;
            return;
        }
        int type = data[0];
        int? identifier = null, sequence = null, mtu = null;
        IPAddress? target = null;
        MacAddress? link = null;
        var checksum = !complete ? ChecksumState.Unknown
            : v6 ? TransportDecoder.Checksum(packet, data, IpDecoder.Icmp6, at: 2)
            : InternetChecksum.Finish(InternetChecksum.Add(0, data)) == 0 ? ChecksumState.Right : ChecksumState.Wrong;
        if (type is IcmpMessage.Echo4 or IcmpMessage.EchoReply4 && !v6 || type is IcmpMessage.Echo6 or IcmpMessage.EchoReply6 && v6)
            (identifier, sequence) = (BinaryPrimitives.ReadUInt16BigEndian(data[4..]), BinaryPrimitives.ReadUInt16BigEndian(data[6..]));
        if (v6 && type is IcmpMessage.Solicitation or IcmpMessage.Advertisement && data.Length >= HeaderLength + 16)
        {
            target = new IPAddress(data.Slice(HeaderLength, 16));
            link = LinkAddress(data[(HeaderLength + 16)..], type == IcmpMessage.Solicitation ? SourceLinkAddress : TargetLinkAddress);
        }
        var error = v6 ? type < IcmpMessage.Echo6 : type is IcmpMessage.Unreachable4 or 5 or 11 or 12;
        if (v6 && type == IcmpMessage.TooBig6)
            mtu = (int)(BinaryPrimitives.ReadUInt32BigEndian(data[4..]) & int.MaxValue);
        if (!v6 && type == IcmpMessage.Unreachable4 && data[1] == IcmpMessage.FragmentationNeeded)
            mtu = BinaryPrimitives.ReadUInt16BigEndian(data[6..]);
        packet.Icmp = new IcmpMessage(v6, type, data[1], identifier, sequence, mtu, target, link, checksum);
        // An error quotes the beginning of what it is about: never a whole packet.
        if (error)
            packet.Inner = decoder.Nested(data[HeaderLength..], depth + 1, cut: true, frame: false);
    }

    private static MacAddress? LinkAddress(ReadOnlySpan<byte> options, byte wanted)
    {
        while (options.Length >= 8)
        {
            var length = options[1] * 8;
            if (length == 0 || length > options.Length)
                return null;
            if (options[0] == wanted)
                return MacAddress.Read(options[2..]);
            options = options[length..];
        }
        return null;
    }
}
