using System.Net;
using System.Text.Json.Serialization;

namespace OverlayNet.Contracts;

/// <summary>What a node may do in the cluster.</summary>
public enum NodeRole
{
    Worker,
    Manager,
}

/// <summary>Whether a node takes work, in Swarm's terms.</summary>
public enum NodeAvailability
{
    Active,
    Pause,
    Drain,
}

/// <summary>
/// What the managers know of a node's daemon. <see cref="Unmanaged"/>: its daemon is silent while its endpoints may live on.
/// </summary>
public enum NodeState
{
    Ready,
    Unmanaged,
    Down,
}

/// <summary>How a service's name resolves: to its virtual IP or to its endpoints.</summary>
public enum EndpointMode
{
    Vip,
    Dnsrr,
}

/// <summary>Transport of a service port.</summary>
public enum PortProtocol
{
    Tcp,
    Udp,
}

/// <summary>Where a published port answers: on every node, or only where a task runs.</summary>
public enum PublishMode
{
    Ingress,
    Host,
}

/// <summary>Which endpoints a connection to a published port may go to: all of them, or only those on the node it came to.</summary>
public enum PublishPolicy
{
    Cluster,

    /// <summary>The client's address is always kept; a node without an endpoint refuses.</summary>
    Local,
}

/// <summary>Which writer carries a service's VIP on a node.</summary>
public enum BalancerKind
{
    Auto,
    Ipvs,
    Nft,
    Ebpf,
}

/// <summary>An endpoint's place in its life; weights follow from it (see docs/services.md).</summary>
public enum EndpointState
{
    /// <summary>An address is allocated; the kernel path is not there yet. Never balanced to, never in DNS.</summary>
    Starting,
    Healthy,

    /// <summary>Back after a failure: takes a reduced share.</summary>
    Recovering,

    /// <summary>Weight 0: live flows go on, new ones go elsewhere.</summary>
    Draining,
    Unhealthy,
    Unreachable,
    Maintenance,
}

/// <summary>Whether an endpoint is a container's attachment or a node's own in-subnet address.</summary>
public enum EndpointKind
{
    Container,
    Node,
}

/// <summary>A machine that runs the daemon.</summary>
public sealed record Node
{
    public required string Id { get; init; }
    public required string Name { get; init; }

    /// <summary>The data centre's name; part of the node's identity and of full DNS names.</summary>
    public required string Dc { get; init; }
    public NodeRole Role { get; init; }
    public NodeAvailability Availability { get; init; }
    public NodeState State { get; init; }

    /// <summary>The underlay address: the VTEP and the address other nodes reach this one at.</summary>
    public required IPAddress Address { get; init; }

    /// <summary>TCP port of this node's API for other nodes.</summary>
    public int ApiPort { get; set; } = 7373;

    /// <summary>MTU of the underlay interface in bytes.</summary>
    public int UnderlayMtu { get; set; } = 1500;

    /// <summary>Prefixes the node's own routing table has, defaults and our own networks excluded: subnets must not overlap them.</summary>
    public IReadOnlyList<IPNetwork> HostRoutes { get; set; } = [];

    /// <summary>Kernel features found at the node's start, by name.</summary>
    public IReadOnlyList<string> Features { get; set; } = [];
    public string Version { get; set; } = "";
    public int ProtocolVersion { get; set; } = Protocol.Version;
    public IReadOnlyDictionary<string, string> Labels { get; set; } = NoLabels.Instance;

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>An overlay network.</summary>
public sealed record Network
{
    public required string Id { get; init; }
    public required string Name { get; init; }

    /// <summary>VXLAN network identifier, 1..2^24-1; allocated from 4096 when not asked for.</summary>
    public required int Vni { get; init; }
    public IPNetwork? Subnet4 { get; init; }
    public IPNetwork? Subnet6 { get; init; }

    /// <summary>The part of <see cref="Subnet4"/> that addresses are handed out from; null: all of it.</summary>
    public IPNetwork? IpRange4 { get; init; }
    public IPAddress? Gateway4 { get; init; }
    public IPAddress? Gateway6 { get; init; }

    /// <summary>MAC of the gateway, the same on every node, colon-separated hex.</summary>
    public required string GatewayMac { get; init; }

    /// <summary>MTU inside the network in bytes; 0: the underlay's less 50 (IPv4 underlay) or 70 (IPv6).</summary>
    public int Mtu { get; init; }

    /// <summary>No way to the outside: no default route, no egress NAT.</summary>
    public bool Internal { get; init; }
    public bool AllowOverlap { get; init; }
    public IReadOnlyDictionary<string, string> Labels { get; set; } = NoLabels.Instance;
    public long CreatedAtUnixMs { get; init; }

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>A port a service answers on: at its VIP on <see cref="Port"/>, sent to <see cref="Target"/> of an endpoint.</summary>
public sealed record ServicePort
{
    /// <summary>A name for SRV (<c>_name._proto.service</c>); null: derived from well-known ports (80 http, 443 https, 53 dns).</summary>
    public string? Name { get; init; }
    public PortProtocol Protocol { get; init; }

    /// <summary>The port at the VIP.</summary>
    public required int Port { get; init; }

    /// <summary>The port at the endpoint.</summary>
    public required int Target { get; init; }

