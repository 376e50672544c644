using System.Runtime.InteropServices;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>Ends sockets that connect(2) bound to real servers that are no more: nothing else would move them.</summary>
internal static class SocketReaper
{
    private const byte InterNetwork = 2, InterNetworkV6 = 10, Established = 1;

    /// <param name="netnsPaths">Namespaces of the containers; opened only for as long as the look takes.</param>
    /// <param name="maps">Where programs keep the bindings.</param>
    /// <param name="doomed">By the binding's real server and generation.</param>
    /// <returns>How many sockets were destroyed, and what went wrong where.</returns>
    internal static (int Destroyed, List<(string Path, KernelException Error)> Errors) Destroy(
        IEnumerable<string> netnsPaths, SocketMaps maps, ReadOnlySpan<byte> protocols, Func<uint, uint, bool> doomed)
    {
        var destroyed = 0;
        var errors = new List<(string, KernelException)>();
        foreach (var path in netnsPaths)
        {
            try
            {
                using var netns = NetworkNamespace.Open(path);
                using var socket = NetlinkSocket.Open(NetlinkProtocol.SockDiag, netns);
                foreach (var protocol in protocols)
                {
                    foreach (var family in (ReadOnlySpan<byte>)[InterNetwork, InterNetworkV6])
                        destroyed += SockDiag.Dump(socket, family, protocol, maps.Sockets.Fd).Count(found => IsDoomed(found) && SockDiag.Destroy(socket, found));
                }
            }
            catch (KernelException e)
            {
                errors.Add((path, e));
            }
        }
        return (destroyed, errors);

        bool IsDoomed(DiagSocket found)
        {
            if (found.Protocol == VipPort.Udp)
            {
                var key = new FlowKey { Socket = found.Cookie, Address = Address16.From(found.Remote.Address), Port = NetworkOrder.Port((ushort)found.Remote.Port), Direction = FlowKey.ToVip };
                return found.State == Established && maps.Flows.TryGet(key, out Flow flow) && doomed(flow.Backend, flow.Generation);
            }
            if (found.Storage is not { Length: >= SocketBinding.Size } storage)
                return false;
            var binding = MemoryMarshal.Read<SocketBinding>(storage);
            return binding.Flags == SocketBinding.Connected && doomed(binding.Backend, binding.Generation);
        }
    }
}
