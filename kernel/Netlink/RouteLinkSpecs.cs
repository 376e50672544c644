using System.Net;

namespace OverlayNet.Kernel.Netlink;

/// <summary>IFF_* (linux/if.h).</summary>
[Flags]
public enum LinkFlags : uint
{
    None = 0,
    Up = 0x1,
    Broadcast = 0x2,
    Loopback = 0x8,
    PointToPoint = 0x10,
    Running = 0x40,
    NoArp = 0x80,
    Promiscuous = 0x100,
    Multicast = 0x1000,
    LowerUp = 0x10000,
}

/// <summary>A network interface as the kernel reports it.</summary>
public sealed record Link
{
    public required int Index { get; init; }
    public required string Name { get; init; }

    /// <summary><c>bridge</c>, <c>vxlan</c>, <c>veth</c>...; null for hardware and the loopback.</summary>
    public string? Kind { get; init; }
    public LinkFlags Flags { get; init; }
    public bool IsUp => (Flags & LinkFlags.Up) != 0;

    /// <summary>Bytes.</summary>
    public int Mtu { get; init; }
    public MacAddress? Mac { get; init; }
    public string? Alias { get; init; }

    /// <summary>Index of the bridge (or other master) the link belongs to; 0: none.</summary>
    public int Master { get; init; }

    /// <summary>IFLA_LINK: a veth's peer, in the namespace <see cref="LinkNetnsId"/>; 0: none.</summary>
    public int Parent { get; init; }

    /// <summary>The other namespace involved (a veth's peer, a VXLAN's underlay) by this namespace's own numbering; null: this one.</summary>
    public int? LinkNetnsId { get; init; }
    public BridgeOptions? Bridge { get; init; }
    public VxlanOptions? Vxlan { get; init; }
    public BridgePortOptions? Port { get; init; }
}

/// <summary>Settings of a bridge; null: the kernel's default on creation, unchanged on change.</summary>
public sealed record BridgeOptions
{
    public bool? MulticastSnooping { get; init; }
    public bool? Stp { get; init; }
    public bool? VlanFiltering { get; init; }

    /// <summary>
    /// VLAN of untagged frames; 0: none (static FDB entries are then made once, not once more for the VLAN).
    /// A kernel without VLAN filtering ignores it and reports none.
    /// </summary>
    public ushort? DefaultPvid { get; init; }

    /// <summary>Life of learnt FDB entries; the kernel counts in hundredths of a second.</summary>
    public TimeSpan? Ageing { get; init; }
    public TimeSpan? ForwardDelay { get; init; }
}

/// <summary>Settings of a VXLAN device (RFC 7348).</summary>
public sealed record VxlanOptions
{
    public required int Vni { get; init; }

    /// <summary>Outer UDP destination port.</summary>
    public int Port { get; init; } = 4789;

    /// <summary>Source of the outer packets; its family is the underlay's.</summary>
    public IPAddress? Local { get; init; }
    public bool Learning { get; init; }

    /// <summary>Outer TTL or hop limit; 0: the system's default.</summary>
    public byte Ttl { get; init; }

    /// <summary>Outer UDP checksums over IPv4.</summary>
    public bool UdpChecksum { get; init; }

    /// <summary>Send over IPv6 without outer UDP checksums (RFC 6935).</summary>
    public bool UdpZeroChecksum6Tx { get; init; }

    /// <summary>Accept over IPv6 without outer UDP checksums.</summary>
    public bool UdpZeroChecksum6Rx { get; init; }
}

/// <summary>Settings of a bridge's port; null: unchanged.</summary>
public sealed record BridgePortOptions
{
    public bool? Learning { get; init; }

    /// <summary>Send frames for unknown unicast addresses here.</summary>
    public bool? UnicastFlood { get; init; }
    public bool? MulticastFlood { get; init; }
    public bool? BroadcastFlood { get; init; }

    /// <summary>The bridge answers ARP and ND for neighbours that lie behind this port.</summary>
    public bool? NeighbourSuppress { get; init; }
    public bool? Hairpin { get; init; }
    public bool? Isolated { get; init; }
}

/// <summary>A link to make.</summary>
public abstract record LinkSpec
{
    public required string Name { get; init; }
    public abstract string Kind { get; }
    public MacAddress? Mac { get; init; }

    /// <summary>Bytes; null: the kernel's choice.</summary>
    public int? Mtu { get; init; }

    /// <summary>Index of the bridge to join at once.</summary>
    public int? Master { get; init; }
    public bool Up { get; init; }

    /// <summary>
    /// A namespace to make the link in, by descriptor (<see cref="NetworkNamespace.Fd"/>). A VXLAN device made this
    /// way keeps sending through the namespace of the socket that asked for it.
    /// </summary>
    public int? NetnsFd { get; init; }

    public sealed override string ToString() => $"{Kind} {Name}";
}

public sealed record BridgeSpec : LinkSpec
{
    public override string Kind => "bridge";
    public BridgeOptions Options { get; init; } = new();
}

public sealed record VxlanSpec : LinkSpec
{
    public override string Kind => "vxlan";
    public required VxlanOptions Options { get; init; }
}

/// <summary>A pair of virtual Ethernet links, made in one request.</summary>
public sealed record VethSpec : LinkSpec
{
    public override string Kind => "veth";
    public required string PeerName { get; init; }
    public MacAddress? PeerMac { get; init; }

    /// <summary>Bytes; null: the kernel's choice.</summary>
    public int? PeerMtu { get; init; }
    public bool PeerUp { get; init; }

    /// <summary>The namespace the peer is made in, by descriptor; null: the socket's.</summary>
    public int? PeerNetnsFd { get; init; }
}

/// <summary>A link of its own MAC address on top of another (macvlan in private mode: those of one parent do not reach each other).</summary>
public sealed record MacvlanSpec : LinkSpec
{
    public override string Kind => "macvlan";

    /// <summary>Index of the link below.</summary>
    public required int Parent { get; init; }
}

/// <summary>Any other kind without settings of its own: <c>dummy</c>, <c>ifb</c>.</summary>
public sealed record PlainLinkSpec(string LinkKind) : LinkSpec
{
    public override string Kind => LinkKind;
}

/// <summary>What to change of a link; null: leave it.</summary>
public sealed record LinkChange
{
    public bool? Up { get; init; }
    public int? Mtu { get; init; }
    public MacAddress? Mac { get; init; }
    public string? Name { get; init; }

    /// <summary>IFALIAS, at most 255 octets; empty removes it.</summary>
    public string? Alias { get; init; }

    /// <summary>Index of the bridge to join; 0: leave it.</summary>
    public int? Master { get; init; }
    public int? NetnsFd { get; init; }
    public BridgePortOptions? Port { get; init; }
    public BridgeOptions? Bridge { get; init; }
}

/// <summary>A link by name (when the index is not known yet, as inside one batch) or by index.</summary>
public readonly record struct LinkRef(int Index, string? Name)
{
    public static implicit operator LinkRef(int index) => new(index, null);

    public static implicit operator LinkRef(string name) => new(0, name);

    public override string ToString() => Name ?? $"#{Index}";
}
