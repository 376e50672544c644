using System.Text.Json.Serialization;

namespace OverlayNet.Contracts;

/// <summary>How an endpoint is asked whether it serves.</summary>
public enum CheckKind
{
    /// <summary>An HTTP/1.1 request; status and, if wished, body must match.</summary>
    Http,

    /// <summary>The same over TLS.</summary>
    Https,

    /// <summary>A TCP connection is accepted.</summary>
    Tcp,

    /// <summary>grpc.health.v1.Health/Check answers SERVING, over cleartext HTTP/2.</summary>
    Grpc,

    /// <summary>A datagram is answered; without <see cref="HealthCheck.Expect"/>, it is enough that no ICMP error comes.</summary>
    Udp,

    /// <summary>A program run in the endpoint's network namespace exits with 0.</summary>
    Exec,

    /// <summary>The application says so itself, often enough.</summary>
    Ttl,
}

/// <summary>What a service asks of its endpoints before they get traffic. Times in milliseconds.</summary>
public sealed record HealthCheck
{
    public CheckKind Kind { get; init; }

    /// <summary>0: the target of the service's first port of the check's transport.</summary>
    public int Port { get; init; }

    /// <summary>http and https: path and query.</summary>
    public string Path { get; set; } = "/";
    public string Method { get; set; } = "GET";

    /// <summary>http and https: the Host header (and TLS server name); null: the service's name.</summary>
    public string? Host { get; init; }

    /// <summary>http and https: further headers, each "Name: value".</summary>
    public IReadOnlyList<string> Headers { get; set; } = [];

    /// <summary>http and https: accepted status codes, such as "200-399" or "200,204".</summary>
    public string Status { get; set; } = "200-399";

    /// <summary>http and https: what the first 64 KiB of the body must contain; null: anything.</summary>
    public string? Body { get; init; }

    /// <summary>https: whether the certificate must be valid for <see cref="Host"/>.</summary>
    public bool Verify { get; init; }

    /// <summary>grpc: the service asked about; empty: the server as a whole.</summary>
    public string GrpcService { get; set; } = "";

    /// <summary>exec: run by /bin/sh -c.</summary>
    public string? Command { get; init; }

    /// <summary>udp: what is sent; \xHH, \r, \n, \0 and \\ are understood.</summary>
    public string Send { get; set; } = "";

    /// <summary>udp: what the answer must contain, written as <see cref="Send"/>; null: any answer, or none.</summary>
    public string? Expect { get; init; }

    /// <summary>From one check's begin to the next one's; ttl: how long a word of the application is good.</summary>
    public int IntervalMs { get; set; } = 5000;
    public int TimeoutMs { get; set; } = 1000;

    /// <summary>Failures in a row after which an endpoint counts as failing.</summary>
    public int Failures { get; set; } = 3;

    /// <summary>Successes in a row after which it counts as passing.</summary>
    public int Successes { get; set; } = 2;

    /// <summary>Least time between two changes of one endpoint; 0: what detecting a failure takes, (failures - 1) x interval.</summary>
    public int HoldMs { get; init; }

    /// <summary>How long an endpoint that is back takes from a quarter of its weight to all of it; the service's slow start, if set, comes first.</summary>
    public int RampMs { get; set; } = 30_000;

    /// <summary>With a smaller share of its endpoints serving than this, a service uses all of them; 0: only when none is left.</summary>
    public int PanicPercent { get; init; }

    /// <summary>When more of a service's (or a subset's) endpoints than this would go at once, each is confirmed by another prober first.</summary>
    public int ShrinkPercent { get; set; } = 50;

    /// <summary>At most so many percent of the endpoints are ejected because clients fare badly with them, 0-10; 0: none is.</summary>
    public int EjectPercent { get; init; }

    /// <summary>How many other nodes are asked before silence is believed.</summary>
    public int Peers { get; set; } = 2;

    /// <inheritdoc cref="UnreadFields"/>
    [JsonExtensionData]
    public UnreadFields? Unread { get; set; }
}

/// <summary>What came of a check.</summary>
public enum CheckOutcome
{
    Pass,

    /// <summary>The application's own word: serving, with reservations. Counts as passing.</summary>
    Warn,

    /// <summary>Nothing came back in time: the endpoint, the prober or the path between may be at fault.</summary>
    NoAnswer,

    /// <summary>The endpoint's kernel says that nobody listens.</summary>
    Refused,

