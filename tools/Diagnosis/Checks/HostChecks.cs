using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>The host's own settings: forwarding, routes that networks overlap, other VXLAN devices.</summary>
internal static class HostChecks
{
    private const uint MainTable = 254;

    // What a network's namespace has to have (overlay/NamespaceSysctls.cs), and what goes wrong without.
    private static readonly (string Name, string Wanted, string Why)[] Inside =
    [
        ("net/bridge/bridge-nf-call-iptables", "0", "bridged packets pass the packet filter and are dropped as martians"),
        ("net/bridge/bridge-nf-call-ip6tables", "0", "bridged packets pass the packet filter"),
        ("net/ipv4/ip_forward", "1", "nothing leaves the network over IPv4"),
        ("net/ipv6/conf/all/forwarding", "1", "nothing leaves the network over IPv6"),
        ("net/ipv4/conf/all/rp_filter", "0", "packets that come in by the bridge are dropped"),
        ("net/ipv4/conf/all/arp_ignore", "1", "the gateway's and the node's addresses are answered for by the wrong link"),
    ];

    public static IEnumerable<Diagnosed> Run(CheckupInput input)
    {
        foreach (var finding in Forwarding(input))
            yield return finding;
        foreach (var network in input.Networks.Where(network => network.Reading is not null))
        {
            using var netns = NamedNamespaces.OpenPinned(network.Netns);
            var values = netns.Run(() => Inside.ToDictionary(setting => setting.Name, setting => Sysctl.Read(setting.Name)));
            foreach (var finding in Settings(network, values))
                yield return finding;
        }
        foreach (var finding in Overlaps(input.Networks, input.Host))
            yield return finding;
        foreach (var finding in OtherTunnels(input.Networks, input.Host))
            yield return finding;
    }

    public static IEnumerable<Diagnosed> Settings(NetworkView network, IReadOnlyDictionary<string, string?> values)
    {
        foreach (var (name, wanted, why) in Inside)
        {
            if (values.GetValueOrDefault(name) is not { } value || value == wanted)
                continue;
            var dotted = name.Replace('/', '.');
            yield return Diagnosed.Error("namespace.sysctl", dotted, $"it is {value} in {network.Netns} of network {network.Network.Name}, should be {wanted}: {why}", null, $"ip netns exec {network.Netns} sysctl -w {dotted}={wanted}", () =>
            {
                using var netns = NamedNamespaces.OpenPinned(network.Netns);
                netns.SetSysctl(name, wanted);
            });
        }
    }

    /// <summary>Prefixes of the host's main table that a network's subnet overlaps: containers then reach the one or the other.</summary>
    public static IEnumerable<Diagnosed> Overlaps(IEnumerable<NetworkView> networks, NamespaceReading host)
    {
        var ours = host.Links.Where(link => link.Alias?.StartsWith("overlaynet:", StringComparison.Ordinal) == true).Select(link => link.Index).ToHashSet();
        foreach (var network in networks)
        {
            foreach (var subnet in new[] { network.Network.Subnet4, network.Network.Subnet6 }.OfType<IPNetwork>())
            {
                foreach (var route in host.Routes.Where(route => route.Table == MainTable && route.Type == RouteType.Unicast && route.Destination.PrefixLength > 0 && !ours.Contains(route.Interface) && Overlap(route.Destination, subnet)))
                {
                    var by = host.NameOf(route.Interface);
                    yield return Diagnosed.Error("host.route-overlap", network.Network.Name, $"its subnet {subnet} overlaps the host's route {route.Destination} on {by}: this host reaches one of the two only", null, $"ip route del {route.Destination} dev {by}, or make the network again with another --subnet");
                }
            }
        }
    }

    /// <summary>The kernel gives a VNI and port to one device in an underlay namespace.</summary>
    public static IEnumerable<Diagnosed> OtherTunnels(IEnumerable<NetworkView> networks, NamespaceReading host)
    {
        foreach (var network in networks)
        {
            foreach (var link in host.Links.Where(link => link.Vxlan is { } options && options.Vni == network.Network.Vni))
                yield return Diagnosed.Error("vxlan.clash", link.Name, $"VXLAN device {link.Name} of this host has VNI {Text.Number(network.Network.Vni)}, which network {network.Network.Name} needs: ours cannot be made", $"port {Text.Number(link.Vxlan!.Port)}", $"ip link del {link.Name}, or make the network again with another --vni");
        }
    }

    private static IEnumerable<Diagnosed> Forwarding(CheckupInput input)
    {
        var outside = input.Networks.Where(network => !network.Network.Internal).ToList();
        foreach (var (name, family, wanted) in new[]
        {
            ("net/ipv4/ip_forward", "IPv4", outside.Any(network => network.Network.Subnet4 is not null)),
            ("net/ipv6/conf/all/forwarding", "IPv6", outside.Any(network => network.Network.Subnet6 is not null)),
        })
        {
            var path = input.Node.Host.Path;
            if (!wanted || input.Node.Host.Run(() => Sysctl.Read(name)) != "0")
                continue;
            var dotted = name.Replace('/', '.');
            yield return Diagnosed.Error("host.sysctl", dotted, $"{dotted} is 0: containers reach nothing outside over {family}", null, $"sysctl -w {dotted}=1, and look for what sets it back in /etc/sysctl.d", () =>
            {
                using var host = NetworkNamespace.Open(path);
                host.SetSysctl(name, "1");
            });
        }
    }

    private static bool Overlap(IPNetwork one, IPNetwork two) =>
        one.BaseAddress.AddressFamily == two.BaseAddress.AddressFamily && (one.Contains(two.BaseAddress) || two.Contains(one.BaseAddress));
}
