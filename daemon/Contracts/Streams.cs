namespace OverlayNet.Contracts;

/// <summary>One line (NDJSON) of <c>GET /v1/watch</c>.</summary>
/// <remarks>
/// The stream starts with a <see cref="Snapshot"/> (or, when the asked revision is still in the log of the same
/// incarnation, goes straight to changes), continues with one <see cref="Changes"/> line a revision, and sends a
/// line with neither as a sign of life at least every second.
/// </remarks>
public sealed record WatchMessage
{
    public int Protocol { get; set; } = Contracts.Protocol.Version;

    /// <summary>Raised by restore, recover and conversion; a watcher that sees another one starts from a snapshot.</summary>
    public long Incarnation { get; init; }
    public long Revision { get; init; }

    /// <summary>The manager has lost its majority: what it shows may be behind. Said in signs of life.</summary>
    public bool? Stale { get; init; }
    public RegistrySnapshot? Snapshot { get; init; }
    public IReadOnlyList<RegistryChange>? Changes { get; init; }

    /// <summary>Whose change it is, when it is traced: the span that wrote it (W3C Trace Context, traceparent).</summary>
    public string? TraceParent { get; init; }
}

/// <summary>One object put (its field is set) or deleted (only <see cref="DeletedId"/> is set) at a revision.</summary>
public sealed record RegistryChange
{
    public Node? Node { get; init; }
    public Network? Network { get; init; }
    public Service? Service { get; init; }
    public Endpoint? Endpoint { get; init; }
    public FloatingVip? Vip { get; init; }
    public VipHolder? VipHolder { get; init; }

    /// <summary>The kind of a deleted object: node, network, service, endpoint, vip or vip-holder.</summary>
    public string? DeletedKind { get; init; }
    public string? DeletedId { get; init; }
}

/// <summary>The whole registry at one revision.</summary>
public sealed record RegistrySnapshot
{
    public required string ClusterId { get; init; }
    public required string ClusterDomain { get; init; }
    public long Incarnation { get; init; }
    public long Revision { get; init; }
    public IReadOnlyList<Node> Nodes { get; set; } = [];
    public IReadOnlyList<Network> Networks { get; set; } = [];
    public IReadOnlyList<Service> Services { get; set; } = [];
    public IReadOnlyList<Endpoint> Endpoints { get; set; } = [];
    public IReadOnlyList<FloatingVip> Vips { get; set; } = [];
    public IReadOnlyList<VipHolder> VipHolders { get; set; } = [];
}

/// <summary>One event a person may want to read later.</summary>
public sealed record ClusterEvent
{
    public required long Sequence { get; init; }
    public required DateTimeOffset Time { get; init; }
    public required string Node { get; init; }

    /// <summary>node, network, service, endpoint, kernel, daemon, dns, vip.</summary>
    public required string Kind { get; init; }

    /// <summary>create, update, remove, mend, withdraw, start, stop, error, ...</summary>
    public required string Action { get; init; }

    /// <summary>Name (or id) of the object.</summary>
    public required string Object { get; init; }
    public string Message { get; set; } = "";
    public long Revision { get; init; }
}
