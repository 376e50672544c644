using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Agent;

/// <summary>What the agent reads of its host: the underlay's interface, and the prefixes that networks must not overlap.</summary>
public static class HostFacts
{
    private const uint MainTable = 254;
    private const int DefaultMtu = 1500;

    /// <summary>MTU of the interface that has the address, in bytes; 1500 when none has.</summary>
    public static int MtuOf(NetlinkSocket socket, IPAddress address)
    {
        var index = new RouteAddresses(socket).Dump().FirstOrDefault(entry => entry.Address.Equals(address))?.Interface;
        return index is { } known && new RouteLinks(socket).Dump().FirstOrDefault(link => link.Index == known) is { } link ? link.Mtu : DefaultMtu;
    }

    /// <summary>The address that the default route leaves from; null: there is no such route. Connecting a UDP socket sends nothing.</summary>
    public static IPAddress? DefaultAddress()
    {
        // Addresses for documentation (RFC 5737, RFC 3849): nobody's, so only a default route leads there.
        foreach (var probe in new[] { "203.0.113.1", "2001:db8:ffff::1" })
        {
            var target = new IPEndPoint(IPAddress.Parse(probe), 9);
            using var socket = new Socket(target.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
            try
            {
                socket.Connect(target);
                return ((IPEndPoint)socket.LocalEndPoint!).Address;
            }
            catch (SocketException)
            {
                // No route of this family.
            }
        }
        return null;
    }

    /// <summary>True when an interface of this host has the address.</summary>
    public static bool Has(NetlinkSocket socket, IPAddress address) =>
        new RouteAddresses(socket).Dump().Any(entry => entry.Address.Equals(address));

    /// <summary>Prefixes of the host's main table: defaults, link-local and multicast ones, and those our own links made, left out.</summary>
    public static IReadOnlyList<IPNetwork> Routes(NetlinkSocket socket)
    {
        var ours = new RouteLinks(socket).Dump()
            .Where(link => link.Alias?.StartsWith("overlaynet:", StringComparison.Ordinal) == true)
            .Select(link => link.Index)
            .ToHashSet();
        return
        [
            .. new RouteRoutes(socket).Dump()
                .Where(route => route.Table == MainTable && route.Type == RouteType.Unicast && route.Destination.PrefixLength > 0 && !ours.Contains(route.Interface))
                .Select(route => route.Destination)
                .Where(prefix => !IsScoped(prefix.BaseAddress))
                .Distinct()
                .OrderBy(prefix => prefix.ToString(), StringComparer.Ordinal),
        ];
    }

    private static bool IsScoped(IPAddress address) =>
        address.IsIPv6LinkLocal || address.IsIPv6Multicast
        || (address.AddressFamily == AddressFamily.InterNetwork && address.GetAddressBytes() is [169, 254, ..] or [>= 224, ..]);
}
