using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>A socket that a VIP has bound to a real server.</summary>
/// <param name="Protocol">IPPROTO_TCP or IPPROTO_UDP.</param>
/// <param name="Live">False: a stream that is being closed.</param>
public sealed record BoundSocket(byte Protocol, IPEndPoint Local, IPEndPoint Vip, IPEndPoint Server, bool Live);

/// <summary>Which real server each socket of a container got, as the programs have noted it with the socket. Needs no balancer that runs.</summary>
public static class EbpfConnections
{
    private const byte Established = 1;

    /// <summary>Streams, and datagram sockets that are connected.</summary>
    /// <param name="node">The node's short id.</param>
    /// <returns>Empty where this path is not used.</returns>
    /// <exception cref="KernelException">The namespace cannot be looked into.</exception>
    public static IReadOnlyList<BoundSocket> Of(string node, NetworkNamespace netns)
    {
        using var maps = SocketMaps.Adopt($"{EbpfBalancer.PinRoot}/{node}");
        if (maps is null)
            return [];
        using var netlink = NetlinkSocket.Open(NetlinkProtocol.SockDiag, netns);
        return
        [
            .. new[] { VipPort.Tcp, VipPort.Udp }.SelectMany(protocol => SockDiag.DumpFamilies(netlink, protocol, maps.Sockets.Fd))
                .Select(found => (Found: found, Origin: SocketOrigin.Of(maps, found)))
                .Where(entry => entry.Origin is not null)
                .Select(entry => new BoundSocket(
                    entry.Found.Protocol, Plain(entry.Found.Local), Plain(entry.Origin!.Value.Vip), Plain(entry.Found.Remote), entry.Found.State == Established)),
        ];
    }

    /// <summary>An IPv6 socket that speaks IPv4 has IPv4 addresses.</summary>
    private static IPEndPoint Plain(IPEndPoint end) => end.Address.IsIPv4MappedToIPv6 ? new IPEndPoint(end.Address.MapToIPv4(), end.Port) : end;
}
