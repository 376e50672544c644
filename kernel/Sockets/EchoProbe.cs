using System.Buffers.Binary;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Kernel;

/// <summary>One ICMP or ICMPv6 echo inside a namespace: does that address answer, and with packets of that size?</summary>
public static class EchoProbe
{
    private const int HeaderLength = 8, IPv4Header = 20, IPv6Header = 40;
    private const byte Request4 = 8, Reply4 = 0, Request6 = 128, Reply6 = 129;
    private const int IpProtoIpv6 = 41, Ipv6DontFragment = 62;

    /// <param name="packetOctets">Size of the whole IP packet; it must not be fragmented on the way.</param>
    /// <returns>The round trip; null when no answer came in time, or the packet was too large to leave.</returns>
    public static TimeSpan? Send(NetworkNamespace netns, IPAddress source, IPAddress destination, int packetOctets, TimeSpan timeout)
    {
        var v6 = destination.AddressFamily == AddressFamily.InterNetworkV6;
        using var socket = netns.Run(() => new Socket(destination.AddressFamily, SocketType.Raw, v6 ? ProtocolType.IcmpV6 : ProtocolType.Icmp));
        socket.Bind(new IPEndPoint(source, 0));
        socket.Connect(new IPEndPoint(destination, 0));
        if (v6)
            socket.SetRawSocketOption(IpProtoIpv6, Ipv6DontFragment, BitConverter.GetBytes(1));
        else
            socket.DontFragment = true;
        var identifier = (ushort)Random.Shared.Next(1 << 16);
        var packet = new byte[Math.Max(HeaderLength, packetOctets - (v6 ? IPv6Header : IPv4Header))];
        packet[0] = v6 ? Request6 : Request4;
        BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(4), identifier);
        // The kernel fills ICMPv6's checksum in (RFC 3542 section 3.1), not ICMP's.
        if (!v6)
            BinaryPrimitives.WriteUInt16BigEndian(packet.AsSpan(2), Checksum(packet));
        var watch = Stopwatch.StartNew();
        try
        {
            socket.Send(packet);
            var buffer = new byte[packetOctets + IPv4Header];
            while (watch.Elapsed < timeout)
            {
                socket.ReceiveTimeout = Math.Max(1, (int)(timeout - watch.Elapsed).TotalMilliseconds);
                var answer = buffer.AsSpan(0, socket.Receive(buffer));
                // A raw IPv4 socket delivers the IP header too.
                if (!v6)
                    answer = answer[((answer[0] & 15) * 4)..];
                if (answer.Length >= HeaderLength && answer[0] == (v6 ? Reply6 : Reply4) && BinaryPrimitives.ReadUInt16BigEndian(answer[4..]) == identifier)
                    return watch.Elapsed;
            }
        }
        catch (SocketException)
        {
            // Timed out, unreachable, or larger than the path's MTU: in any case no answer.
        }
        return null;
    }

    /// <summary>The Internet checksum (RFC 1071).</summary>
    private static ushort Checksum(ReadOnlySpan<byte> octets)
    {
        uint sum = 0;
        for (; octets.Length > 1; octets = octets[2..])
            sum += BinaryPrimitives.ReadUInt16BigEndian(octets);
        if (octets.Length == 1)
            sum += (uint)octets[0] << 8;
        while (sum >> 16 != 0)
            sum = (sum & 0xffff) + (sum >> 16);
        return (ushort)~sum;
    }
}
