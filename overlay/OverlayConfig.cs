using System.Net;
using OverlayNet.Kernel;

namespace OverlayNet.Overlay;

/// <summary>The overlay networks one node shall have: desired state, as plain immutable data.</summary>
public sealed record OverlayConfig
{
    /// <summary>Part of the ownership mark of everything we make, so that two clusters on one machine never touch each other's.</summary>
    public required string ClusterId { get; init; }

    /// <summary>This node's id; part of the ownership mark.</summary>
    public required string NodeId { get; init; }

    /// <summary>The part of the node's id that names of kernel objects carry; at most six characters.</summary>
    public required string NodeShortId { get; init; }

    /// <summary>This node's VTEP; its family is the underlay's.</summary>
    public required IPAddress UnderlayAddress { get; init; }

    /// <summary>MTU of the underlay interface in bytes.</summary>
    public int UnderlayMtu { get; init; } = 1500;

    /// <summary>UDP port of VXLAN, the same on every node.</summary>
    public int VxlanPort { get; init; } = 4789;

    /// <summary>Addresses that the node's resolver has in every network's namespace besides the gateway: the same on all nodes and networks.</summary>
    public IReadOnlyList<IPAddress> ResolverAddresses { get; init; } = [];

    public IReadOnlyList<OverlayNetwork> Networks { get; init; } = [];
}

/// <summary>One overlay network on this node.</summary>
public sealed record OverlayNetwork
{
    public required string Name { get; init; }

    /// <summary>Name of the network's own namespace in <c>/run/netns</c>: <c>on-NODE-NETWORK</c>.</summary>
    public required string Netns { get; init; }

    /// <summary>VXLAN network identifier, 1..2^24-1.</summary>
    public required int Vni { get; init; }
    public IPNetwork? Subnet4 { get; init; }
    public IPNetwork? Subnet6 { get; init; }

    /// <summary>The same on every node; never the source of anything.</summary>
    public IPAddress? Gateway4 { get; init; }

    /// <inheritdoc cref="Gateway4"/>
    public IPAddress? Gateway6 { get; init; }

    /// <summary>The bridge's MAC, the same on every node.</summary>
    public required MacAddress GatewayMac { get; init; }

    /// <summary>What this node originates inside the network comes from here; null: it originates nothing.</summary>
    public NodeEndpoint? Node { get; init; }

    /// <summary>Bytes; 0: the underlay's less the encapsulation (<see cref="OverlayMtu"/>).</summary>
    public int Mtu { get; init; }

    /// <summary>No way to the outside: no default route in containers, no NAT.</summary>
    public bool Internal { get; init; }

    /// <summary>
    /// Processes of the host itself reach the network's addresses: by a route through the transit, arriving from the node's
    /// own address. Not for internal networks, nor for one of several with the same subnet.
    /// </summary>
    public bool HostAccess { get; init; }

    /// <summary>Refused until encryption is real: such a network is taken down rather than carried in the clear.</summary>
    public bool Encrypted { get; init; }

    /// <summary>Containers on this node.</summary>
    public IReadOnlyList<LocalEndpoint> Endpoints { get; init; } = [];

    /// <summary>Containers and nodes' own endpoints on other nodes.</summary>
    public IReadOnlyList<RemoteEndpoint> Remotes { get; init; } = [];

    /// <summary>Further addresses that ARP and ND are answered for on this node, such as virtual IPs.</summary>
    public IReadOnlyList<ExtraNeighbour> ExtraNeighbours { get; init; } = [];
}

/// <summary>A node's own address in a network: source of what the node originates there.</summary>
public sealed record NodeEndpoint
{
    public IPAddress? Address4 { get; init; }
    public IPAddress? Address6 { get; init; }
    public required MacAddress Mac { get; init; }
}

/// <summary>A container on this node.</summary>
public sealed record LocalEndpoint
{
    public required string Id { get; init; }

    /// <summary>Name of the bridge port in the network's namespace; at most 15 octets.</summary>
    public required string HostInterface { get; init; }

    /// <summary>Path of the container's network namespace.</summary>
    public required string Netns { get; init; }

    /// <summary>As <see cref="NamespaceIdentity"/> gives it; null: whatever namespace the path leads to.</summary>
    public string? NetnsIdentity { get; init; }

    /// <summary>Wanted name inside; the next free number is taken when it is in use (eth0, then eth1).</summary>
    public string Interface { get; init; } = "eth0";

    /// <summary>
    /// A runtime configures the inside itself (address, routes, name of the interface): it is only looked after from the
    /// network's side, unless the pair is lost and has to be made again.
    /// </summary>
    public bool RuntimeConfigured { get; init; }

    /// <summary>
    /// Name of the container's end in the host's namespace, where a runtime is going to take it from into
    /// <see cref="Netns"/>, which may not be there yet. Null: the container is there, or has been.
    /// </summary>
    public string? HandOver { get; init; }
    public required MacAddress Mac { get; init; }
    public IPAddress? Address4 { get; init; }
    public IPAddress? Address6 { get; init; }
}

/// <summary>An endpoint on another node.</summary>
public sealed record RemoteEndpoint
{
    public required MacAddress Mac { get; init; }

    /// <summary>The underlay address of its node.</summary>
    public required IPAddress Vtep { get; init; }
    public IReadOnlyList<IPAddress> Addresses { get; init; } = [];
}

/// <summary>An address that the bridge answers ARP or ND for.</summary>
/// <param name="Vtep">Where frames to the MAC go; null: nowhere (something at the client's port deals with them before).</param>
public sealed record ExtraNeighbour(IPAddress Address, MacAddress Mac, IPAddress? Vtep = null);
