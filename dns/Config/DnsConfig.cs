using System.Net;

namespace OverlayNet.Dns;

/// <summary>
/// The complete desired state of a <see cref="DnsServer"/>: plain immutable data, applied as a whole and as often as
/// the caller likes. Parts that did not change are recognised cheapest when the same object is passed again, so a
/// planner that keeps unchanged services, endpoints and networks makes an update cost microseconds.
/// </summary>
public sealed record DnsConfig
{
    /// <summary>False until the registry was read once: owned names are then answered SERVFAIL, never NXDOMAIN.</summary>
    public bool Synced { get; init; }

    /// <summary>Revision of the registry this state was planned from; its low 32 bits are the SOA serial.</summary>
    public long Revision { get; init; }

    /// <summary>The zone all full names end in, without a trailing dot.</summary>
    public string ClusterDomain { get; init; } = "overlay.internal";

    /// <summary>One label; full names are <c>service.network.dc.domain</c>.</summary>
    public string DataCenter { get; init; } = "dc1";

    /// <summary>Name of the node this server runs on.</summary>
    public string NodeName { get; init; } = "";

    public IReadOnlyList<DnsNetwork> Networks { get; init; } = [];

    /// <summary>Nodes of the cluster, resolvable as <c>name</c>, <c>name.node</c> and <c>name.node.dc.domain</c>.</summary>
    public IReadOnlyList<DnsNode> Nodes { get; init; } = [];

    /// <summary>
    /// Source addresses that see more than the network they ask on. An address that is not listed sees the network of
    /// the listener it asked; on the fixed listener it sees every network (that is the node itself).
    /// </summary>
    public IReadOnlyList<DnsSource> Sources { get; init; } = [];

    /// <summary>Addresses of the fixed listener; kept out of the upstreams, and the answer to <c>ns.domain</c> there.</summary>
    public IReadOnlyList<IPAddress> FixedAddresses { get; init; } = [];

    public DnsForwardConfig Forward { get; init; } = new();

    /// <summary>TTL of every owned record. Short, because a client that keeps an address outlives a withdrawal.</summary>
    public TimeSpan Ttl { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>SOA minimum, the time a client may remember that something is absent; at most 5 s.</summary>
    public TimeSpan NegativeTtl { get; init; } = TimeSpan.FromSeconds(1);
}

/// <summary>One network's view: what its members see.</summary>
public sealed record DnsNetwork
{
    public required string Id { get; init; }

    /// <summary>The label in <c>web.network</c>.</summary>
    public required string Name { get; init; }

    /// <summary>Reverse names inside these are ours: PTR or NXDOMAIN, never forwarded.</summary>
    public IReadOnlyList<IPNetwork> Subnets { get; init; } = [];

    /// <summary>Where this network's clients reach the server; kept out of the upstreams.</summary>
    public IReadOnlyList<IPAddress> ListenerAddresses { get; init; } = [];

    public IReadOnlyList<DnsService> Services { get; init; } = [];

    /// <summary>Endpoints that belong to no service.</summary>
    public IReadOnlyList<DnsEndpoint> Endpoints { get; init; } = [];

    /// <summary>No way out: names outside the cluster are NXDOMAIN to clients that are on internal networks only.</summary>
    public bool Internal { get; init; }
}

public enum DnsServiceMode
{
    /// <summary>The service's name resolves to its virtual addresses.</summary>
    Vip,

    /// <summary>The service's name resolves to its endpoints' addresses, rotated.</summary>
    RoundRobin,
}

/// <summary>A service within one network.</summary>
public sealed record DnsService
{
    public required string Name { get; init; }

    /// <summary>Further names with the same answers, in this network only. Several services may share one.</summary>
    public IReadOnlyList<string> Aliases { get; init; } = [];

    public DnsServiceMode Mode { get; init; }

    public IPAddress? VipV4 { get; init; }

    public IPAddress? VipV6 { get; init; }

    public IReadOnlyList<DnsPort> Ports { get; init; } = [];

    public IReadOnlyList<DnsEndpoint> Endpoints { get; init; } = [];

    /// <summary>
    /// Most addresses in one answer to the service's name in round-robin mode (0: all that fit). A subset keeps the
    /// answer within 512 bytes for clients that know neither EDNS nor TCP.
    /// </summary>
    public int SubsetLimit { get; init; } = 16;

    /// <summary>Whether <c>tasks.service</c> also lists endpoints that are unhealthy, so that peers can find each other.</summary>
    public bool PublishNotReady { get; init; }
}

/// <param name="Name">Port name in <c>_name._proto.service</c>; null: no SRV name of its own.</param>
/// <param name="Protocol"><c>tcp</c>, <c>udp</c> or <c>sctp</c>.</param>
/// <param name="Target">Port the endpoints listen on.</param>
/// <param name="Published">Port the VIP listens on (0: same as target).</param>
public sealed record DnsPort(string? Name, string Protocol, int Target, int Published = 0);

public enum DnsEndpointState
{
    Healthy,
    Recovering,
    Draining,
    Unhealthy,
}

/// <summary>A container's attachment to one network.</summary>
public sealed record DnsEndpoint
{
    public required string Id { get; init; }

    /// <summary>Resolvable alone, as <c>name.service</c> and as <c>name.network</c>.</summary>
    public required string Name { get; init; }

    public IReadOnlyList<IPAddress> Addresses { get; init; } = [];

    /// <summary>Relative weight, 8 by default; SRV publishes 256 × weight × <see cref="Eighths"/> / 8.</summary>
    public int Weight { get; init; } = 8;

    public DnsEndpointState State { get; init; }

    /// <summary>How many eighths of its weight it has: 8, less while it recovers or starts slowly.</summary>
    public int Eighths { get; init; } = 8;

    public IReadOnlyList<string> Aliases { get; init; } = [];

    /// <summary>Node the endpoint runs on; published in TXT.</summary>
    public string Node { get; init; } = "";
}

public sealed record DnsNode(string Name, IReadOnlyList<IPAddress> Addresses);

/// <summary>A client on several networks: what it sees when it asks on <paramref name="NetworkId"/>'s listener.</summary>
/// <param name="NetworkId">Network on which <paramref name="Address"/> is the client's address.</param>
/// <param name="Address">Source address of its queries there.</param>
/// <param name="NetworkIds">All networks it is on; the asked one is searched first whatever its place here.</param>
public sealed record DnsSource(string NetworkId, IPAddress Address, IReadOnlyList<string> NetworkIds);

/// <summary>Where names that are not ours go.</summary>
public sealed record DnsForwardConfig
{
    /// <summary>Asked in this order. Empty: those of <see cref="ResolvConfPath"/>.</summary>
    public IReadOnlyList<IPEndPoint> Upstreams { get; init; } = [];

    /// <summary>A resolv.conf(5) to follow while it changes; null: none.</summary>
    public string? ResolvConfPath { get; init; }

    /// <summary>Other servers for names below a domain; the longest matching domain wins.</summary>
    public IReadOnlyList<DnsDomainUpstreams> Domains { get; init; } = [];

    /// <summary>Also forward names of one label. Off: they are ours or NXDOMAIN, and do not leak.</summary>
    public bool ForwardSingleLabel { get; init; }
}

/// <param name="Domain">For example <c>corp.example</c>, without a trailing dot.</param>
/// <param name="Upstreams">Asked in this order.</param>
public sealed record DnsDomainUpstreams(string Domain, IReadOnlyList<IPEndPoint> Upstreams);
