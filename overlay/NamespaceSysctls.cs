using OverlayNet.Kernel;

namespace OverlayNet.Overlay;

/// <summary>Kernel settings of a network's namespace and of the host's.</summary>
internal static class NamespaceSysctls
{
    /// <summary>Before links are made: what they inherit, and what forwards between them.</summary>
    internal static readonly (string Name, string Value)[] Network =
    [
        // Ports of the bridge need no addresses of their own; the three links that do switch IPv6 on.
        ("net/ipv6/conf/default/disable_ipv6", "1"),
        // Bridged frames must not pass the netfilter of the IP layer: it costs, and it would drop what it takes for martians.
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/bridge/bridge-nf-call-ip6tables", "0"),
        ("net/bridge/bridge-nf-call-arptables", "0"),
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        // Packets of the subnet come in by the bridge while the subnet's route leads through the node's own link.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        // A virtual IP that is local here may be the source of what comes back in.
        ("net/ipv4/conf/all/accept_local", "1"),
        // The bridge answers for the gateway, the node's own link for the node, neither for the other's.
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
    ];

    /// <summary>Of a link of ours that has addresses.</summary>
    internal static (string Name, string Value)[] AddressedLink(string link) =>
    [
        // Before IPv6 is switched on: a link-local address that is still being checked cannot ask for neighbours.
        ($"net/ipv6/conf/{link}/accept_dad", "0"),
        ($"net/ipv6/conf/{link}/disable_ipv6", "0"),
        ($"net/ipv6/conf/{link}/accept_ra", "0"),
        ($"net/ipv4/conf/{link}/rp_filter", "0"),
        ($"net/ipv4/conf/{link}/send_redirects", "0"),
    ];

    /// <summary>
    /// Sizes of the neighbour tables, which all namespaces share and only the first may set: permanent entries are not
    /// counted, those of containers among themselves are.
    /// </summary>
    internal static readonly (string Name, string Value)[] NeighbourLimits =
    [
        ("net/ipv4/neigh/default/gc_thresh3", "65536"),
        ("net/ipv4/neigh/default/gc_thresh2", "49152"),
        ("net/ipv4/neigh/default/gc_thresh1", "8192"),
        ("net/ipv6/neigh/default/gc_thresh3", "65536"),
        ("net/ipv6/neigh/default/gc_thresh2", "49152"),
        ("net/ipv6/neigh/default/gc_thresh1", "8192"),
    ];

    /// <summary>What makes the host lead networks outside, as far as it differs in the calling thread's namespace.</summary>
    internal static List<(string Name, string Value)> HostForwarding()
    {
        List<(string, string)> settings = [];
        // A host that forwards ignores router advertisements, and with them its default route, unless told to take them still.
        if (Sysctl.Read("net/ipv6/conf/all/forwarding") == "0")
        {
            foreach (var directory in Directory.EnumerateDirectories("/proc/sys/net/ipv6/conf"))
            {
                var name = $"net/ipv6/conf/{Path.GetFileName(directory)}/accept_ra";
                if (Sysctl.Read(name) == "1")
                    settings.Add((name, "2"));
            }
        }
        settings.AddRange(Different([("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")]));
        return settings;
    }

    /// <summary>Those of the settings that differ in the calling thread's namespace; what the kernel lacks is left out.</summary>
    internal static List<(string Name, string Value)> Different(IEnumerable<(string Name, string Value)> wanted) =>
        [.. wanted.Where(setting => Sysctl.Read(setting.Name) is { } value && value != setting.Value)];

    /// <summary>Those limits that are lower than wanted in the calling thread's namespace.</summary>
    internal static List<(string Name, string Value)> TooLow(IEnumerable<(string Name, string Value)> wanted) =>
        [.. wanted.Where(setting => int.TryParse(Sysctl.Read(setting.Name), out var value) && value < int.Parse(setting.Value, System.Globalization.CultureInfo.InvariantCulture))];
}
