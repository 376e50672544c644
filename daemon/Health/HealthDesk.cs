using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// A manager's part in health: takes the nodes' reports, asks further nodes where silence has to be confirmed, and writes what
/// follows into the registry. It decides by what stands, not by what happened, so a manager that starts late, or loses its memory,
/// comes to the same result as soon as the nodes have reported.
/// </summary>
internal sealed partial class HealthDesk : IHealthViews, IAsyncDisposable
{
    private readonly ClusterRegistry _registry;
    private readonly TimeProvider _time;
    private readonly EventLog? _events;
    private readonly ILogger _logger;
    private readonly HealthDeskOptions _options;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, NodeReports> _nodes = [];
    private readonly Dictionary<string, Doubt> _doubts = [];
    private readonly Dictionary<string, TaskBoard> _boards = [];
    private readonly Dictionary<string, string> _held = [];
    private readonly HashSet<string> _panics = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly SemaphoreSlim _wake = new(0);
    private Task _loop = Task.CompletedTask;

    public HealthDesk(ClusterRegistry registry, HealthDeskOptions options, EventLog? events, TimeProvider time, ILogger<HealthDesk> logger) =>
        (_registry, _options, _events, _time, _logger) = (registry, options, events, time, logger);

    public void Start() => _loop = Task.Run(RunAsync);

    /// <summary>Takes a node's report.</summary>
    /// <param name="direct">The node is at home with this manager, rather than with another that passed it on.</param>
    /// <returns>What is asked of the node at present.</returns>
    public ProbeTasks Report(HealthReport report, bool direct = true)
    {
        lock (_gate)
        {
            var now = _time.GetTimestamp();
            if (!_nodes.TryGetValue(report.NodeId, out var node))
                _nodes[report.NodeId] = node = new NodeReports();
            (node.At, node.Direct, node.Distrusted, node.Targets, node.Silent) = (now, direct, report.Distrusted, report.Targets, report.Silent);
            (node.Flows, node.FlowsRevision, node.Signs) = (report.Flows, report.FlowsRevision, report.Signs);
            if (report.Full)
                node.Standings.Clear();
            foreach (var standing in report.Standings)
                node.Standings[standing.EndpointId] = new Heard(standing, now);
        }
        Wake();
        return Board(report.NodeId).Current;
    }

    /// <summary>Waits until something else is asked of a node than in version <paramref name="after"/>.</summary>
    public Task<ProbeTasks> TasksAsync(string nodeId, long after, TimeSpan patience, CancellationToken cancellation) =>
        Board(nodeId).AfterAsync(after, patience, _time, cancellation);

    public IReadOnlyList<ProberView> Probers(string endpointId)
    {
        var snapshot = _registry.Current;
        var owner = snapshot.Endpoints.GetValueOrDefault(endpointId)?.NodeId;
        lock (_gate)
        {
            return [.. _nodes.Where(entry => entry.Value.Standings.ContainsKey(endpointId))
                .OrderByDescending(entry => entry.Key == owner).ThenBy(entry => entry.Key, StringComparer.Ordinal)
                .Select(entry => HealthViews.Of(
                    snapshot.Nodes.GetValueOrDefault(entry.Key)?.Name ?? entry.Key, entry.Value.Standings[endpointId].Standing, _time.GetUtcNow()))];
        }
    }

    public string? Held(string endpointId)
    {
        lock (_gate)
            return _held.GetValueOrDefault(endpointId);
    }