    /// <summary>The port every node answers on from outside; 0: not published.</summary>
    public int Published { get; init; }
    public PublishMode Mode { get; init; }

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>What becomes of a lost endpoint (see <see cref="DisconnectPolicy"/>), as in Nomad's disconnect block.</summary>
public enum OnReturn
{
    /// <summary>Its name and addresses stay its own until somebody else asks for them; if nobody has, it is taken back when its node returns.</summary>
    Reconcile,

    /// <summary>It is removed, so that its name and addresses are free for a replacement; its node takes it down when it returns.</summary>
    Replace,
}

/// <summary>What becomes of a service's endpoints on a node that is cut off. Whole seconds; 0: never.</summary>
public sealed record DisconnectPolicy
{
    /// <summary>How long an endpoint whose node is silent has been reached by nobody when it counts as lost.</summary>
    public int LostAfterSeconds { get; init; }
    public OnReturn OnReturn { get; init; }

    /// <summary>How long no manager with a majority has answered a node when that node itself stops the service: its own endpoints and what its clients use of it.</summary>
    public int StopOnClientAfterSeconds { get; init; }

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>A service: a name with a VIP (or none, in DNSRR mode) in front of endpoints of one network.</summary>
public sealed record Service
{
    public required string Id { get; init; }
    public required string Name { get; init; }
    public required string NetworkId { get; init; }
    public EndpointMode EndpointMode { get; init; }

    /// <summary>Null in DNSRR mode and on networks without that family.</summary>
    public IPAddress? Vip4 { get; init; }
    public IPAddress? Vip6 { get; init; }

    /// <summary>Empty: every port of the VIP goes to the same port of an endpoint.</summary>
    public IReadOnlyList<ServicePort> Ports { get; set; } = [];
    public IReadOnlyList<string> Aliases { get; set; } = [];

    /// <summary>rr, wrr, lc, wlc, sh, mh, sed or nq.</summary>
    public string Scheduler { get; set; } = "wrr";

    /// <summary>Session affinity by client address, in seconds; 0: none.</summary>
    public int AffinitySeconds { get; init; }
    public BalancerKind Balancer { get; init; }

    /// <summary>How long a drained endpoint's live flows may go on, in seconds.</summary>
    public int DrainSeconds { get; set; } = 30;

    /// <summary>How long an endpoint that has become healthy takes to reach its full weight, in seconds; 0: at once.</summary>
    public int SlowStartSeconds { get; init; }

    /// <summary>Which endpoints connections from outside may go to.</summary>
    public PublishPolicy PublishPolicy { get; init; }

    /// <summary>What is asked of endpoints before they get traffic; null: nothing, being attached is enough.</summary>
    public HealthCheck? Health { get; init; }

    /// <summary>What becomes of endpoints on a node that is cut off; null: they stay, and come back with their node.</summary>
    public DisconnectPolicy? Disconnect { get; init; }

    /// <summary><c>tasks.NAME</c> also lists endpoints that are starting or fail their checks, for peers that must find each other first.</summary>
    public bool PublishNotReady { get; init; }
    public IReadOnlyDictionary<string, string> Labels { get; set; } = NoLabels.Instance;
    public long CreatedAtUnixMs { get; init; }

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>A container's (or a node's own) attachment to a network.</summary>
public sealed record Endpoint
{
    public required string Id { get; init; }
    public required string Name { get; init; }
    public EndpointKind Kind { get; init; }
    public required string NodeId { get; init; }
    public required string NetworkId { get; init; }
    public string? ServiceId { get; init; }
    public IPAddress? Address4 { get; init; }
    public IPAddress? Address6 { get; init; }

    /// <summary>Colon-separated hex.</summary>
    public required string Mac { get; init; }
    public EndpointState State { get; init; }

    /// <summary>Since when it is in <see cref="State"/>, by the manager's clock; 0: from before this was recorded.</summary>
    public long StateSinceUnixMs { get; init; }

    /// <summary>While recovering: how many eighths of its weight it has, 2-7; otherwise 0.</summary>
    public int RampEighths { get; init; }

    /// <summary>The weight an operator set, 0-65535; what is balanced by also depends on <see cref="State"/>.</summary>
    public int Weight { get; set; } = 1;
    /// <summary>Its own check, where it differs from its service's; null: the service's.</summary>
    public HealthCheck? Health { get; init; }
    public IReadOnlyList<string> Aliases { get; set; } = [];

    /// <summary>
    /// Path of the network namespace on the endpoint's node; empty for a node's own endpoint, and while an address is only
    /// reserved for a container that a runtime is about to start.
    /// </summary>
    public string Netns { get; set; } = "";

    /// <summary>
    /// Which namespace the path stood for when it was attached, for paths that come to stand for others (<c>/proc/PID/ns/net</c>):
    /// the boot's id and the kernel's cookie of the namespace. Null: whatever the path stands for.
    /// </summary>
    public string? NetnsIdentity { get; init; }

    /// <summary>Name of the interface inside the namespace.</summary>
    public string Interface { get; set; } = "eth0";
    public IReadOnlyDictionary<string, string> Labels { get; set; } = NoLabels.Instance;
    public long CreatedAtUnixMs { get; init; }

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>An empty label set, shared so that records without labels compare equal cheaply.</summary>
public static class NoLabels
{
    public static IReadOnlyDictionary<string, string> Instance { get; } = new Dictionary<string, string>();
}
