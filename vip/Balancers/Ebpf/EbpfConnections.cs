using System.Net;
using System.Runtime.InteropServices;
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
    private const byte InterNetwork = 2, InterNetworkV6 = 10, Established = 1;

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
        var bound = new List<BoundSocket>();
        foreach (var protocol in (byte[])[VipPort.Tcp, VipPort.Udp])
        {
            foreach (var family in (byte[])[InterNetwork, InterNetworkV6])
                bound.AddRange(SockDiag.Dump(netlink, family, protocol, maps.Sockets.Fd).Select(found => Bound(maps, found)).OfType<BoundSocket>());
        }
        return bound;
    }

    private static BoundSocket? Bound(SocketMaps maps, DiagSocket found)
    {
        // The kernel shows the storage of streams only; of datagram sockets the way back is in a table.
        if (found.Protocol == VipPort.Udp)
        {
            var key = new FlowKey { Socket = found.Cookie, Address = Address16.From(found.Remote.Address), Port = NetworkOrder.Port((ushort)found.Remote.Port), Direction = FlowKey.ToVip };
            return found.State == Established && maps.Flows.TryGet(key, out Flow flow)
                ? new BoundSocket(found.Protocol, Plain(found.Local), Plain(new IPEndPoint(flow.Address.ToAddress(found.Family), NetworkOrder.Port(flow.Port))), Plain(found.Remote), true)
                : null;
        }
        if (found.Storage is not { Length: >= SocketBinding.Size } storage)
            return null;
        var binding = MemoryMarshal.Read<SocketBinding>(storage);
        return binding.Flags == SocketBinding.Connected
            ? new BoundSocket(found.Protocol, Plain(found.Local), Plain(new IPEndPoint(binding.Vip.ToAddress(found.Family), NetworkOrder.Port(binding.VipPort))), Plain(found.Remote), found.State == Established)
            : null;
    }

    /// <summary>An IPv6 socket that speaks IPv4 has IPv4 addresses.</summary>
    private static IPEndPoint Plain(IPEndPoint end) => end.Address.IsIPv4MappedToIPv6 ? new IPEndPoint(end.Address.MapToIPv4(), end.Port) : end;
}
