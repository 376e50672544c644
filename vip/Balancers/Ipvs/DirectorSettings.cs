using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>What the director's namespace needs to be told beyond the table itself (linux: Documentation/networking/ipvs-sysctl.rst).</summary>
internal static class DirectorSettings
{
    /// <summary>
    /// As long as conntrack remembers (nf_conntrack_tcp_timeout_established): the kernel's 15 minutes break pools of idle connections,
    /// and a connection must not live shorter through one writer than through another.
    /// </summary>
    internal static readonly IpvsTimeouts Timeouts = new(TimeSpan.FromDays(5), TimeSpan.FromMinutes(2), TimeSpan.FromMinutes(2));

    private static readonly (string Name, string Value)[] Sysctls =
    [
        // A client's port used again goes to a server that takes new connections, not to the drained one of its last use.
        ("net/ipv4/vs/conn_reuse_mode", "1"),
        // A connection to a server that was taken away ends at its next packet: without this it is silently dropped until it times out.
        // It also lets a repeated SYN leave a server whose weight is 0 by now, instead of waiting for a dead one.
        ("net/ipv4/vs/expire_nodest_conn", "1"),
        // The same for affinity: a client whose server got weight 0 is scheduled anew.
        ("net/ipv4/vs/expire_quiescent_template", "1"),
        // Direct routing never sees replies, so conntrack would hold half of each connection, take it for invalid, and cost for it.
        ("net/ipv4/vs/conntrack", "0"),
        // A connection nobody knows gets an RST at once and is opened again; sent to some server it would only get the RST from there.
        ("net/ipv4/vs/sloppy_tcp", "0"),
        // Ping is answered here; only errors that belong to a connection are passed on, and those need no schedule.
        ("net/ipv4/vs/schedule_icmp", "0"),
        // Every node is a director of its own; there is no synchronised backup whose packets were not for it.
        ("net/ipv4/vs/backup_only", "0"),
        // Counters are part of what we report.
        ("net/ipv4/vs/run_estimation", "1"),
        // Bridged frames are not for the IP layer's netfilter: IPVS would schedule packets on their way to a task once more.
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/bridge/bridge-nf-call-ip6tables", "0"),
        // Published ports: what a local task answers comes back with a source that is an address of ours.
        ("net/ipv4/conf/all/accept_local", "1"),
        // A client in the same subnet must go on coming to the director; a redirect would send it past.
        ("net/ipv4/conf/all/send_redirects", "0"),
    ];

    /// <summary>The settings of the calling thread's namespace that are not as they should be; those the kernel lacks are left out.</summary>
    internal static List<(string Name, string Value)> Different() =>
        [.. Sysctls.Where(setting => Sysctl.Read(setting.Name) is { } value && value != setting.Value)];
}
