using System.Net;
using System.Text.Json.Serialization;

namespace OverlayNet.Contracts;

/// <summary>Who decides which node has a floating VIP.</summary>
public enum FloatingVipMode
{
    /// <summary>The registry's lease: never two owners.</summary>
    Fenced,

    /// <summary>Plain VRRP, as keepalived: a partition or a frozen node gives two owners.</summary>
    Vrrp,
}

/// <summary>How long a lease lasts and how fast a crash is noticed; the figures are in docs/fencing.md.</summary>
public enum FenceProfile
{
    /// <summary>Outlives the loss of the registry's leader; a crash costs at most 4.5 s.</summary>
    Default,

    /// <summary>A crash costs less than a second; the loss of the registry's leader drops the VIP unless the policy is hold-all.</summary>
    Fast,
}

/// <summary>What a holder does without the registry.</summary>
public enum StoreLoss
{
    /// <summary>Silent at the deadline, and nobody takes over.</summary>
    Release,

    /// <summary>Goes on while every peer promises not to acquire.</summary>
    HoldAll,

    /// <summary>Plain VRRP, alarmed.</summary>
    Vrrp,
}

/// <summary>What a tracked object is.</summary>
public enum VipTrackKind
{
    /// <summary>A network interface that must be up and have a carrier.</summary>
    Interface,

    /// <summary>A process of that name (its comm) must run.</summary>
    Process,

    /// <summary>A program that must end with 0.</summary>
    Script,

    /// <summary>A prefix that the main routing table must have.</summary>
    Route,
}

/// <summary>An object whose health changes a node's priority for a floating VIP, with keepalived's meaning of weight.</summary>
public sealed record VipTrack
{
    public VipTrackKind Kind { get; init; }

    /// <summary>The interface, the process's name, the script's command line, or the prefix.</summary>
    public required string Target { get; init; }

    /// <summary>0: down is a fault; positive: added while up; negative: subtracted while down.</summary>
    public int Weight { get; init; }

    /// <summary>Between two runs of a script, in milliseconds.</summary>
    public int IntervalMs { get; set; } = 1000;

    /// <summary>Observations in a row before it counts as up.</summary>
    public int Rise { get; set; } = 1;

    /// <summary>Observations in a row before it counts as down.</summary>
    public int Fall { get; set; } = 1;
}

/// <summary>A port that a floating VIP passes to a service's balancer on the holder.</summary>
public sealed record FloatingVipPort
{
    public PortProtocol Protocol { get; init; }

    /// <summary>At the floating VIP.</summary>
    public required int Port { get; init; }

    /// <summary>Of the service.</summary>
    public required int Target { get; init; }
}

/// <summary>An address that moves between nodes: a VRRP virtual router, with or without the fence.</summary>
public sealed record FloatingVip
{
    public required string Id { get; init; }
    public required string Name { get; init; }

    /// <summary><c>ADDRESS/PREFIX</c> of either family; both families are one virtual router each that move together.</summary>
    public required IReadOnlyList<string> Addresses { get; init; }

    /// <summary>VRID, 1-255.</summary>
    public required int Vrid { get; init; }

    /// <summary>Interface on every node that may hold it.</summary>
    public required string Interface { get; init; }
    public FloatingVipMode Mode { get; init; }

    /// <summary>Of nodes that <see cref="Priorities"/> does not name; 0: those do not take part.</summary>
    public int Priority { get; set; } = 100;

    /// <summary>By node id; 0: never.</summary>
    public IReadOnlyDictionary<string, int> Priorities { get; set; } = new Dictionary<string, int>();

    /// <summary>Nodes that <see cref="Priorities"/> does not name take part only with all these labels.</summary>
    public IReadOnlyDictionary<string, string> NodeLabels { get; set; } = NoLabels.Instance;

    /// <summary>Milliseconds, in steps of 10.</summary>
    public int AdvertMs { get; set; } = 1000;

    /// <summary>VRRP version, 3 or 2.</summary>
    public int Version { get; set; } = 3;

    /// <summary>Advertisements go to the other nodes' addresses instead of the multicast group.</summary>
    public bool Unicast { get; init; }
    public FenceProfile Profile { get; init; }
    public StoreLoss StoreLoss { get; init; }
    public bool Preempt { get; set; } = true;
    public int PreemptDelayMs { get; init; }

