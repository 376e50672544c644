using System.Buffers.Binary;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>Link types of capture files (www.tcpdump.org/linktypes.html) that are understood.</summary>
internal enum LinkType : ushort
{
    Ethernet = 1,
    Raw = 101,
    LinuxCooked = 113,
    Ipv4 = 228,
    Ipv6 = 229,
    LinuxCooked2 = 276,
}

/// <summary>Takes frames apart. Never throws on what is on the wire: what cannot be read is said in <see cref="DecodedPacket.Malformed"/>.</summary>
/// <param name="vxlanPort">The UDP port whose payload is VXLAN.</param>
internal sealed class PacketDecoder(int vxlanPort = 4789)
{
    internal const ushort EtherTypeIpv4 = 0x0800, EtherTypeArp = 0x0806, EtherTypeVlan = 0x8100, EtherTypeQinQ = 0x88a8, EtherTypeIpv6 = 0x86dd;
    private const int MostLayers = 4;
    private readonly int _vxlanPort = vxlanPort;

    /// <param name="data">What was captured of the frame.</param>
    /// <param name="length">Octets it had on the wire.</param>
    public DecodedPacket Decode(LinkType link, ReadOnlySpan<byte> data, int length, long timeNs = 0, string point = "")
    {
        var packet = new DecodedPacket { TimeNs = timeNs, Point = point, Length = length, Cut = length > data.Length };
        switch (link)
        {
            case LinkType.Ethernet:
                Ethernet(packet, data, 0);
                break;
            case LinkType.LinuxCooked when data.Length >= 16:
                Network(packet, BinaryPrimitives.ReadUInt16BigEndian(data[14..]), data[16..], 0);
                break;
            case LinkType.LinuxCooked2 when data.Length >= 20:
                Network(packet, BinaryPrimitives.ReadUInt16BigEndian(data), data[20..], 0);
                break;
            case LinkType.Raw or LinkType.Ipv4 or LinkType.Ipv6 when data.Length > 0:
                Network(packet, data[0] >> 4 == 6 ? EtherTypeIpv6 : EtherTypeIpv4, data, 0);
                break;
            default:
                packet.Malformed = Enum.IsDefined(link) ? "shorter than its link header" : $"link type {(int)link} is not understood";
                break;
        }
        return packet;
    }

    /// <summary>A frame inside a VXLAN packet, or the packet inside an ICMP error.</summary>
    internal DecodedPacket? Nested(ReadOnlySpan<byte> data, int depth, bool cut, bool frame)
    {
        if (depth >= MostLayers || data.Length == 0)
            return null;
        var inner = new DecodedPacket { Length = data.Length, Cut = cut };
        if (frame)
            Ethernet(inner, data, depth);
        else
            Network(inner, data[0] >> 4 == 6 ? EtherTypeIpv6 : EtherTypeIpv4, data, depth);
        return inner;
    }

    internal bool IsVxlan(int destinationPort) => destinationPort == _vxlanPort;

    private void Ethernet(DecodedPacket packet, ReadOnlySpan<byte> data, int depth)
    {
        const int header = 14, tag = 4;
        if (data.Length < header)
        {
            packet.Malformed = packet.Cut ? null : $"Ethernet: {data.Length} octets are shorter than a header";
            return;
        }
        var type = BinaryPrimitives.ReadUInt16BigEndian(data[12..]);
        var at = header;
        int? vlan = null;
        while (type is EtherTypeVlan or EtherTypeQinQ && data.Length >= at + tag)
        {
            vlan = BinaryPrimitives.ReadUInt16BigEndian(data[at..]) & 0xfff;
            type = BinaryPrimitives.ReadUInt16BigEndian(data[(at + 2)..]);
            at += tag;
        }
        packet.Ethernet = new EthernetHeader(MacAddress.Read(data[6..]), MacAddress.Read(data), type, vlan);
        Network(packet, type, data[at..], depth);
    }

    private void Network(DecodedPacket packet, ushort type, ReadOnlySpan<byte> data, int depth)
    {
        switch (type)
        {
            case EtherTypeArp:
                ArpDecoder.Decode(packet, data);
                break;
            case EtherTypeIpv4:
                IpDecoder.Decode4(this, packet, data, depth);
                break;
            case EtherTypeIpv6:
                IpDecoder.Decode6(this, packet, data, depth);
                break;
        }
    }
}
