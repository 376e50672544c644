using System.Net;

namespace OverlayNet.Contracts;

/// <summary>The body of every answer outside 2xx.</summary>
public sealed record ErrorBody
{
    /// <summary>A stable word for scripts, such as <c>subnet-overlap</c>, <c>name-taken</c>, <c>not-found</c>, <c>no-manager</c>.</summary>
    public required string Code { get; init; }

    /// <summary>One sentence naming the field, the value and what is wrong with it.</summary>
    public required string Message { get; init; }
    public string? Field { get; init; }
    public string? Value { get; init; }

    /// <summary>What to do next.</summary>
    public string? Remedy { get; init; }
}

public sealed record NetworkCreateRequest
{
    public required string Name { get; init; }

    /// <summary>CIDR; null: the next free /24 of 10.96.0.0/12 (unless only <see cref="Subnet6"/> is given).</summary>
    public string? Subnet { get; init; }
    public string? Subnet6 { get; init; }
    public string? IpRange { get; init; }
    public string? Gateway { get; init; }
    public string? Gateway6 { get; init; }
    public int? Vni { get; init; }
    public int Mtu { get; init; }
    public bool Internal { get; init; }
    public bool Encrypted { get; init; }
    public bool AllowOverlap { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

public sealed record ServiceCreateRequest
{
    public required string Name { get; init; }

    /// <summary>Name or id.</summary>
    public required string Network { get; init; }

    /// <summary><c>[PUB:]TARGET[/PROTO]</c>, or <c>name=...</c> in front for SRV.</summary>
    public List<string>? Ports { get; init; }
    public EndpointMode EndpointMode { get; init; }
    public string? Vip { get; init; }
    public string? Vip6 { get; init; }
    public List<string>? Aliases { get; init; }
    public string? Scheduler { get; init; }
    public int AffinitySeconds { get; init; }
    public BalancerKind Balancer { get; init; }
    public PublishMode PublishMode { get; init; }
    public PublishPolicy PublishPolicy { get; init; }
    public int? DrainSeconds { get; init; }
    public int SlowStartSeconds { get; init; }

    /// <summary>A check such as <c>http:/healthz</c>, then settings such as <c>interval=2s</c>; see docs/health.md.</summary>
    public List<string>? Health { get; init; }
    public bool? PublishNotReady { get; init; }

    /// <summary>Durations such as <c>90s</c>, <c>10m</c>, <c>2h</c>; 0: never. See <see cref="DisconnectPolicy"/>.</summary>
    public string? LostAfter { get; init; }
    public OnReturn? OnReturn { get; init; }

    /// <inheritdoc cref="LostAfter"/>
    public string? StopOnClientAfter { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

/// <summary>Fields left null stay as they are.</summary>
public sealed record ServiceUpdateRequest
{
    public List<string>? Ports { get; init; }
    public EndpointMode? EndpointMode { get; init; }
    public List<string>? Aliases { get; init; }
    public string? Scheduler { get; init; }
    public int? AffinitySeconds { get; init; }
    public BalancerKind? Balancer { get; init; }
    public PublishPolicy? PublishPolicy { get; init; }
    public int? DrainSeconds { get; init; }
    public int? SlowStartSeconds { get; init; }

    /// <summary>Another check with its settings, settings alone to change some, or <c>none</c>.</summary>
    public List<string>? Health { get; init; }
    public bool? PublishNotReady { get; init; }

    /// <summary>Durations such as <c>90s</c>, <c>10m</c>, <c>2h</c>; 0: never. See <see cref="DisconnectPolicy"/>.</summary>
    public string? LostAfter { get; init; }
    public OnReturn? OnReturn { get; init; }

    /// <inheritdoc cref="LostAfter"/>
    public string? StopOnClientAfter { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

/// <summary>From the CLI or a runtime to the node's own daemon.</summary>
public sealed record AttachRequest
{
    public required string Network { get; init; }
    public string? Service { get; init; }

    /// <summary>Absolute path of a network namespace (<c>/run/netns/x</c>, <c>/proc/PID/ns/net</c>).</summary>
    public required string Netns { get; init; }

    /// <summary>Null: derived from the namespace's file name.</summary>
    public string? Name { get; init; }
    public string? Ip { get; init; }
    public string? Ip6 { get; init; }

    /// <summary>Colon-separated hex; null: one that follows from the address.</summary>
    public string? Mac { get; init; }
    public List<string>? Aliases { get; init; }
    /// <summary>A check of its own, or settings that change its service's for it; see docs/health.md.</summary>
    public List<string>? Health { get; init; }
    public int? Weight { get; init; }
    public string? Interface { get; init; }

    /// <summary>Write <c>/etc/netns/NAME/resolv.conf</c> for a named namespace, so that <c>ip netns exec</c> sees our resolver.</summary>
    public bool WriteResolvConf { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

public sealed record AttachResponse
{
    public required Endpoint Endpoint { get; init; }
    public required Network Network { get; init; }

    /// <summary>Addresses of the network's resolver, IPv4 first.</summary>
    public IReadOnlyList<IPAddress> Dns { get; set; } = [];

    /// <summary>The cluster's DNS domain; names of the network end in NETWORK and this.</summary>
    public string ClusterDomain { get; set; } = "";
    public int Mtu { get; init; }
    public long Revision { get; init; }
}

/// <summary>From a node's agent to a manager: allocate addresses and record the endpoint (state <see cref="EndpointState.Starting"/>).</summary>
public sealed record EndpointCreateRequest
{
    public required string Id { get; init; }
    public required string Name { get; init; }
    public EndpointKind Kind { get; init; }
    public required string NodeId { get; init; }

    /// <summary>Name or id.</summary>
    public required string Network { get; init; }

    /// <summary>Name or id; null: a member of no service.</summary>
    public string? Service { get; init; }
    public string? Ip { get; init; }
    public string? Ip6 { get; init; }

    /// <summary>Colon-separated hex; null: one that follows from the address.</summary>
    public string? Mac { get; init; }
    public List<string>? Aliases { get; init; }
    /// <inheritdoc cref="AttachRequest.Health"/>
    public List<string>? Health { get; init; }
    public int Weight { get; set; } = 1;
    public string Netns { get; set; } = "";

    /// <inheritdoc cref="Endpoint.NetnsIdentity"/>
    public string? NetnsIdentity { get; init; }
    public string Interface { get; set; } = "eth0";
    public Dictionary<string, string>? Labels { get; init; }
}

/// <summary>Fields left null stay as they are.</summary>
public sealed record EndpointUpdateRequest
{
    public EndpointState? State { get; init; }
    public int? Weight { get; init; }
    public string? Name { get; init; }

    /// <summary>Name or id of a service of the endpoint's network to be a member of; empty: of none.</summary>
    public string? Service { get; init; }
    public List<string>? Aliases { get; init; }

    /// <summary>Another check of its own, settings alone to change some, or <c>none</c>: its service's again.</summary>
    public List<string>? Health { get; init; }

    /// <summary>Path of the container's namespace; empty: the address stays reserved for a container that is to come.</summary>
    public string? Netns { get; init; }
    public string? Interface { get; init; }

    /// <summary>Replaces all labels.</summary>
    public Dictionary<string, string>? Labels { get; init; }
}

/// <summary>Fields left null stay as they are.</summary>
public sealed record NetworkUpdateRequest
{
    /// <summary>Only while no container is on the network: kernel objects carry the name.</summary>
    public string? Name { get; init; }
}

public sealed record NodeUpdateRequest
{
    public NodeAvailability? Availability { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

/// <summary>What an agent says of itself each second, and at once when something changed.</summary>
public sealed record HeartbeatRequest
{
    public required string NodeId { get; init; }

    /// <summary>The revision this node's kernel and DNS reflect.</summary>
    public long AppliedRevision { get; init; }

    /// <summary>How late the heartbeat thread woke up, in milliseconds.</summary>
    public double LatenessMs { get; init; }

    /// <summary>The node's clock when it sent this; 0: from before this was said.</summary>
    public long UnixMs { get; init; }
    public IReadOnlyList<IPNetwork>? HostRoutes { get; init; }
    public int UnderlayMtu { get; init; }
    public IReadOnlyList<string>? Features { get; init; }
    public string Version { get; set; } = "";

    /// <summary>0: from before this was said.</summary>
    public int ProtocolVersion { get; init; }

    /// <summary>The set of CAs the node trusts; empty: not said.</summary>
    public string Trust { get; set; } = "";

    /// <summary>The CA of its certificate.</summary>
    public string Issuer { get; set; } = "";
}

/// <summary>One answer per heartbeat; a node that is not (or no longer) a member gets 410 and code <c>node-unknown</c>.</summary>
public sealed record HeartbeatResponse
{
    public long Revision { get; init; }
    public NodeState State { get; init; }

    /// <summary>The set of CAs that nodes are to trust; null: not said.</summary>
    public string? Trust { get; init; }

    /// <summary>The CA whose certificate nodes are to have.</summary>
    public string? Issuer { get; init; }

    /// <summary>The manager has no majority: it heard the node, and decides nothing.</summary>
    public bool? Stale { get; init; }

    /// <summary>The manager's clock; 0: from before this was said.</summary>
    public long UnixMs { get; init; }
}

public sealed record JoinRequest
{
    public required string Token { get; init; }
    public required string NodeName { get; init; }
    public required IPAddress Address { get; init; }
    public int ApiPort { get; set; } = 7373;
    public int UnderlayMtu { get; set; } = 1500;
    public string? Dc { get; init; }

    /// <summary>PKCS#10 request, PEM; the key never leaves the joining node.</summary>
    public required string Csr { get; init; }
    public int ProtocolVersion { get; set; } = Protocol.Version;

    /// <summary>The machine can run a member of the store, as managers do.</summary>
    public bool HasEtcd { get; init; }
}

public sealed record JoinResponse
{
    public required string NodeId { get; init; }
    public required string ClusterId { get; init; }
    public required string ClusterDomain { get; init; }
    public required string Dc { get; init; }
    public NodeRole Role { get; init; }

    /// <summary>PEM.</summary>
    public required string Certificate { get; init; }

    /// <summary>PEM of the cluster's CA.</summary>
    public required string Ca { get; init; }

    /// <summary>Managers as host:port.</summary>
    public IReadOnlyList<string> Managers { get; set; } = [];
}

public sealed record InitRequest
{
    /// <summary>This node's address on the underlay; null: the daemon's configured one, or what its default route leaves from.</summary>
    public IPAddress? Address { get; init; }
    public string? NodeName { get; init; }
    public string? Dc { get; init; }
    public string? ClusterDomain { get; init; }
    public int ApiPort { get; set; } = 7373;
}

/// <summary>From the CLI to a daemon that is not yet a member.</summary>
public sealed record JoinClusterRequest
{
    public required string Token { get; init; }

    /// <summary>A manager, host or host:port (IPv6 hosts in brackets).</summary>
    public required string Host { get; init; }
    public IPAddress? Address { get; init; }
    public string? NodeName { get; init; }
}

/// <summary>A further join token, which ends by itself.</summary>
public sealed record TokenCreateRequest
{
    public NodeRole Role { get; init; }

    /// <summary>Seconds until it ends; 0: an hour.</summary>
    public long TtlSeconds { get; init; }

    /// <summary>It lets one node in, once.</summary>
    public bool Once { get; init; }
}

/// <summary>A join token as managers know it: its secret is shown once, when it is made.</summary>
public sealed record TokenInfo
{
    public required string Id { get; init; }
    public NodeRole Role { get; init; }

    /// <summary>Null: it does not end by itself.</summary>
    public DateTimeOffset? ExpiresAt { get; init; }
    public bool Once { get; init; }

    /// <summary>The node that used it up.</summary>
    public string? UsedBy { get; init; }

    /// <summary>usable, expired or used.</summary>
    public string State { get; set; } = "usable";

    /// <summary>In the answer to its creation only.</summary>
    public string? Token { get; init; }
}

/// <summary>How far the replacement of the cluster's CA is.</summary>
public sealed record AuthorityReport
{
    /// <summary>stable, trusting or renewing.</summary>
    public required string Phase { get; init; }

    /// <summary>SHA-256 of the CA that signs.</summary>
    public required string Signer { get; init; }
    public DateTimeOffset SignerExpiresAt { get; init; }

    /// <summary>All that are trusted.</summary>
    public IReadOnlyList<string> Trusted { get; set; } = [];

    /// <summary>Names of the nodes that the next phase waits for.</summary>
    public IReadOnlyList<string> WaitsFor { get; set; } = [];
}

public sealed record TokenBody
{
    public required string Worker { get; init; }
    public required string Manager { get; init; }
}

/// <summary>By endpoint (id or name), or by network and namespace.</summary>
public sealed record DetachRequest
{
    public string? Endpoint { get; init; }
    public string? Network { get; init; }
    public string? Netns { get; init; }
}