    /// <summary>VIPs of one group have one lease and move together; null: alone.</summary>
    public string? SyncGroup { get; init; }
    public IReadOnlyList<VipTrack> Tracks { get; set; } = [];

    /// <summary>Program run at every change of state with NAME STATE PRIORITY EPOCH; null: none.</summary>
    public string? Notify { get; init; }

    /// <summary>The addresses live on a macvlan with the virtual router's MAC address (RFC 9568 section 7.3).</summary>
    public bool Macvlan { get; init; }

    /// <summary>Id of the service whose balancer answers <see cref="Ports"/>; null: the addresses are the node's own while it holds them.</summary>
    public string? ServiceId { get; init; }
    public IReadOnlyList<FloatingVipPort> Ports { get; set; } = [];
    public IReadOnlyDictionary<string, string> Labels { get; set; } = NoLabels.Instance;
    public long CreatedAtUnixMs { get; init; }

    /// <summary>The lease's key: one lease per set of VIPs that move together.</summary>
    [JsonIgnore]
    public string LeaseSet => SyncGroup is null ? Id : $"group-{SyncGroup}";

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>
/// Who holds a set of floating VIPs, and the epoch that everyone who acts for it compares: written with every acquisition and
/// release, not with renewals.
/// </summary>
public sealed record VipHolder
{
    /// <summary><see cref="FloatingVip.LeaseSet"/>.</summary>
    public required string Set { get; init; }

    /// <summary>Null: released.</summary>
    public string? NodeId { get; init; }
    public long Incarnation { get; init; }
    public long Epoch { get; init; }

    /// <summary>Addresses that the holder's advertisements come from.</summary>
    public IReadOnlyList<IPAddress> Sources { get; set; } = [];
    public long SinceUnixMs { get; init; }
}

/// <summary>From the CLI to a manager.</summary>
public sealed record VipCreateRequest
{
    public required string Name { get; init; }

    /// <summary><c>ADDRESS[/PREFIX]</c>.</summary>
    public required List<string> Addresses { get; init; }
    public required int Vrid { get; init; }
    public required string Interface { get; init; }
    public FloatingVipMode Mode { get; init; }

    /// <summary><c>N</c> for every node, <c>NODE=N</c> for one.</summary>
    public List<string>? Priorities { get; init; }
    public Dictionary<string, string>? NodeLabels { get; init; }
    public int AdvertMs { get; set; } = 1000;
    public int Version { get; set; } = 3;
    public bool Unicast { get; init; }
    public FenceProfile Profile { get; init; }
    public StoreLoss StoreLoss { get; init; }
    public bool Preempt { get; set; } = true;
    public int PreemptDelayMs { get; init; }
    public string? SyncGroup { get; init; }

    /// <summary><c>interface:NAME[,weight=N]</c>, <c>process:</c>, <c>script:</c>, <c>route:</c>.</summary>
    public List<string>? Tracks { get; init; }
    public string? Notify { get; init; }
    public bool Macvlan { get; init; }

    /// <summary>Name or id.</summary>
    public string? Service { get; init; }

    /// <summary>Name or id of the service's network, where the service's name alone is ambiguous.</summary>
    public string? Network { get; init; }

