using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using OverlayNet.Kernel;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.UnitTests.Tools.Capture;

/// <summary>Well-formed frames to take apart; checksums are right.</summary>
internal static class Frames
{
    public static readonly MacAddress MacA = MacAddress.Parse("02:00:00:00:00:0a"), MacB = MacAddress.Parse("02:00:00:00:00:0b");

    public static byte[] Ethernet(ushort type, byte[] payload, MacAddress? source = null, MacAddress? destination = null)
    {
        var frame = new byte[14 + payload.Length];
        (destination ?? MacB).Write(frame);
        (source ?? MacA).Write(frame.AsSpan(6));
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(12), type);
        payload.CopyTo(frame, 14);
        return frame;
    }

    public static byte[] Ip(string source, string destination, byte protocol, byte[] payload, bool moreFragments = false, MacAddress? destinationMac = null, byte hopLimit = 64)
    {
        var (from, to) = (IPAddress.Parse(source), IPAddress.Parse(destination));
        if (from.AddressFamily == AddressFamily.InterNetworkV6)
        {
            var packet6 = new byte[40 + payload.Length];
            packet6[0] = 0x60;
            BinaryPrimitives.WriteUInt16BigEndian(packet6.AsSpan(4), (ushort)payload.Length);
            (packet6[6], packet6[7]) = (protocol, hopLimit);
            from.GetAddressBytes().CopyTo(packet6, 8);
            to.GetAddressBytes().CopyTo(packet6, 24);
            payload.CopyTo(packet6, 40);
            return Ethernet(0x86dd, packet6, destination: destinationMac);
        }
        var packet = new byte[20 + payload.Length];
        packet[0] = 0x45;
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(2), (ushort)packet.Length);
        packet[6] = (byte)(moreFragments ? 0x20 : 0x40);
        (packet[8], packet[9]) = (hopLimit, protocol);
        from.GetAddressBytes().CopyTo(packet, 12);
        to.GetAddressBytes().CopyTo(packet, 16);
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(10), InternetChecksum.Finish(InternetChecksum.Add(0, packet.AsSpan(0, 20))));
        payload.CopyTo(packet, 20);
        return Ethernet(0x0800, packet, destination: destinationMac);
    }

    public static byte[] Udp(string source, string destination, int sourcePort, int destinationPort, byte[] payload, bool moreFragments = false)
    {
        var segment = new byte[8 + payload.Length];
        BinaryPrimitives.WriteUInt16BigEndian(segment, (ushort)sourcePort);
        BinaryPrimitives.WriteUInt16BigEndian(segment.AsSpan(2), (ushort)destinationPort);
        BinaryPrimitives.WriteUInt16BigEndian(segment.AsSpan(4), (ushort)segment.Length);
        payload.CopyTo(segment, 8);
        Sum(source, destination, 17, segment, 6);
        return Ip(source, destination, 17, segment, moreFragments);
    }

    public static byte[] Tcp(string source, string destination, int sourcePort, int destinationPort, byte flags, uint sequence = 1, byte[]? payload = null, MacAddress? destinationMac = null)
    {
        payload ??= [];
        var segment = new byte[20 + payload.Length];
        BinaryPrimitives.WriteUInt16BigEndian(segment, (ushort)sourcePort);
        BinaryPrimitives.WriteUInt16BigEndian(segment.AsSpan(2), (ushort)destinationPort);
        BinaryPrimitives.WriteUInt32BigEndian(segment.AsSpan(4), sequence);
        (segment[12], segment[13]) = (0x50, flags);
        payload.CopyTo(segment, 20);
        Sum(source, destination, 6, segment, 16);
        return Ip(source, destination, 6, segment, destinationMac: destinationMac);
    }

    public static byte[] Vxlan(string source, string destination, int vni, byte[] inner)
    {
        var payload = new byte[8 + inner.Length];
        payload[0] = 0x08;
        BinaryPrimitives.WriteInt32BigEndian(payload.AsSpan(4), vni << 8);
        inner.CopyTo(payload, 8);
        return Udp(source, destination, 50000, 4789, payload);
    }

    public static byte[] Arp(int operation, MacAddress senderMac, string sender, string target)
    {
        var message = new byte[28];
        (message[1], message[2], message[4], message[5], message[7]) = (1, 8, 6, 4, (byte)operation);
        senderMac.Write(message.AsSpan(8));
        IPAddress.Parse(sender).GetAddressBytes().CopyTo(message, 14);
        IPAddress.Parse(target).GetAddressBytes().CopyTo(message, 24);
        return Ethernet(0x0806, message, senderMac);
    }

    public static byte[] Vrrp(string source, byte vrid, byte priority, int intervalCs = 100, string address = "192.0.2.100", byte hopLimit = 255)
    {
        var buffer = new byte[512];
        var from = IPAddress.Parse(source);
        var group = from.AddressFamily == AddressFamily.InterNetworkV6 ? VrrpPacket.Group6 : VrrpPacket.Group4;
        var length = VrrpPacket.Write(buffer, new VrrpAdvertisement
        {
            Version = VrrpVersion.V3,
            VirtualRouterId = vrid,
            Priority = priority,
            IntervalCs = intervalCs,
            Source = from,
            Addresses = [IPAddress.Parse(address)],
        }, group, VrrpChecksumCoverage.PseudoHeader);
        return Ip(source, group.ToString(), VrrpPacket.ProtocolNumber, buffer[..length], hopLimit: hopLimit);
    }

    public static byte[] TooBig(string from, string to, int mtu, byte[] aboutFrame)
    {
        var message = new byte[8 + Math.Min(28, aboutFrame.Length - 14)];
        (message[0], message[1]) = (3, 4);
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(6), (ushort)mtu);
        aboutFrame.AsSpan(14, message.Length - 8).CopyTo(message.AsSpan(8));
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), InternetChecksum.Finish(InternetChecksum.Add(0, message)));
        return Ip(from, to, 1, message);
    }

    /// <summary>A query, or an answer with one A record (authoritative) or with an error.</summary>
    public static byte[] Dns(int id, string name, string? answer = null, int rcode = 0, bool response = false)
    {
        var message = new List<byte> { (byte)(id >> 8), (byte)id, (byte)(response ? 0x84 : 0x01), (byte)rcode, 0, 1, 0, (byte)(answer is null ? 0 : 1), 0, 0, 0, 0 };
        foreach (var label in name.Split('.'))
        {
            message.Add((byte)label.Length);
            message.AddRange(Encoding.ASCII.GetBytes(label));
        }
        message.AddRange([0, 0, 1, 0, 1]);
        if (answer is not null)
            message.AddRange([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, .. IPAddress.Parse(answer).GetAddressBytes()]);
        return [.. message];
    }

    private static void Sum(string source, string destination, byte protocol, byte[] segment, int at)
    {
        var pseudo = InternetChecksum.PseudoHeader(IPAddress.Parse(source), IPAddress.Parse(destination), segment.Length, protocol);
        BinaryPrimitives.WriteUInt16BigEndian(segment.AsSpan(at), InternetChecksum.Finish(InternetChecksum.Add(pseudo, segment)));
    }
}
