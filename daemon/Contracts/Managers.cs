using System.Net;
using System.Text.Json.Serialization;

namespace OverlayNet.Contracts;

/// <summary>What a manager tells the others each second, and is answered with the same.</summary>
public sealed record ManagerReport
{
    public required string NodeId { get; init; }

    /// <summary>sqlite, etcd, or none while it has no store (yet).</summary>
    public required string Store { get; init; }
    public string ClusterId { get; set; } = "";
    public long Incarnation { get; init; }
    public long Revision { get; init; }

    /// <summary>Its own etcd member, as etcd says; 0: none.</summary>
    public ulong MemberId { get; init; }

    /// <summary>The member it takes for the leader; 0: it knows of none.</summary>
    public ulong LeaderId { get; init; }
    public bool Learner { get; init; }

    /// <summary>Since a majority last confirmed something to it, in milliseconds; negative: never.</summary>
    public double ConfirmedMsAgo { get; init; }
    public long StoreBytes { get; init; }
    public string Trouble { get; set; } = "";

    /// <summary>The nodes that send their heartbeats to it.</summary>
    public IReadOnlyList<NodeBeat> Beats { get; set; } = [];
}

/// <summary>A node's last heartbeat at the manager it is at home with.</summary>
public sealed record NodeBeat
{
    public required string NodeId { get; init; }
    public double AgeMs { get; init; }
    public long AppliedRevision { get; init; }
    public double LatenessMs { get; init; }
    public string Trust { get; set; } = "";
    public string Issuer { get; set; } = "";
}

/// <summary>From a new manager to one that has the store: make room for me.</summary>
public sealed record StoreJoinRequest
{
    public required string NodeId { get; init; }
    public required string PeerUrl { get; init; }
    public required string ClientUrl { get; init; }
}

public sealed record StoreJoinResponse
{
    /// <summary>Of the etcd cluster: members of another one are not talked to.</summary>
    public required string Token { get; init; }

    /// <summary>As etcd's --initial-cluster takes it.</summary>
    public required string InitialCluster { get; init; }
    public ulong MemberId { get; init; }

    /// <summary>Client URLs of the members there are.</summary>
    public IReadOnlyList<string> Clients { get; set; } = [];
}

/// <summary>What <c>overlaynet node ls</c> says of the managers.</summary>
public sealed record ManagersReport
{
    /// <summary>sqlite or etcd.</summary>
    public required string Store { get; init; }

    /// <summary>The name of the manager that answers.</summary>
    public required string Node { get; init; }
    public IReadOnlyList<ManagerStatus> Managers { get; set; } = [];
    public int Voters { get; init; }
    public int Quorum { get; init; }
    public int Reachable { get; init; }

    /// <summary>How many more may fail before writes are refused; negative: they are refused now.</summary>
    public int CanLose { get; init; }
    public bool Writable { get; init; }

    /// <summary>The same in a sentence.</summary>
    public string Summary { get; set; } = "";
}

public sealed record ManagerStatus
{
    public required string NodeId { get; init; }
    public required string Name { get; init; }
    public required IPAddress Address { get; init; }
    public bool Reachable { get; init; }
    public bool Leader { get; init; }

    /// <summary>voter, learner, or none: no member of the store (yet).</summary>
    public required string Member { get; init; }
    public long Revision { get; init; }
    public long Lag { get; init; }
    public double? SecondsSinceHeard { get; init; }
    public string Trouble { get; set; } = "";
}

public sealed record RecoverRequest
{
    /// <summary>Names of the managers that are declared destroyed: they must never run again with what they have on disk.</summary>
    public IReadOnlyList<string> Destroyed { get; set; } = [];
}

public sealed record RestoreRequest
{
    /// <summary>Absolute path of a backup on the daemon's machine.</summary>
    public required string File { get; init; }

    /// <summary>Replace the registry of a cluster that works.</summary>
    public bool Force { get; init; }
    public IPAddress? Address { get; init; }
    public string? NodeName { get; init; }
}

/// <summary>What was done, one sentence a step.</summary>
public sealed record StepsReport
{
    public IReadOnlyList<string> Steps { get; set; } = [];
    public long Incarnation { get; init; }
    public long Revision { get; init; }
}

/// <summary>A PKCS#10 request (PEM) of a member for a certificate of its present role.</summary>
public sealed record CertificateRequestBody
{
    public required string Csr { get; init; }
}

public sealed record CertificateResponse
{
    public NodeRole Role { get; init; }
    public required string Certificate { get; init; }
}

/// <summary>From a node, when the registry it knew has been replaced: what it had and has.</summary>
public sealed record AssertRequest
{
    /// <summary>The new incarnation.</summary>
    public long Incarnation { get; init; }

    /// <summary>The endpoints on this node that live.</summary>
    public IReadOnlyList<Endpoint> Endpoints { get; set; } = [];
}

public sealed record AssertResponse
{
    /// <summary>Ids of endpoints that the registry had lost and has again.</summary>
    public IReadOnlyList<string> Restored { get; set; } = [];

    /// <summary>Why others could not be taken back.</summary>
    public IReadOnlyList<string> Refused { get; set; } = [];
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    Converters = [
        typeof(IPAddressConverter), typeof(IPNetworkConverter), typeof(CamelCaseEnumConverter<NodeRole>),
        typeof(CamelCaseEnumConverter<EndpointState>), typeof(CamelCaseEnumConverter<EndpointKind>)])]
[JsonSerializable(typeof(ManagerReport))]
[JsonSerializable(typeof(StoreJoinRequest))]
[JsonSerializable(typeof(StoreJoinResponse))]
[JsonSerializable(typeof(ManagersReport))]
[JsonSerializable(typeof(RecoverRequest))]
[JsonSerializable(typeof(RestoreRequest))]
[JsonSerializable(typeof(StepsReport))]
[JsonSerializable(typeof(CertificateRequestBody))]
[JsonSerializable(typeof(CertificateResponse))]
[JsonSerializable(typeof(AssertRequest))]
[JsonSerializable(typeof(AssertResponse))]
public sealed partial class ManagersJson : JsonSerializerContext;
