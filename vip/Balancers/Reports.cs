namespace OverlayNet.Vip.Balancers;

/// <summary>What one writer did, or would do.</summary>
public sealed record BalancerReport
{
    public static BalancerReport Nothing { get; } = new();

    public IReadOnlyList<VipChange> Changes { get; init; } = [];
    public IReadOnlyList<VipError> Errors { get; init; } = [];

    /// <summary>When something is due by time (a drain deadline): Apply again by then. Null: nothing is.</summary>
    public DateTimeOffset? NextDue { get; init; }
}

/// <summary>One change to the kernel.</summary>
/// <param name="Balancer">The writer.</param>
/// <param name="Network">The network's name.</param>
/// <param name="Where">The namespace's name or path.</param>
/// <param name="What">The object and what was done to it: <c>service web: real server 10.0.0.7 added</c>.</param>
/// <param name="Mended">The kernel did not hold what this writer had put there: somebody else changed it.</param>
public sealed record VipChange(string Balancer, string Network, string Where, string What, bool Mended = false)
{
    public override string ToString() => $"{Balancer}: network {Network}, {Where}: {What}{(Mended ? " (mended)" : "")}";
}

/// <summary>Something a writer could not do.</summary>
/// <param name="Service">The service's name; null when the whole namespace is concerned.</param>
/// <param name="NamespaceGone">The namespace does not exist any more: the endpoint's end will be noticed elsewhere, nobody need be told.</param>
public sealed record VipError(string Balancer, string Network, string? Service, string Where, string Message, bool NamespaceGone = false)
{
    public override string ToString() => $"{Balancer}: network {Network}, {(Service is null ? "" : $"service {Service}, ")}{Where}: {Message}";
}

/// <summary>Traffic of one real server through one writer.</summary>
/// <param name="LiveFlows">Flows that are alive now (conntrack, IPVS connections or pinned sockets).</param>
/// <param name="Connections">Flows ever begun; null when the writer does not count them.</param>
public sealed record RealServerStatistics(
    string Balancer, string NetworkId, string ServiceId, string EndpointId, long LiveFlows,
    long? Connections = null, long? Packets = null, long? Octets = null);

/// <summary>Which writers serve a service, front to back, and why.</summary>
/// <param name="Balancers">The first takes what it can see; the next takes what falls through.</param>
/// <param name="Reason">For a person, also naming a wish that could not be met.</param>
/// <param name="Degraded">The service's wish (a writer, a scheduler) could not be met.</param>
public sealed record ServicePath(string NetworkId, string ServiceId, IReadOnlyList<string> Balancers, string Reason, bool Degraded = false);

/// <summary>The outcome of one Apply over all writers.</summary>
public sealed record VipReport
{
    /// <summary>Revision of the configuration applied.</summary>
    public long Revision { get; init; }
    public IReadOnlyList<VipChange> Changes { get; init; } = [];
    public IReadOnlyList<VipError> Errors { get; init; } = [];
    public IReadOnlyList<ServicePath> Paths { get; init; } = [];

    /// <summary>Each writer and whether it can be used here.</summary>
    public IReadOnlyDictionary<string, BalancerAvailability> Balancers { get; init; } = new Dictionary<string, BalancerAvailability>();

    /// <inheritdoc cref="BalancerReport.NextDue"/>
    public DateTimeOffset? NextDue { get; init; }
}