    /// <summary><c>[PORT:]SERVICE-PORT[/PROTO]</c>.</summary>
    public List<string>? Ports { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

public sealed record VipMoveRequest
{
    /// <summary>Name or id.</summary>
    public required string Node { get; init; }
}

/// <summary>The lease as it stands in the registry. Written by the holder with every renewal.</summary>
public sealed record VipLease
{
    public string? Holder { get; init; }
    public long Incarnation { get; init; }
    public long Epoch { get; init; }
    public int TtlMs { get; init; }
    public int Priority { get; init; }
    public StoreLoss Policy { get; init; }
    public int MaxHoldMs { get; init; }
    public IReadOnlyList<string> Peers { get; set; } = [];
    public string? ReleasedTo { get; init; }
    public bool Pinned { get; init; }
}

/// <summary>A lease as it was read.</summary>
public sealed record VipLeaseReading
{
    public required string Set { get; init; }

    /// <summary>Null: no such key.</summary>
    public VipLease? Lease { get; init; }

    /// <summary>Of the key's last change; 0 when absent.</summary>
    public long Revision { get; init; }
    public long Incarnation { get; init; }
}

/// <summary>From an agent to a manager: write the lease if its key is still at that revision of that incarnation.</summary>
public sealed record VipLeaseCommit
{
    public required VipLease Lease { get; init; }
    public required long GuardRevision { get; init; }
    public required long GuardIncarnation { get; init; }

    /// <summary>Addresses that this node's advertisements come from.</summary>
    public IReadOnlyList<IPAddress> Sources { get; set; } = [];
}

public enum VipLeaseOutcome
{
    Committed,
    Conflict,
    Unknown,
}

public sealed record VipLeaseCommitted
{
    public VipLeaseOutcome Outcome { get; init; }

    /// <summary>With <see cref="VipLeaseOutcome.Committed"/>: the key's new revision.</summary>
    public long Revision { get; init; }
}

/// <summary>A wish to hold a set.</summary>
public sealed record VipBid
{
    public required string NodeId { get; init; }
    public int Priority { get; init; }

    /// <summary>An operator's move: priorities do not matter.</summary>
    public bool Forced { get; init; }
}

/// <summary>One line (NDJSON) of <c>GET /v1/vip-leases</c>: a lease, a bid, or with neither a sign of life at least every second.</summary>
public sealed record VipLeaseEvent
{
    public required string Set { get; init; }
    public VipLeaseReading? Reading { get; init; }
    public VipBid? Bid { get; init; }

    /// <summary>Of the registry: where a watcher that comes back goes on.</summary>
    public long Revision { get; init; }
}

/// <summary>A holder without the registry asks a peer not to acquire (policy hold-all).</summary>
public sealed record VipPromiseQuestion
{
    public required string Set { get; init; }

    /// <summary>Id of the node that asks.</summary>
    public required string Holder { get; init; }
    public long Round { get; init; }
    public long Incarnation { get; init; }
    public long Epoch { get; init; }

    /// <summary>For how long, in milliseconds.</summary>
    public int TtlMs { get; init; }
}

public sealed record VipPromiseAnswer
{
    /// <summary>Id of the node that answers.</summary>
    public required string Peer { get; init; }
    public long Round { get; init; }
    public bool Granted { get; init; }

    /// <summary>The highest version the peer knows.</summary>
    public long Incarnation { get; init; }
    public long Epoch { get; init; }
}

/// <summary>A VRRP router heard on the interface.</summary>
public sealed record VipPeer
{
    public required IPAddress Address { get; init; }

    /// <summary>The node it is; null: none of this cluster.</summary>
    public string? Node { get; init; }
    public int Priority { get; init; }
    public int AdvertMs { get; init; }
    public double SecondsAgo { get; init; }
}

/// <summary>What <c>overlaynet vip explain</c> shows of one VIP on one node.</summary>
public sealed record VipExplanation
{
    public required string Name { get; init; }
    public required string Id { get; init; }
    public required IReadOnlyList<string> Addresses { get; init; }
    public int Vrid { get; init; }
    public required string Interface { get; init; }
    public FloatingVipMode Mode { get; init; }

    /// <summary>The node that answers here.</summary>
    public required string Node { get; init; }

    /// <summary>fenced, candidate, holder, unfenced; with plain VRRP initialize, backup, active; or absent, refused.</summary>
    public required string State { get; init; }

    /// <summary>Why it is so, in words.</summary>
    public string Reason { get; set; } = "";
    public double? SecondsInState { get; init; }

    /// <summary>The holder as the registry has it.</summary>
    public string? Holder { get; init; }
    public long Incarnation { get; init; }
    public long Epoch { get; init; }

    /// <summary>What is left of the lease as this node counts it, in milliseconds; null: nobody holds one.</summary>
    public double? LeaseLeftMs { get; init; }

    /// <summary>What is left until the kernel shuts this node's gate, in milliseconds; null: shut.</summary>
    public double? GateLeftMs { get; init; }

    /// <summary>Which gates keep it.</summary>
    public string Gate { get; set; } = "";

    /// <summary>This node's priority with tracking applied; 0: it must not hold the VIP.</summary>
    public int Priority { get; init; }
    public string PriorityReason { get; set; } = "";
    public FenceProfile Profile { get; init; }
    public StoreLoss StoreLoss { get; init; }
    public string? SyncGroup { get; init; }
    public string? Service { get; init; }
    public IReadOnlyList<VipPeer> Peers { get; set; } = [];

    /// <summary>What an operator must mend, newest last.</summary>
    public IReadOnlyList<string> Alarms { get; set; } = [];
    public long Revision { get; init; }
}
