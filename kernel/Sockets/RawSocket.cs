using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace OverlayNet.Kernel;

/// <summary>A datagram as a raw socket gave it.</summary>
/// <param name="Offset">Where the payload starts in the receive buffer (IPv4 raw sockets give the header too).</param>
/// <param name="Length">Of the payload, octets.</param>
/// <param name="HopLimit">TTL or hop limit as received.</param>
public readonly record struct RawDatagram(int Offset, int Length, IPAddress Source, IPAddress Destination, int HopLimit);

/// <summary>
/// A non-blocking raw IP socket of one protocol on one interface (raw(7), ipv6(7)). It keeps the namespace it was made in
/// alive. Not thread-safe.
/// </summary>
public sealed unsafe class RawSocket : IDisposable
{
    private const int AddressLength4 = 16, AddressLength6 = 28;
    private readonly AddressFamily _family;
    private readonly int _interface;
    private int _fd;

    /// <summary>Opens a socket bound to an interface of the calling thread's namespace.</summary>
    /// <param name="interfaceIndex">Where multicast goes out and groups are joined.</param>
    /// <exception cref="KernelException">EPERM without CAP_NET_RAW; ENODEV for a device that is not there.</exception>
    public RawSocket(AddressFamily family, byte protocol, string interfaceName, int interfaceIndex)
    {
        _family = family;
        _interface = interfaceIndex;
        _fd = Libc.Socket(Ip6 ? Libc.AF_INET6 : Libc.AF_INET, Libc.SOCK_RAW | Libc.SOCK_CLOEXEC | Libc.SOCK_NONBLOCK, protocol);
        if (_fd < 0)
            throw Libc.Failure($"raw socket for protocol {protocol}");
        try
        {
            Bytes(Libc.SOL_SOCKET, Libc.SO_BINDTODEVICE, Encoding.ASCII.GetBytes(interfaceName + '\0'), $"bind raw socket to {interfaceName}");
            if (Ip6)
            {
                Option(Libc.IPPROTO_IPV6, Libc.IPV6_RECVPKTINFO, 1);
                Option(Libc.IPPROTO_IPV6, Libc.IPV6_RECVHOPLIMIT, 1);
                Option(Libc.IPPROTO_IPV6, Libc.IPV6_MULTICAST_IF, interfaceIndex);
                Option(Libc.IPPROTO_IPV6, Libc.IPV6_MULTICAST_LOOP, 0);
            }
            else
            {
                Bytes(Libc.IPPROTO_IP, Libc.IP_MULTICAST_IF, Membership4(IPAddress.Any), "multicast interface");
                Option(Libc.IPPROTO_IP, Libc.IP_MULTICAST_LOOP, 0);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>For poll(2); valid until disposed.</summary>
    public int Fd => _fd;

    private bool Ip6 => _family == AddressFamily.InterNetworkV6;

    /// <summary>TTL or hop limit of what is sent, multicast and unicast.</summary>
    public void SetHopLimit(int hops)
    {
        var level = Ip6 ? Libc.IPPROTO_IPV6 : Libc.IPPROTO_IP;
        Option(level, Ip6 ? Libc.IPV6_UNICAST_HOPS : Libc.IP_TTL, hops);
        Option(level, Ip6 ? Libc.IPV6_MULTICAST_HOPS : Libc.IP_MULTICAST_TTL, hops);
    }

    /// <summary>Traffic class of what is sent; 0xc0 is network control.</summary>
    public void SetTrafficClass(int value) =>
        Option(Ip6 ? Libc.IPPROTO_IPV6 : Libc.IPPROTO_IP, Ip6 ? Libc.IPV6_TCLASS : Libc.IP_TOS, value);

    /// <exception cref="KernelException">The kernel refused.</exception>
    public void JoinGroup(IPAddress group)
    {
        if (!Ip6)
        {
            Bytes(Libc.IPPROTO_IP, Libc.IP_ADD_MEMBERSHIP, Membership4(group), $"join {group}");
            return;
        }

        // struct ipv6_mreq: address, interface index.
        var request = new byte[20];
        group.TryWriteBytes(request, out _);
        MemoryMarshal.Write(request.AsSpan(16), _interface);
        Bytes(Libc.IPPROTO_IPV6, Libc.IPV6_ADD_MEMBERSHIP, request, $"join {group}");
    }

    /// <summary>Binds to a source address: what is sent comes from it.</summary>
    /// <exception cref="KernelException">EADDRNOTAVAIL when the interface has no such address.</exception>
    public void Bind(IPAddress source)
    {
        Span<byte> address = stackalloc byte[AddressLength6];
        var length = SocketAddress(source, address);
        fixed (byte* pointer = address)
            if (Libc.Bind(_fd, pointer, length) != 0)
                throw Libc.Failure($"bind raw socket to {source}");
    }

    /// <exception cref="KernelException">The kernel refused the filter.</exception>
    public void AttachFilter(ReadOnlySpan<SocketFilterInstruction> program)
    {
        fixed (SocketFilterInstruction* instructions = program)
        {
            // struct sock_fprog: length, padding, pointer.
            var request = stackalloc ulong[2];
            request[0] = (ulong)program.Length;
            request[1] = (ulong)instructions;
            if (Libc.SetSockOpt(_fd, Libc.SOL_SOCKET, Libc.SO_ATTACH_FILTER, request, 16) != 0)
                throw Libc.Failure("attach socket filter");
        }
    }

    /// <returns>False when the datagram could not be sent now: no buffer, no route, interface down, or dropped by a filter.</returns>
    public bool TrySend(ReadOnlySpan<byte> payload, IPAddress destination)
    {
        Span<byte> address = stackalloc byte[AddressLength6];
        var length = SocketAddress(destination, address);
        fixed (byte* buffer = payload)
        fixed (byte* pointer = address)
            return Libc.SendTo(_fd, buffer, (nuint)payload.Length, 0, pointer, length) == payload.Length;
    }

    /// <returns>False when nothing is waiting.</returns>
    public bool TryReceive(Span<byte> buffer, out RawDatagram datagram)
    {
        datagram = default;
        Span<byte> name = stackalloc byte[AddressLength6];
        Span<byte> control = stackalloc byte[256];
        nint length;
        nuint controlLength;
        fixed (byte* data = buffer)
        fixed (byte* from = name)
        fixed (byte* ancillary = control)
        {
            var vector = new Libc.IoVector { Base = data, Length = (nuint)buffer.Length };
            var message = new Libc.MessageHeader
            {
                Name = from,
                NameLength = AddressLength6,
                Vectors = &vector,
                VectorCount = 1,
                Control = ancillary,
                ControlLength = (nuint)control.Length,
            };
            length = Libc.ReceiveMessage(_fd, &message, Libc.MSG_DONTWAIT);
            controlLength = message.ControlLength;
        }

        if (length < 0)
            return false;
        return Ip6
            ? TryDatagram6((int)length, name, control[..(int)controlLength], out datagram)
            : TryDatagram4(buffer[..(int)length], out datagram);
    }

    public void Dispose()
    {
        if (_fd >= 0)
            _ = Libc.Close(_fd);
        _fd = -1;
    }

    private static bool TryDatagram4(ReadOnlySpan<byte> packet, out RawDatagram datagram)
    {
        datagram = default;
        var header = packet.Length >= 20 ? (packet[0] & 0x0f) * 4 : int.MaxValue;
        if (header > packet.Length)
            return false;
        datagram = new RawDatagram(header, packet.Length - header, new IPAddress(packet.Slice(12, 4)), new IPAddress(packet.Slice(16, 4)), packet[8]);
        return true;
    }

    // Ancillary data: struct cmsghdr (length, level, type), aligned to 8.
    private static bool TryDatagram6(int length, ReadOnlySpan<byte> name, ReadOnlySpan<byte> control, out RawDatagram datagram)
    {
        const int header = 16;
        var destination = IPAddress.IPv6Any;
        var hops = -1;
        while (control.Length >= header)
        {
            var size = (int)BinaryPrimitives.ReadUInt64LittleEndian(control);
            if (size < header || size > control.Length)
                break;
            var type = BinaryPrimitives.ReadInt32LittleEndian(control[12..]);
            var data = control[header..size];
            if (type == Libc.IPV6_PKTINFO && data.Length >= 16)
                destination = new IPAddress(data[..16]);
            else if (type == Libc.IPV6_HOPLIMIT && data.Length >= 4)
                hops = BinaryPrimitives.ReadInt32LittleEndian(data);
            control = control[Math.Min((size + 7) & ~7, control.Length)..];
        }

        datagram = new RawDatagram(0, length, new IPAddress(name.Slice(8, 16)), destination, hops);
        return true;
    }

    private uint SocketAddress(IPAddress value, Span<byte> address)
    {
        address.Clear();
        MemoryMarshal.Write(address, (ushort)(Ip6 ? Libc.AF_INET6 : Libc.AF_INET));
        value.TryWriteBytes(address[(Ip6 ? 8 : 4)..], out _);
        if (Ip6 && (value.IsIPv6LinkLocal || value.IsIPv6Multicast))
            MemoryMarshal.Write(address[24..], _interface);
        return Ip6 ? (uint)AddressLength6 : AddressLength4;
    }

    // struct ip_mreqn: group, local address, interface index.
    private byte[] Membership4(IPAddress group)
    {
        var request = new byte[12];
        group.TryWriteBytes(request, out _);
        MemoryMarshal.Write(request.AsSpan(8), _interface);
        return request;
    }

    private void Option(int level, int name, int value)
    {
        if (Libc.SetSockOpt(_fd, level, name, &value, sizeof(int)) != 0)
            throw Libc.Failure($"raw socket option {level}.{name}");
    }

    private void Bytes(int level, int name, ReadOnlySpan<byte> value, string what)
    {
        fixed (byte* pointer = value)
            if (Libc.SetSockOpt(_fd, level, name, pointer, (uint)value.Length) != 0)
                throw Libc.Failure(what);
    }
}
