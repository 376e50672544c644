using System.Net;
using System.Runtime.InteropServices;

namespace OverlayNet.Kernel.Netlink;

/// <summary>A socket as the kernel's socket diagnosis shows it.</summary>
/// <param name="State">TCP_ESTABLISHED (1) and so on (net/tcp_states.h); a UDP socket is established (1) or closed (7): connected or not.</param>
/// <param name="Cookie">The kernel's number of the socket (SO_COOKIE), also seen by BPF programs.</param>
/// <param name="Inode">As in <c>/proc/PID/fd</c>; 0 once its owner closed it.</param>
/// <param name="Storage">Its value in the BPF socket storage asked for; null when it has none. The kernel gives it for TCP only.</param>
public sealed record DiagSocket(byte Family, byte Protocol, byte State, IPEndPoint Local, IPEndPoint Remote, ulong Cookie, uint Inode, byte[]? Storage)
{
    /// <summary>Time-outs in a row that its unanswered data, or SYN, has had; 0 while all is acknowledged.</summary>
    public int Retransmits { get; init; }

    /// <summary>struct inet_diag_sockid: addresses, ports, interface and cookie, to name the socket to the kernel again.</summary>
    internal InetDiagSocketId Id { get; init; }
}

/// <summary>struct inet_diag_sockid (linux/inet_diag.h); ports and addresses in network order.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal unsafe struct InetDiagSocketId
{
    internal ushort SourcePort, DestinationPort;
    internal fixed byte Source[16];
    internal fixed byte Destination[16];
    internal uint Interface;
    internal fixed uint Cookie[2];
}

/// <summary>
/// Lists and destroys the TCP and UDP sockets of a network namespace: the one the netlink socket was opened in
/// (NETLINK_SOCK_DIAG; linux/sock_diag.h, linux/inet_diag.h).
/// </summary>
public static class SockDiag
{
    private const ushort ByFamily = 20, DestroySocket = 21;
    private const ushort RequestStorages = 2, RequestMapFd = 1;
    private const ushort Storages = 20, Storage = 1, StorageMapValue = 3;
    private const int Listen = 10, RetransmitTimer = 1;
    private const byte ProtocolTcp = 6;
    private static readonly byte[] Families = [Libc.AF_INET, Libc.AF_INET6];

    /// <summary>Sockets of one family and protocol in any state but listening.</summary>
    /// <param name="family">AF_INET (2) or AF_INET6 (10).</param>
    /// <param name="protocol">IPPROTO_TCP or IPPROTO_UDP.</param>
    /// <param name="storageMapFd">A BPF socket storage map whose values are wanted too; -1: none (Linux 5.7, CAP_BPF).</param>
    /// <exception cref="NetlinkException">The kernel refused: ENOENT without that family's diagnosis.</exception>
    public static List<DiagSocket> Dump(NetlinkSocket socket, byte family, byte protocol, int storageMapFd = -1)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[256]);
        writer.Begin(ByFamily, NetlinkFlags.Request);
        writer.Struct(new InetDiagRequest { Family = family, Protocol = protocol, States = ~(1u << Listen) });
        if (storageMapFd >= 0)
        {
            var nested = writer.BeginNest(RequestStorages);
            writer.U32(RequestMapFd, (uint)storageMapFd);
            writer.EndNest(nested);
        }
        return socket.Dump(ref writer, (in NetlinkMessage message) => Parse(message, protocol), $"list sockets of protocol {protocol}");
    }

    /// <summary>The same of both families; the second is asked for when the first has been gone through.</summary>
    /// <inheritdoc cref="Dump(NetlinkSocket, byte, byte, int)"/>
    public static IEnumerable<DiagSocket> DumpFamilies(NetlinkSocket socket, byte protocol, int storageMapFd = -1) =>
        Families.SelectMany(family => Dump(socket, family, protocol, storageMapFd));

    /// <summary>TCP sockets of either family that listen on a port, whatever the address.</summary>
    /// <exception cref="NetlinkException">The kernel refused: ENOENT without a family's diagnosis.</exception>
    public static IEnumerable<DiagSocket> Listeners(NetlinkSocket socket, int port) => Families.SelectMany(family => Listeners(socket, family, port));

    private static List<DiagSocket> Listeners(NetlinkSocket socket, byte family, int port)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        writer.Begin(ByFamily, NetlinkFlags.Request);
        // Compared by the kernel itself when it is not 0 (inet_diag_dump_icsk).
        var id = new InetDiagSocketId { SourcePort = (ushort)IPAddress.HostToNetworkOrder((short)port) };
        writer.Struct(new InetDiagRequest { Family = family, Protocol = ProtocolTcp, States = 1u << Listen, Id = id });
        return socket.Dump(ref writer, static (in NetlinkMessage message) => Parse(message, ProtocolTcp), $"list listeners of port {port}");
    }

    /// <summary>Ends a socket as if its peer had reset it: its owner's next call fails with ECONNABORTED (Linux 4.5, CONFIG_INET_DIAG_DESTROY).</summary>
    /// <returns>False when it is gone already, or another took its place.</returns>
    /// <exception cref="NetlinkException">Any other refusal: EOPNOTSUPP when this kernel cannot.</exception>
    public static bool Destroy(NetlinkSocket socket, DiagSocket target)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[128]);
        writer.Begin(DestroySocket, NetlinkFlags.Request);
        writer.Struct(new InetDiagRequest { Family = target.Family, Protocol = target.Protocol, States = uint.MaxValue, Id = target.Id });
        var result = socket.TryRequest(ref writer);
        if (result.Ok)
            return true;
        return result.Errno is Libc.ENOENT or Libc.ESTALE ? false
            : throw new NetlinkException($"destroy socket {target.Local} -> {target.Remote}", result.Errno, result.Detail);
    }

    private static unsafe DiagSocket Parse(in NetlinkMessage message, byte protocol)
    {
        var header = message.Header<InetDiagMessage>();
        byte[]? storage = null;
        foreach (var attribute in message.Attributes<InetDiagMessage>())
        {
            if (attribute.Type != Storages)
                continue;
            foreach (var entry in attribute.Nested)
            {
                if (entry.Type != Storage)
                    continue;
                foreach (var field in entry.Nested)
                {
                    if (field.Type == StorageMapValue)
                        storage = field.Payload.ToArray();
                }
            }
        }
        var id = header.Id;
        var length = header.Family == Libc.AF_INET ? 4 : 16;
        return new DiagSocket(header.Family, protocol, header.State,
            new IPEndPoint(new IPAddress(new ReadOnlySpan<byte>(id.Source, length)), (ushort)IPAddress.NetworkToHostOrder((short)id.SourcePort)),
            new IPEndPoint(new IPAddress(new ReadOnlySpan<byte>(id.Destination, length)), (ushort)IPAddress.NetworkToHostOrder((short)id.DestinationPort)),
            id.Cookie[0] | (ulong)id.Cookie[1] << 32, header.Inode, storage)
        { Id = id, Retransmits = header.Timer == RetransmitTimer ? header.Retransmits : 0 };
    }

    /// <summary>struct inet_diag_req_v2.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct InetDiagRequest
    {
        internal byte Family, Protocol, Extensions, Pad;
        internal uint States;
        internal InetDiagSocketId Id;
    }

    /// <summary>struct inet_diag_msg.</summary>
    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct InetDiagMessage
    {
        internal byte Family, State, Timer, Retransmits;
        internal InetDiagSocketId Id;
        internal uint Expires, ReceiveQueue, SendQueue, User, Inode;
    }
}
