using System.Net;

namespace OverlayNet.Contracts;

/// <summary>What <c>overlaynet status</c> shows of one node.</summary>
public sealed record StatusReport
{
    /// <summary>"running", or "dead" when made from kernel and disk alone.</summary>
    public required string Daemon { get; init; }
    public int? Pid { get; init; }
    public string Version { get; set; } = "";
    public string? ClusterId { get; init; }
    public string? NodeId { get; init; }
    public string? NodeName { get; init; }
    public NodeRole? Role { get; init; }

    /// <summary>The newest revision this node has heard of, and the one its kernel reflects.</summary>
    public long RegistryRevision { get; init; }
    public long AppliedRevision { get; init; }

    /// <summary>The newest revision for which everything was compared with the kernel; a single change is applied without. -1: none yet.</summary>
    public long ComparedRevision { get; set; } = -1;

    /// <summary>False while the managers are out of reach: what is served is the last snapshot.</summary>
    public bool ManagersReachable { get; init; }
    public double? SecondsSinceManager { get; init; }
    public IReadOnlyList<string> Managers { get; set; } = [];

    /// <summary>How far this node's clock is ahead of a manager's, in milliseconds; null: not known.</summary>
    public double? ClockSkewMs { get; init; }
    public IReadOnlyList<PartStatus> Parts { get; set; } = [];
    public IReadOnlyList<NodeLag> Nodes { get; set; } = [];
    public IReadOnlyList<NetworkStatus> Networks { get; set; } = [];
    public IReadOnlyList<ServiceStatus> Services { get; set; } = [];

    /// <summary>What carries a service here, front to back, such as <c>ebpf+nft</c>; null: it is not known.</summary>
    public string? BalancerOf(Service service, string network) => Services.FirstOrDefault(known => known.Name == service.Name && known.Network == network)?.Balancer;

    /// <summary>Kernel features that are missing, each with the path chosen instead.</summary>
    public IReadOnlyList<string> Missing { get; set; } = [];
}

/// <summary>One part of the daemon: overlay, vip, dns, registry, agent.</summary>
public sealed record PartStatus
{
    public required string Name { get; init; }
    public long Revision { get; init; }
    public bool Ok { get; set; } = true;
    public string? LastError { get; init; }
    public DateTimeOffset? LastErrorAt { get; init; }
    public string Detail { get; set; } = "";
}

public sealed record NodeLag
{
    public required string Name { get; init; }
    public NodeState State { get; init; }
    public NodeRole Role { get; init; }
    public required IPAddress Address { get; init; }
    public long AppliedRevision { get; init; }
    public long Lag { get; init; }
    public double? SecondsSinceHeartbeat { get; init; }

    /// <summary>How far its clock is ahead of the manager's, in milliseconds, the way of one message included; null: not known.</summary>
    public double? ClockSkewMs { get; init; }
}

public sealed record NetworkStatus
{
    public required string Name { get; init; }
    public int Vni { get; init; }
    public string Subnets { get; set; } = "";
    public bool Present { get; init; }
    public string Netns { get; set; } = "";
    public int LocalEndpoints { get; init; }
    public int RemoteEndpoints { get; init; }
}

public sealed record ServiceStatus
{
    public required string Name { get; init; }
    public required string Network { get; init; }
    public string Vip { get; set; } = "";
    public string Balancer { get; set; } = "";

    /// <summary>Why this balancer was chosen.</summary>
    public string Why { get; set; } = "";
    public int Healthy { get; init; }
    public int Total { get; init; }
}

/// <summary>One finding of the doctor.</summary>
public sealed record Finding
{
    /// <summary>error, warning or info.</summary>
    public required string Severity { get; init; }

    /// <summary>A stable word, such as <c>desired-state.fdb</c>.</summary>
    public required string Check { get; init; }
    public required string Object { get; init; }
    public required string Message { get; init; }
    public string? Evidence { get; init; }
    public string? Remedy { get; init; }
}

public sealed record DoctorReport
{
    public required string Node { get; init; }
    public IReadOnlyList<string> Checked { get; set; } = [];
    public IReadOnlyList<Finding> Findings { get; set; } = [];

    /// <summary>Each stage of name resolution.</summary>
    public IReadOnlyList<DoctorStage> Stages { get; set; } = [];

    /// <summary>What <c>--fix</c> did, one line each.</summary>
    public IReadOnlyList<string> Fixed { get; set; } = [];
}

/// <summary>Something that was asked, and how long the answer took.</summary>
public sealed record DoctorStage
{
    public required string Name { get; init; }
    public bool Ok { get; init; }
    public double Milliseconds { get; init; }

