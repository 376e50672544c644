using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>
/// Sockets that connect(2) bound to real servers that are no more: nothing in the kernel moves them. Namespaces are
/// opened only for as long as a look takes.
/// </summary>
/// <param name="maps">Where programs keep the bindings.</param>
/// <param name="netnsPaths">The containers to look into.</param>
/// <param name="doomed">Whether a binding's real server and generation are among those.</param>
internal sealed class SocketReaper(SocketMaps maps, IReadOnlyCollection<string> netnsPaths, Func<uint, uint, bool> doomed)
{
    private const int ConnectionRefused = 111;

    /// <summary>Namespaces that could not be looked into.</summary>
    internal List<(string Path, KernelException Error)> Errors { get; } = [];

    /// <summary>Destroys all of them: their owners' next calls fail with ECONNABORTED.</summary>
    /// <returns>How many.</returns>
    internal int Destroy() => Visit([VipPort.Tcp, VipPort.Udp], (netlink, found, _) => SockDiag.Destroy(netlink, found));

    /// <summary>
    /// Connects datagram sockets to their VIP anew, and so to another real server, without their owners' knowing. Those
    /// whose owner cannot be seen are destroyed.
    /// </summary>
    /// <returns>How many were moved and destroyed, and how many must stay because the VIP has no real server now.</returns>
    internal (int Moved, int Destroyed, int Waiting) MoveDatagrams()
    {
        var bound = new Dictionary<uint, IPEndPoint>();
        Visit([VipPort.Udp], (_, found, vip) => found.Inode != 0 && bound.TryAdd(found.Inode, vip));
        if (bound.Count == 0)
            return default;
        var holders = ForeignSockets.Find(bound.Keys.ToHashSet());
        int moved = 0, waiting = 0;
        var lost = new HashSet<uint>(bound.Keys.Where(inode => !holders.ContainsKey(inode)));
        foreach (var (inode, holder) in holders)
        {
            try
            {
                ForeignSockets.Connect(holder, inode, bound[inode]);
                moved++;
            }
            catch (KernelException e) when (e.Errno == ConnectionRefused)
            {
                waiting++;
            }
            catch (KernelException)
            {
                lost.Add(inode);
            }
        }
        var destroyed = lost.Count == 0 ? 0 : Visit([VipPort.Udp], (netlink, found, _) => lost.Contains(found.Inode) && SockDiag.Destroy(netlink, found));
        return (moved, destroyed, waiting);
    }

    private int Visit(ReadOnlySpan<byte> protocols, Func<NetlinkSocket, DiagSocket, IPEndPoint, bool> act)
    {
        var acted = 0;
        foreach (var path in netnsPaths)
        {
            try
            {
                using var netns = NetworkNamespace.Open(path);
                using var netlink = NetlinkSocket.Open(NetlinkProtocol.SockDiag, netns);
                foreach (var protocol in protocols)
                {
                    foreach (var found in SockDiag.DumpFamilies(netlink, protocol, maps.Sockets.Fd))
                    {
                        if (SocketOrigin.Of(maps, found) is { } origin && doomed(origin.Backend, origin.Generation) && act(netlink, found, origin.Vip))
                            acted++;
                    }
                }
            }
            catch (KernelException e)
            {
                Errors.Add((path, e));
            }
        }
        return acted;
    }
}
