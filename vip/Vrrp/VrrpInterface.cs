using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Vrrp;

/// <summary>
/// What one virtual router does to the interface it runs on: its packets, its addresses, its announcements. Made in the
/// calling thread's network namespace, where its sockets stay. Not thread-safe.
/// </summary>
public sealed class VrrpInterface : IDisposable
{
    private readonly NetlinkSocket _route;
    private readonly RouteAddresses _addresses;
    private readonly PacketSender _frames;
    private readonly Link _link;
    private readonly Link _addressLink;
    private readonly RouteLinks _links;
    private readonly AddressFamily _family;

    /// <exception cref="KernelException">No such interface, or the kernel refused a socket.</exception>
    public VrrpInterface(VrrpConfig config, string interfaceName, string? addressInterface = null)
    {
        _family = config.Family;
        _route = NetlinkSocket.Open(NetlinkProtocol.Route);
        try
        {
            _addresses = new RouteAddresses(_route);
            _links = new RouteLinks(_route);
            _link = _links.Require(interfaceName);
            _addressLink = addressInterface is null ? _link : _links.Require(addressInterface);
            Socket = new VrrpSocket(config, interfaceName, _link.Index);
            _frames = new PacketSender(_addressLink.Index);
        }
        catch
        {
            Socket?.Dispose();
            _route.Dispose();
            throw;
        }
    }

    public VrrpSocket Socket { get; } = null!;
    public int Index => _link.Index;

    /// <summary>
    /// The primary address: IPv4, the interface's first that is not virtual; IPv6, its link-local one (RFC 9568 §5.1.2.1).
    /// </summary>
    /// <returns>Null while the interface has none.</returns>
    public IPAddress? PrimaryAddress(IReadOnlyCollection<VirtualAddress> virtualAddresses) => _addresses.Dump()
        .Where(a => a.Interface == _link.Index && a.Address.AddressFamily == _family && (a.Flags & AddressFlags.Tentative) == 0)
        .Where(a => _family == AddressFamily.InterNetwork || a.Address.IsIPv6LinkLocal)
        .Where(a => !virtualAddresses.Any(v => v.Address.Equals(a.Address)))
        .Select(a => a.Address).FirstOrDefault();

    /// <summary>All addresses of the namespace: a virtual one must not be among them.</summary>
    public IEnumerable<IPAddress> AllAddresses() => _addresses.Dump().Select(a => a.Address);

    /// <summary>Adds the addresses or refreshes their lifetime. IPv6 ones are usable at once, without duplicate detection.</summary>
    /// <param name="lifetime">The kernel removes them after this (whole seconds, rounded up); null: never.</param>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Add(IEnumerable<VirtualAddress> addresses, TimeSpan? lifetime)
    {
        if (OnMacvlan)
            _links.Set(_addressLink.Index, new LinkChange { Up = true });
        foreach (var address in addresses)
            _addresses.Replace(Configured(address) with { ValidLifetime = RoundUp(lifetime), PreferredLifetime = _family == AddressFamily.InterNetworkV6 ? TimeSpan.Zero : RoundUp(lifetime) });
    }

    /// <summary>Removes the addresses; those that are not there are fine.</summary>
    /// <exception cref="NetlinkException">Any other refusal.</exception>
    public void Remove(IEnumerable<VirtualAddress> addresses)
    {
        foreach (var address in addresses)
            _addresses.DeleteIfThere(Configured(address));

        // Up, a backup would take in, and possibly forward, what is sent to the virtual MAC address.
        if (OnMacvlan)
            _links.Set(_addressLink.Index, new LinkChange { Up = false });
    }

    /// <summary>Announces each address.</summary>
    public void Announce(IEnumerable<VirtualAddress> addresses, int count)
    {
        if (_addressLink.Mac is not { } mac)
            return;
        foreach (var address in addresses)
        {
            var frame = LinkAnnouncement.For(address.Address, mac);
            for (var i = 0; i < count; i++)
                _ = _frames.TrySend(frame);
        }
    }

    public void Dispose()
    {
        Socket.Dispose();
        _frames.Dispose();
        _route.Dispose();
    }

    private bool OnMacvlan => _addressLink.Index != _link.Index;

    // A virtual address must not become the source of the node's own connections: IPv6 ones are deprecated from the start.
    private LinkAddress Configured(VirtualAddress address) => new()
    {
        Interface = _addressLink.Index,
        Address = address.Address,
        // On a macvlan the subnet's route stays the interface's.
        PrefixLength = !OnMacvlan ? address.PrefixLength : _family == AddressFamily.InterNetwork ? 32 : 128,
        Flags = _family == AddressFamily.InterNetworkV6 ? AddressFlags.NoDad : AddressFlags.None,
    };

    private static TimeSpan? RoundUp(TimeSpan? lifetime) =>
        lifetime is { } value ? TimeSpan.FromSeconds(Math.Max(1, Math.Ceiling(value.TotalSeconds))) : null;
}
