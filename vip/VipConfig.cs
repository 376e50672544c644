using System.Net;
using OverlayNet.Kernel;

namespace OverlayNet.Vip;

/// <summary>Everything the balancers of one node are to do: plain desired state, applied again and again.</summary>
public sealed record VipConfig
{
    public static VipConfig Empty { get; } = new();

    /// <summary>The registry revision this state comes from.</summary>
    public long Revision { get; init; }
    public IReadOnlyList<VipNetwork> Networks { get; init; } = [];
}

/// <summary>One overlay network on this node, as the balancers see it.</summary>
public sealed record VipNetwork
{
    public required string Id { get; init; }
    public required string Name { get; init; }

    /// <summary>Names tables and chains: unique among the networks a container can be on.</summary>
    public required int Vni { get; init; }

    /// <summary>Name (below /run/netns) of the network's own namespace on this node.</summary>
    public required string Netns { get; init; }
    public IPNetwork? Subnet4 { get; init; }
    public IPNetwork? Subnet6 { get; init; }

    /// <summary>The node's own addresses in the subnet: what a node's own traffic and translated ingress come from.</summary>
    public IPAddress? NodeAddress4 { get; init; }
    public IPAddress? NodeAddress6 { get; init; }

    /// <summary>Interface inside the network's namespace that leads to the host, by which published ports come in; without it nothing is published.</summary>
    public string Uplink { get; init; } = "up0";

    /// <summary>The endpoints on this node: whatever must be in place where traffic starts or ends.</summary>
    public IReadOnlyList<VipTask> Tasks { get; init; } = [];
    public IReadOnlyList<VipService> Services { get; init; } = [];
}

/// <summary>An endpoint on this node. Its namespace belongs to a container: open it only for the length of one operation.</summary>
public sealed record VipTask
{
    public required string EndpointId { get; init; }

    /// <summary>Path of the namespace.</summary>
    public required string NetnsPath { get; init; }

    /// <summary>Interface inside the namespace.</summary>
    public required string Interface { get; init; }

    /// <summary>The bridge port in the network's namespace.</summary>
    public required string BridgePort { get; init; }
    public IPAddress? Address4 { get; init; }
    public IPAddress? Address6 { get; init; }
    public MacAddress Mac { get; init; }
}

/// <summary>A service's virtual addresses and the real servers behind them.</summary>
public sealed record VipService
{
    public required string Id { get; init; }
    public required string Name { get; init; }

    /// <summary>At most one address of each family.</summary>
    public required IReadOnlyList<IPAddress> Addresses { get; init; }

    /// <summary>Empty: every TCP and UDP port, to the same port of a real server.</summary>
    public IReadOnlyList<VipPort> Ports { get; init; } = [];

    /// <summary>rr, wrr, lc, wlc, sh, mh, sed or nq; those that count connections need the ipvs writer.</summary>
    public string Scheduler { get; init; } = "wrr";

    /// <summary>Session affinity by client address, in seconds; 0: none.</summary>
    public int AffinitySeconds { get; init; }

    /// <summary>auto, ipvs, nft or ebpf: the service's own wish.</summary>
    public string Balancer { get; init; } = "auto";

    /// <summary>How long flows of a real server with weight 0, or of one removed on purpose, may go on, in seconds.</summary>
    public int DrainSeconds { get; init; } = 30;
    public IReadOnlyList<RealServer> RealServers { get; init; } = [];

    /// <summary>Floating addresses whose ports this service answers, on the node that holds them.</summary>
    public IReadOnlyList<VipFront> Fronts { get; init; } = [];
}

/// <summary>A port of a floating VIP that a service answers.</summary>
/// <param name="Protocol">IPPROTO_TCP or IPPROTO_UDP.</param>
/// <param name="Port">At the floating VIP.</param>
/// <param name="Target">At the real server.</param>
/// <param name="Inside">By which port it comes into the network's namespace: no published port of the network has this number.</param>
public readonly record struct VipFront(IPAddress Address, byte Protocol, ushort Port, ushort Target, ushort Inside);

/// <summary>One port of a VIP.</summary>
/// <param name="Protocol">IPPROTO_TCP or IPPROTO_UDP.</param>
/// <param name="Port">At the VIP, host byte order.</param>
/// <param name="Target">At the real server, host byte order.</param>
/// <param name="Published">Answered on the node's own addresses too; 0: not.</param>
/// <param name="PublishHostOnly">Published only on nodes that run a real server.</param>
/// <param name="PublishLocalOnly">Published on every node, but only with the real servers there: one without any refuses.</param>
public readonly record struct VipPort(byte Protocol, ushort Port, ushort Target, ushort Published = 0, bool PublishHostOnly = false, bool PublishLocalOnly = false)
{
    public const byte Tcp = 6, Udp = 17;
}

/// <summary>An endpoint behind a service.</summary>
public sealed record RealServer
{
    public required string EndpointId { get; init; }
    public IPAddress? Address4 { get; init; }
    public IPAddress? Address6 { get; init; }
    public MacAddress Mac { get; init; }

    /// <summary>0-65535, health and drain already in it; 0: live flows go on, no new ones.</summary>
    public int Weight { get; init; }

    /// <summary>The endpoint lives on this node.</summary>
    public bool Local { get; init; }
}
