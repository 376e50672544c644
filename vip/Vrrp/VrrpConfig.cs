using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Vip.Vrrp;

/// <summary>An address of the virtual router with the prefix it is configured with.</summary>
public readonly record struct VirtualAddress(IPAddress Address, int PrefixLength)
{
    public override string ToString() => $"{Address}/{PrefixLength}";

    /// <exception cref="FormatException">Not <c>ADDRESS</c> or <c>ADDRESS/PREFIX</c>.</exception>
    public static VirtualAddress Parse(string text)
    {
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        if (!IPAddress.TryParse(slash < 0 ? text : text[..slash], out var address))
            throw new FormatException($"address: \"{text}\" is not an IP address; write 192.0.2.10/24 or 2001:db8::10/64");
        var max = address.AddressFamily == AddressFamily.InterNetworkV6 ? 128 : 32;
        var prefix = max;
        if (slash >= 0 && (!int.TryParse(text.AsSpan(slash + 1), out prefix) || prefix < 1 || prefix > max))
            throw new FormatException($"address: \"{text}\" has a prefix length outside 1 to {max}");
        return new VirtualAddress(address, prefix);
    }
}

/// <summary>How a take-over is told to the link's neighbours, by gratuitous ARP or unsolicited neighbour advertisements.</summary>
public sealed record VrrpAnnouncements
{
    /// <summary>Announcements per address in one burst.</summary>
    public int Count { get; init; } = 5;

    /// <summary>After the first burst a second one follows: a switch port that was still learning lost the first.</summary>
    public TimeSpan RepeatDelay { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Further single announcements for as long as the router is Active; zero: none.</summary>
    public TimeSpan RefreshInterval { get; init; }
}

/// <summary>The static side of one virtual router on one node.</summary>
public sealed record VrrpConfig
{
    public required byte VirtualRouterId { get; init; }
    public VrrpVersion Version { get; init; } = VrrpVersion.V3;

    /// <summary>1 to 254, or 255 for the owner of the addresses.</summary>
    public byte Priority { get; init; } = 100;

    /// <summary>Advertisement_Interval in centiseconds: 1 to 4095, for version 2 whole seconds to 25500.</summary>
    public int AdvertisementIntervalCs { get; init; } = 100;

    /// <summary>One family per virtual router (RFC 9568 §3); the packet lists them in this order.</summary>
    public required IReadOnlyList<VirtualAddress> Addresses { get; init; }

    /// <summary>Preempt_Mode. The owner preempts whatever this says.</summary>
    public bool Preempt { get; init; } = true;

    /// <summary>How long a lower-priority Active Router is put up with before it is preempted.</summary>
    public TimeSpan PreemptDelay { get; init; }

    /// <summary>How long after start-up this router takes over from nobody: switch ports need time to forward.</summary>
    public TimeSpan StartupDelay { get; init; }

    /// <summary>Empty: multicast. Otherwise advertisements go to, and are taken from, these only.</summary>
    public IReadOnlyList<IPAddress> UnicastPeers { get; init; } = [];

    public VrrpChecksumCoverage Checksum { get; init; } = VrrpChecksumCoverage.PseudoHeader;
    public VrrpAnnouncements Announcements { get; init; } = new();

    /// <summary>
    /// Becoming Active takes a permit (a lease in the registry) instead of the peers' silence, and other routers'
    /// advertisements never end it.
    /// </summary>
    public bool Fenced { get; init; }

    public AddressFamily Family => Addresses[0].Address.AddressFamily;
    public bool IsOwner => Priority == VrrpPacket.OwnerPriority;

    /// <summary>Refuses what no peer could agree with.</summary>
    /// <exception cref="ArgumentException">Names the field, its value and the remedy.</exception>
    public VrrpConfig Validate()
    {
        if (VirtualRouterId == 0)
            throw new ArgumentException("vrid: 0 is reserved; choose 1 to 255");
        if (Version is not (VrrpVersion.V2 or VrrpVersion.V3))
            throw new ArgumentException($"version: {(int)Version} is unknown; choose 2 or 3");
        if (Priority == 0)
            throw new ArgumentException("priority: 0 is the release signal on the wire; choose 1 to 254, or 255 for the address owner");
        if (Addresses.Count is 0 or > VrrpPacket.MaxAddresses)
            throw new ArgumentException($"addresses: {Addresses.Count} given; a virtual router has 1 to {VrrpPacket.MaxAddresses}");
        if (Addresses.FirstOrDefault(a => a.Address.AddressFamily != Family) is { Address: not null } other)
            throw new ArgumentException($"addresses: {other} is of another family than {Addresses[0]}; make one virtual router per family, in one sync group");
        if (Addresses.GroupBy(a => a.Address).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new ArgumentException($"addresses: {twice.Key} is listed twice; list it once");
        if (Version == VrrpVersion.V2 && Family == AddressFamily.InterNetworkV6)
            throw new ArgumentException("version: 2 has no IPv6 (RFC 3768); choose version 3");
        if (Version == VrrpVersion.V2 && (AdvertisementIntervalCs % 100 != 0 || AdvertisementIntervalCs is < 100 or > 25500))
            throw new ArgumentException($"advert: {AdvertisementIntervalCs * 10} ms cannot be told in version 2; choose whole seconds from 1 to 255, or version 3");
        if (Version == VrrpVersion.V3 && AdvertisementIntervalCs is < 1 or > 4095)
            throw new ArgumentException($"advert: {AdvertisementIntervalCs * 10} ms is out of range; choose 10 ms to 40950 ms in steps of 10 ms");
        if (UnicastPeers.FirstOrDefault(p => p.AddressFamily != Family) is { } peer)
            throw new ArgumentException($"peers: {peer} is of another family than {Addresses[0]}; give the peer's address of that family");
        if (PreemptDelay < TimeSpan.Zero || StartupDelay < TimeSpan.Zero)
            throw new ArgumentException("preempt-delay, startup-delay: negative; choose zero or more");
        if (Announcements.Count is < 1 or > 100)
            throw new ArgumentException($"announcements: {Announcements.Count} in a burst; choose 1 to 100");
        return this;
    }

    /// <summary>
    /// Refuses a virtual address that a node has as its own, unless the node is the owner (priority 255).
    /// </summary>
    /// <exception cref="ArgumentException">Names the address and the remedy.</exception>
    public void ValidateAgainst(IEnumerable<IPAddress> nodeAddresses)
    {
        var own = nodeAddresses.ToHashSet();
        foreach (var virtualAddress in Addresses)
            if (!IsOwner && own.Contains(virtualAddress.Address))
                throw new ArgumentException($"addresses: {virtualAddress.Address} is this node's own address; choose a free address, or priority 255 on the node that owns it");
    }
}
