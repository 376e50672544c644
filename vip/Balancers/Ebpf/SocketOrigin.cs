using System.Net;
using System.Runtime.InteropServices;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>What the programs have noted with a socket that a VIP has bound to a real server.</summary>
/// <param name="Vip">What it was connected to.</param>
/// <param name="Backend">Number of the real server.</param>
/// <param name="Generation">Which of those that have had that number.</param>
internal readonly record struct SocketOrigin(IPEndPoint Vip, uint Backend, uint Generation)
{
    private const byte Established = 1;

    /// <param name="found">As listed with the storage of <see cref="SocketMaps.Sockets"/>.</param>
    /// <returns>Null: no VIP has bound it.</returns>
    internal static SocketOrigin? Of(SocketMaps maps, DiagSocket found)
    {
        // The kernel shows the storage of streams only; of datagram sockets the way back is in a table.
        if (found.Protocol == VipPort.Udp)
        {
            var key = new FlowKey { Socket = found.Cookie, Address = Address16.From(found.Remote.Address), Port = NetworkOrder.Port((ushort)found.Remote.Port), Direction = FlowKey.ToVip };
            return found.State == Established && maps.Flows.TryGet(key, out Flow flow)
                ? new SocketOrigin(new IPEndPoint(flow.Address.ToAddress(found.Family), NetworkOrder.Port(flow.Port)), flow.Backend, flow.Generation)
                : null;
        }
        if (found.Storage is not { Length: >= SocketBinding.Size } storage)
            return null;
        var binding = MemoryMarshal.Read<SocketBinding>(storage);
        return binding.Flags == SocketBinding.Connected
            ? new SocketOrigin(new IPEndPoint(binding.Vip.ToAddress(found.Family), NetworkOrder.Port(binding.VipPort)), binding.Backend, binding.Generation)
            : null;
    }
}
