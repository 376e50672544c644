using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>ICMP errors about datagrams, and what a socket makes of them.</summary>
internal static class IcmpErrors
{
    private const int IpLevel = 0, IpMtuDiscover = 10, IpMtu = 14, Ip6Level = 41, Ip6MtuDiscover = 23, Ip6Mtu = 24, Always = 2;

    /// <summary>A connected socket that never fragments (IP_PMTUDISC_DO).</summary>
    internal static Socket ConnectedDatagram(VipContainer client, IPAddress address, int port)
    {
        var socket = VipTraffic.Socket(client.Namespace, address.AddressFamily, SocketType.Dgram);
        socket.ReceiveTimeout = 5000;
        var six = address.AddressFamily == AddressFamily.InterNetworkV6;
        socket.SetRawSocketOption(six ? Ip6Level : IpLevel, six ? Ip6MtuDiscover : IpMtuDiscover, BitConverter.GetBytes(Always));
        socket.Connect(new IPEndPoint(address, port));
        return socket;
    }

    /// <summary>The path MTU that a connected socket knows, octets.</summary>
    internal static int PathMtu(Socket socket)
    {
        var six = socket.AddressFamily == AddressFamily.InterNetworkV6;
        Span<byte> value = stackalloc byte[4];
        socket.GetRawSocketOption(six ? Ip6Level : IpLevel, six ? Ip6Mtu : IpMtu, value);
        return BitConverter.ToInt32(value);
    }

    /// <summary>
    /// From a container: a datagram it got did not fit. RFC 1191 section 4 (type 3 code 4), RFC 4443 section 3.2 (type 2).
    /// </summary>
    /// <param name="sender">Of the datagram, as the container saw it.</param>
    /// <param name="receiver">The container's own address and port.</param>
    internal static void SendTooBig(VipContainer container, IPEndPoint sender, IPEndPoint receiver, int mtu)
    {
        var six = sender.AddressFamily == AddressFamily.InterNetworkV6;
        using var open = container.Namespace.Open();
        using var raw = open.Run(() => new Socket(sender.AddressFamily, SocketType.Raw, six ? ProtocolType.IcmpV6 : ProtocolType.Icmp));
        const int Header = 8, Udp = 8, Payload = 1000;
        var ip = six ? 40 : 20;
        var message = new byte[Header + ip + Udp];
        if (six)
        {
            message[0] = 2;
            BinaryPrimitives.WriteInt32BigEndian(message.AsSpan(4), mtu);
        }
        else
        {
            (message[0], message[1]) = (3, 4);
            BinaryPrimitives.WriteInt16BigEndian(message.AsSpan(6), (short)mtu);
        }
        var inner = message.AsSpan(Header);
        if (six)
        {
            inner[0] = 0x60;
            BinaryPrimitives.WriteInt16BigEndian(inner[4..], Udp + Payload);
            (inner[6], inner[7]) = (17, 64);
            sender.Address.TryWriteBytes(inner[8..], out _);
            receiver.Address.TryWriteBytes(inner[24..], out _);
        }
        else
        {
            inner[0] = 0x45;
            BinaryPrimitives.WriteInt16BigEndian(inner[2..], (short)(ip + Udp + Payload));
            inner[6] = 0x40;
            (inner[8], inner[9]) = (64, 17);
            sender.Address.TryWriteBytes(inner[12..], out _);
            receiver.Address.TryWriteBytes(inner[16..], out _);
            BinaryPrimitives.WriteUInt16BigEndian(inner[10..], Checksum(inner[..ip]));
        }
        var ports = inner[ip..];
        BinaryPrimitives.WriteUInt16BigEndian(ports, (ushort)sender.Port);
        BinaryPrimitives.WriteUInt16BigEndian(ports[2..], (ushort)receiver.Port);
        BinaryPrimitives.WriteInt16BigEndian(ports[4..], Udp + Payload);
        // The kernel sums ICMPv6 by itself (RFC 3542 section 3.1).
        if (!six)
            BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), Checksum(message));
        raw.SendTo(message, new IPEndPoint(sender.Address, 0));
    }

    /// <summary>RFC 1071.</summary>
    private static ushort Checksum(ReadOnlySpan<byte> octets)
    {
        var sum = 0u;
        for (var i = 0; i + 1 < octets.Length; i += 2)
            sum += BinaryPrimitives.ReadUInt16BigEndian(octets[i..]);
        while (sum >> 16 != 0)
            sum = (sum & 0xffff) + (sum >> 16);
        return (ushort)~sum;
    }
}