    /// <summary>It answered, and not as it should.</summary>
    BadAnswer,

    /// <summary>The process that listened has ended, and nobody has taken its place.</summary>
    Gone,
}

/// <summary>Where the results of one prober for one endpoint stand.</summary>
public sealed record CheckStanding
{
    public required string EndpointId { get; init; }

    /// <summary>Null: not enough results yet.</summary>
    public bool? Passing { get; init; }

    /// <summary>The last result and how many of its kind (success or failure) came in a row.</summary>
    public CheckOutcome Outcome { get; init; }
    public int InARow { get; init; }
    public string Reason { get; set; } = "";
    public double LatencyMs { get; init; }
    public long AtUnixMs { get; init; }

    /// <summary>The process that serves it is watched, so its end is heard at once; only the endpoint's own node can.</summary>
    public bool Watched { get; init; }
}

/// <summary>From a node's agent to a manager: what its checks have found.</summary>
public sealed record HealthReport
{
    public required string NodeId { get; init; }

    /// <summary>All this node knows; otherwise only what has changed since its last report.</summary>
    public bool Full { get; init; }

    /// <summary>How many endpoints this node checks, and how many of them last gave no answer at all.</summary>
    public int Targets { get; init; }
    public int Silent { get; init; }

    /// <summary>Most of its targets are silent: the node itself believes that the fault is its own.</summary>
    public bool Distrusted { get; init; }
    public IReadOnlyList<CheckStanding> Standings { get; set; } = [];

    /// <summary>How this node's clients fare with endpoints of services that eject by it.</summary>
    public IReadOnlyList<PassiveSign> Signs { get; set; } = [];

    /// <summary>Live flows from this node to endpoints that are being drained, by endpoint.</summary>
    public IReadOnlyDictionary<string, long> Flows { get; set; } = new Dictionary<string, long>();

    /// <summary>The revision by which <see cref="Flows"/> were counted.</summary>
    public long FlowsRevision { get; init; }
}

/// <summary>From a manager to another: reports of nodes that are at home with it.</summary>
public sealed record HealthReports
{
    public IReadOnlyList<HealthReport> Reports { get; set; } = [];
}

/// <summary>Connections of one node's clients to an endpoint, as they are now.</summary>
public sealed record PassiveSign
{
    public required string EndpointId { get; init; }
    public int Flows { get; init; }

    /// <summary>Of those, unanswered, retransmitting, or reset some seconds ago.</summary>
    public int Troubled { get; init; }
}

/// <summary>A manager asks a node to look at another node's endpoint.</summary>
public sealed record ProbeTask
{
    public required string EndpointId { get; init; }

    /// <summary>Only whether the endpoint's kernel answers: a refusal counts as alive.</summary>
    public bool Reach { get; init; }
}

/// <summary>What a manager asks of a node at present; replaces what it asked before.</summary>
public sealed record ProbeTasks
{
    public long Version { get; init; }
    public IReadOnlyList<ProbeTask> Tasks { get; set; } = [];
}

/// <summary>The application's own word about an endpoint of a service with a ttl check.</summary>
public sealed record CheckWord
{
    /// <summary>pass, warn or fail.</summary>
    public required string Status { get; init; }
    public string? Note { get; init; }
}

/// <summary>How far a drain has come.</summary>
public sealed record DrainReport
{
    public required string Endpoint { get; init; }

    /// <summary>The revision with weight 0.</summary>
    public long Revision { get; init; }

    /// <summary>Every ready node has it, and no flow is left (or the service's drain time is over).</summary>
    public bool Done { get; init; }
    public bool DeadlinePassed { get; init; }

    /// <summary>Nodes that have not acknowledged the revision yet.</summary>
    public IReadOnlyList<string> Waiting { get; set; } = [];

    /// <summary>Live flows by the node that they leave from.</summary>
    public IReadOnlyDictionary<string, long> Flows { get; set; } = new Dictionary<string, long>();
}

/// <summary>One prober's view of a backend, for people.</summary>
public sealed record ProberView
{
    public required string Node { get; init; }
    public bool? Passing { get; init; }
    public required string Outcome { get; init; }
    public string Reason { get; set; } = "";
    public double LatencyMs { get; init; }
    public double SecondsAgo { get; init; }

    /// <summary>This node watches the process that serves it, and hears of its end at once.</summary>
    public bool Watched { get; init; }
}