    /// <summary>How far a drain has come: which nodes have not acknowledged it, and what still flows.</summary>
    public DrainReport Drain(Endpoint endpoint)
    {
        var snapshot = _registry.Current;
        var revision = _registry.RevisionOfEndpoint(endpoint.Id);
        var drainSeconds = endpoint.ServiceId is { } id && snapshot.Services.TryGetValue(id, out var service) ? service.DrainSeconds : 0;
        var passed = _time.GetUtcNow().ToUnixTimeMilliseconds() - endpoint.StateSinceUnixMs >= drainSeconds * 1000L;
        var concerned = snapshot.Nodes.Values
            .Where(node => node.State == NodeState.Ready && snapshot.NodeEndpoint(node.Id, endpoint.NetworkId) is not null).ToList();
        var lags = _registry.NodeLags().ToDictionary(lag => lag.Name, lag => lag.AppliedRevision);
        lock (_gate)
        {
            // Flows counted before weight 0 was in the kernel say nothing: more may have come after.
            var waiting = concerned
                .Where(node => lags.GetValueOrDefault(node.Name) < revision || _nodes.GetValueOrDefault(node.Id) is not { } reports || reports.FlowsRevision < revision)
                .Select(node => node.Name).Order(StringComparer.Ordinal).ToList();
            var flows = concerned
                .Select(node => (node.Name, Count: _nodes.GetValueOrDefault(node.Id)?.Flows.GetValueOrDefault(endpoint.Id) ?? 0))
                .Where(entry => entry.Count > 0).ToDictionary(entry => entry.Name, entry => entry.Count);
            var acknowledged = concerned.All(node => lags.GetValueOrDefault(node.Name) >= revision);
            return new DrainReport
            {
                Endpoint = endpoint.Name,
                Revision = revision,
                Waiting = waiting,
                Flows = flows,
                DeadlinePassed = passed,
                Done = Weights.Balanced(endpoint, snapshot.Nodes.GetValueOrDefault(endpoint.NodeId), TimeSpan.Zero, _time.GetUtcNow()) == 0
                    && ((waiting.Count == 0 && flows.Count == 0) || (passed && acknowledged)),
            };
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _loop.ConfigureAwait(false);
        _stop.Dispose();
        _wake.Dispose();
    }

    private TaskBoard Board(string nodeId)
    {
        lock (_gate)
        {
            if (!_boards.TryGetValue(nodeId, out var board))
                _boards[nodeId] = board = new TaskBoard();
            return board;
        }
    }

    private void Wake()
    {
        if (_wake.CurrentCount == 0)
            _wake.Release();
    }

    /// <summary>A result and when it came, by this manager's clock: nodes' clocks differ.</summary>
    private sealed record Heard(CheckStanding Standing, long At);

    private sealed class NodeReports
    {
        public long At { get; set; }

        /// <summary>The node is at home with this manager.</summary>
        public bool Direct { get; set; }
        public bool Distrusted { get; set; }
        public int Targets { get; set; }
        public int Silent { get; set; }
        public Dictionary<string, Heard> Standings { get; } = [];
        public IReadOnlyDictionary<string, long> Flows { get; set; } = new Dictionary<string, long>();
        public long FlowsRevision { get; set; } = -1;
        public IReadOnlyList<PassiveSign> Signs { get; set; } = [];
    }

    /// <summary>An endpoint about which others are asked: since when, whom.</summary>
    private sealed class Doubt
    {
        public required long Since { get; init; }
        public IReadOnlyList<string> Peers { get; set; } = [];
        public bool Reach { get; set; }
    }
}

/// <summary>Times of the desk.</summary>
internal sealed record HealthDeskOptions
{
    /// <summary>A node without a heartbeat for so long is wondered about: peers probe what is on it.</summary>
    public TimeSpan SilentAfter { get; init; } = TimeSpan.FromSeconds(2.5);

    /// <summary>And after so long their word takes its endpoints out, so that it is within six seconds of the node's death.</summary>
    public TimeSpan WithdrawAfter { get; init; } = TimeSpan.FromSeconds(4);

    /// <summary>How clients fared so long ago says nothing any more.</summary>
    public TimeSpan SignsGoodFor { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Reports older than this say nothing any more.</summary>
    public TimeSpan ReportsGoodFor { get; init; } = TimeSpan.FromSeconds(90);

    /// <summary>Endpoints that went within this time count together, for protection against shrinking.</summary>
    public TimeSpan ShrinkWindow { get; init; } = TimeSpan.FromSeconds(20);
}
