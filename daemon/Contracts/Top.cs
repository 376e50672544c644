namespace OverlayNet.Contracts;

/// <summary>One look of <c>overlaynet top</c>: what happened on this node between two moments.</summary>
public sealed record TopReport
{
    public required string Node { get; init; }

    /// <summary>Between the two moments.</summary>
    public double Seconds { get; init; }
    public long Revision { get; init; }

    /// <summary>Revisions this node has not applied yet.</summary>
    public long Lag { get; init; }
    public IReadOnlyList<TopNetwork> Networks { get; set; } = [];
    public IReadOnlyList<TopService> Services { get; set; } = [];
    public IReadOnlyList<NodeLag> Nodes { get; set; } = [];
}

/// <summary>Traffic of a network with other nodes (the tunnel), seen from this node.</summary>
public sealed record TopNetwork
{
    public required string Name { get; init; }
    public double ReceivedBitsPerSecond { get; init; }
    public double SentBitsPerSecond { get; init; }
    public double ReceivedPacketsPerSecond { get; init; }
    public double SentPacketsPerSecond { get; init; }

    /// <summary>Dropped by the tunnel and the containers' ports within the time, and since they were made.</summary>
    public long Drops { get; init; }
    public long DropsEver { get; init; }
}

/// <summary>A service and its backends, seen from this node's clients.</summary>
public sealed record TopService
{
    public required string Name { get; init; }
    public required string Network { get; init; }
    public string Vip { get; set; } = "";
    public string Balancer { get; set; } = "";
    public long LiveFlows { get; init; }

    /// <summary>Null where the service's path does not count connections (nft).</summary>
    public double? ConnectionsPerSecond { get; init; }
    public IReadOnlyList<TopBackend> Backends { get; set; } = [];
}

public sealed record TopBackend
{
    public required string Endpoint { get; init; }
    public required string Node { get; init; }
    public EndpointState State { get; init; }

    /// <summary>Of new connections, 0..1, by weight.</summary>
    public double Share { get; init; }

    /// <summary>Of the live flows, 0..1; null: there are none, or they are not known.</summary>
    public double? LiveShare { get; init; }
    public long? LiveFlows { get; init; }
    public double? ConnectionsPerSecond { get; init; }
}
