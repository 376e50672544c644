using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>Whether programs at the cgroup root can do what this writer needs here: found out by doing it.</summary>
internal static class SocketProbe
{
    private static readonly IPEndPoint canary = new(IPAddress.Parse("192.0.2.1"), 9); // TEST-NET-1, RFC 5737

    /// <param name="cgroup">The cgroup2 mount; null: look for it.</param>
    /// <returns>The cgroup to attach to, or why there is none.</returns>
    internal static (string? Cgroup, BalancerAvailability Availability) Look(string? cgroup)
    {
        try
        {
            cgroup ??= BpfCgroup.FindMount();
            if (cgroup is null)
                return (null, BalancerAvailability.No("no cgroup2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified)"));
            if (!BpfCgroup.IsRoot(cgroup))
            {
                return (null, BalancerAvailability.No(
                    $"{cgroup} shows only a part of the cgroup2 hierarchy, so that containers elsewhere would be missed; run the daemon in the host's cgroup namespace (docker run --cgroupns=host)"));
            }
            BpfFileSystem.EnsureMounted();
            return Canary(cgroup) is { } failure ? (null, BalancerAvailability.No(failure)) : (cgroup, BalancerAvailability.Yes);
        }
        catch (Exception e) when (e is KernelException or IOException or UnauthorizedAccessException or PlatformNotSupportedException)
        {
            return (null, BalancerAvailability.No($"{e.Message}; needs Linux 5.18 and CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN"));
        }
    }

    /// <summary>
    /// Attaches all programs with tables of their own, and connects to a VIP without real servers from a new network
    /// namespace: the refusal and the count of it are the programs'. Nothing is pinned: all of it ends with this call.
    /// </summary>
    /// <returns>What went wrong; null: nothing.</returns>
    private static string? Canary(string cgroup)
    {
        using var maps = SocketMaps.Create(SocketCapacity.Least);
        using var hooks = new SocketHooks();
        hooks.Install(maps.Fds, cgroup, directory: null);
        try
        {
            SocketError answer = default;
            NetworkNamespace.RunInNew(() =>
            {
                using var netns = NetworkNamespace.OpenCurrent();
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
                maps.Netns.Set(netns.Cookie(), NetnsNetworks.From([1]));
                maps.Frontends.Set(new FrontendKey(Address16.From(canary.Address), 1, 0, 0), new Frontend(0, 0, 0, 0, 0, FrontendFlags.Even));
                try
                {
                    socket.Connect(canary);
                }
                catch (SocketException e)
                {
                    answer = e.SocketErrorCode;
                }
            });
            return (answer, maps.Services[0].Refused) switch
            {
                (SocketError.ConnectionRefused, > 0) => null,
                (_, 0) => $"programs at {cgroup} are attached and do not run for this process's sockets (another cgroup hierarchy, or net_cls/net_prio of cgroup v1 in use)",
                _ => $"a program's refusal reaches a connecting process as {answer}, not as ECONNREFUSED (bpf_set_retval needs Linux 5.18)",
            };
        }
        finally
        {
            hooks.Remove();
        }
    }
}
