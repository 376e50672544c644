using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// The resolver's fixed addresses on the host's loopback link. They carry a protocol number of our own (IFA_PROTO,
/// Linux 5.18; linux/if_addr.h), by which they are known as ours when they are to go.
/// </summary>
internal sealed class HostResolverAddresses(IReadOnlyList<IPAddress> addresses)
{
    private const int Loopback = 1;
    private const byte OurProtocol = 0x6f;

    /// <summary>Adds those that are missing.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Ensure()
    {
        if (addresses.Count == 0)
            return;
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        var table = new RouteAddresses(socket);
        var present = table.Dump().Where(entry => entry.Interface == Loopback).Select(entry => entry.Address).ToHashSet();
        foreach (var address in addresses.Where(address => !present.Contains(address)))
        {
            table.Replace(new LinkAddress
            {
                Interface = Loopback,
                Address = address,
                PrefixLength = address.AddressFamily == AddressFamily.InterNetwork ? 32 : 128,
                Flags = AddressFlags.NoDad,
                Protocol = OurProtocol,
            });
        }
    }

    public void Remove()
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        var table = new RouteAddresses(socket);
        foreach (var address in table.Dump().Where(entry => entry.Interface == Loopback && entry.Protocol == OurProtocol))
            table.Delete(address);
    }
}