    /// <summary>The answer's code, or why there was none.</summary>
    public string Detail { get; set; } = "";
}

/// <summary>One real server as the balancer on the asked node sees it.</summary>
public sealed record BackendReport
{
    public required string Endpoint { get; init; }
    public required string Node { get; init; }
    public IPAddress? Address4 { get; init; }
    public IPAddress? Address6 { get; init; }
    public EndpointState State { get; init; }
    public int Weight { get; init; }

    /// <summary>The share of new connections, 0..1, that follows from the weights.</summary>
    public double Share { get; init; }

    /// <summary>Flows from the asked node's clients that are alive now, over every path; null where no agent was asked.</summary>
    public long? LiveFlows { get; init; }

    /// <summary>Flows they ever began, as far as the service's paths count them (nft does not).</summary>
    public long? Connections { get; init; }

    /// <summary>What the balancer uses, state and panic already in it.</summary>
    public int Balanced { get; init; }

    /// <summary>The check the service asks for; null: none.</summary>
    public string? Check { get; init; }

    /// <summary>What each node that probes it found last; its own node first. Empty where only a manager knows and none answers.</summary>
    public IReadOnlyList<ProberView> Probers { get; set; } = [];

    /// <summary>Why it stays in use although a check fails, or why all are used; null: nothing is held.</summary>
    public string? Held { get; init; }
}

/// <summary>One connection of a container through a VIP, and the real server it went to.</summary>
public sealed record VipConnection
{
    public PortProtocol Protocol { get; init; }
    public required IPAddress Source { get; init; }
    public int SourcePort { get; init; }
    public required IPAddress Vip { get; init; }
    public int VipPort { get; init; }
    public required string Service { get; init; }
    public required IPAddress Server { get; init; }
    public int ServerPort { get; init; }

    /// <summary>The real server's endpoint and node, by name; null: the registry has none at the address any more.</summary>
    public string? Endpoint { get; init; }
    public string? Node { get; init; }

    /// <summary>False: one side has closed it.</summary>
    public bool Live { get; init; }
}

/// <summary>What <c>overlaynet dns query</c> prints.</summary>
public sealed record DnsQueryReport
{
    public required string Name { get; init; }
    public required string Type { get; init; }
    public required string Rcode { get; init; }
    public IReadOnlyList<string> Answers { get; set; } = [];

    /// <summary>Which rule answered, from which revision, cache entry or upstream.</summary>
    public string Why { get; set; } = "";
    public long Revision { get; init; }

    /// <summary>Address the question is taken to come from.</summary>
    public IPAddress? Source { get; init; }

    /// <summary>Networks whose names that client sees, in the order in which they are searched.</summary>
    public IReadOnlyList<string> Networks { get; set; } = [];

    /// <summary><c>table</c>, <c>cache</c>, <c>stale</c>, <c>upstream</c>, <c>forward</c> (nobody could be asked) or <c>none</c>.</summary>
    public string Origin { get; set; } = "";

    /// <summary>Upstream servers the name is forwarded to, in order; empty: it is not.</summary>
    public IReadOnlyList<string> Candidates { get; set; } = [];

    /// <summary>Seconds since an upstream gave the answer.</summary>
    public long Age { get; init; }
    public IReadOnlyList<string> Authority { get; set; } = [];
    public IReadOnlyList<string> Additional { get; set; } = [];

    /// <summary>Whether the kernel gives this answer by itself, as it does once the daemon gave it.</summary>
    public bool InKernel { get; init; }
}

/// <summary>One record that a node's DNS server owns, as members of a network are answered it.</summary>
public sealed record DnsTableEntry
{
    public required string Network { get; init; }
    public required string Name { get; init; }
    public required string Type { get; init; }

    /// <summary>Seconds.</summary>
    public uint Ttl { get; init; }

    /// <summary>The record's data as a zone file writes it.</summary>
    public string Data { get; set; } = "";
}

/// <summary>One answer of an upstream server that a node remembers.</summary>
public sealed record DnsCacheEntry
{
    public required string Name { get; init; }
    public required string Type { get; init; }
    public required string Rcode { get; init; }

    /// <summary>Until it expires; negative: kept to be served stale (RFC 8767).</summary>
    public long SecondsLeft { get; init; }

    /// <summary>Who said so.</summary>
    public string Upstream { get; set; } = "";

    /// <summary>Times it was served.</summary>
    public long Hits { get; init; }

    /// <summary>Memory it is charged with.</summary>
    public long Bytes { get; init; }
}
