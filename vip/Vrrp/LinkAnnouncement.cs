using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;

namespace OverlayNet.Vip.Vrrp;

/// <summary>Frames that tell a link's neighbours and switches where an address is now.</summary>
public static class LinkAnnouncement
{
    private const ushort EtherTypeArp = 0x0806, EtherTypeIp6 = 0x86dd;
    private const int EthernetHeader = 14, NextHeaderIcmp6 = 58;

    /// <summary>A gratuitous ARP or an unsolicited neighbour advertisement, by the address's family.</summary>
    public static byte[] For(IPAddress address, MacAddress mac) =>
        address.AddressFamily == AddressFamily.InterNetworkV6 ? NeighbourAdvertisement(address, mac) : GratuitousArp(address, mac);

    /// <summary>
    /// A broadcast ARP request for the address from the address (RFC 5227 §3): both hosts that update on requests and
    /// those that update on replies take it.
    /// </summary>
    public static byte[] GratuitousArp(IPAddress address, MacAddress mac)
    {
        var frame = Frame(new MacAddress(0xffffffffffff), mac, EtherTypeArp, 28);
        var arp = frame.AsSpan(EthernetHeader);
        BinaryPrimitives.WriteUInt16BigEndian(arp, 1);            // Ethernet
        BinaryPrimitives.WriteUInt16BigEndian(arp[2..], 0x0800);  // IPv4
        arp[4] = 6;
        arp[5] = 4;
        BinaryPrimitives.WriteUInt16BigEndian(arp[6..], 1);       // request
        mac.Write(arp[8..]);
        address.TryWriteBytes(arp[14..], out _);
        address.TryWriteBytes(arp[24..], out _);
        return frame;
    }

    /// <summary>A neighbour advertisement to ff02::1 with Override and the link-layer address (RFC 4861 §7.2.6, RFC 9568 §6.4.1).</summary>
    public static byte[] NeighbourAdvertisement(IPAddress address, MacAddress mac)
    {
        const int messageLength = 32;
        var allNodes = IPAddress.Parse("ff02::1");
        var frame = Frame(new MacAddress(0x333300000001), mac, EtherTypeIp6, 40 + messageLength);
        var ip = frame.AsSpan(EthernetHeader);
        ip[0] = 0x60;
        BinaryPrimitives.WriteUInt16BigEndian(ip[4..], messageLength);
        ip[6] = NextHeaderIcmp6;
        ip[7] = 255;
        address.TryWriteBytes(ip[8..], out _);
        allNodes.TryWriteBytes(ip[24..], out _);

        var message = ip[40..];
        message[0] = 136;
        message[4] = 0x20;                                        // Override
        address.TryWriteBytes(message[8..], out _);
        message[24] = 2;                                          // target link-layer address
        message[25] = 1;
        mac.Write(message[26..]);
        var sum = InternetChecksum.PseudoHeader(address, allNodes, messageLength, NextHeaderIcmp6);
        BinaryPrimitives.WriteUInt16BigEndian(message[2..], InternetChecksum.Finish(InternetChecksum.Add(sum, message)));
        return frame;
    }

    private static byte[] Frame(MacAddress to, MacAddress from, ushort type, int payload)
    {
        var frame = new byte[EthernetHeader + payload];
        to.Write(frame);
        from.Write(frame.AsSpan(6));
        BinaryPrimitives.WriteUInt16BigEndian(frame.AsSpan(12), type);
        return frame;
    }
}
