using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// A node's part in health: checks its own endpoints and those that managers wonder about, and reports what it finds. While no
/// manager answers it goes on checking and keeps what it found for the first that does.
/// </summary>
internal sealed partial class HealthAgent : IHealthViews, IDisposable
{
    private const int FewTargets = 200;
    private static readonly TimeSpan Together = TimeSpan.FromMilliseconds(5), Retry = TimeSpan.FromMilliseconds(500), CallTimeout = TimeSpan.FromSeconds(5), PollTimeout = TimeSpan.FromSeconds(40);
    private static readonly TimeSpan FullOfFew = TimeSpan.FromSeconds(3), FullOfMany = TimeSpan.FromSeconds(30), FlowsEvery = TimeSpan.FromMilliseconds(500), SignsEvery = TimeSpan.FromSeconds(3);
    private readonly string _nodeId;
    private readonly RegistryClient _registry;
    private readonly SnapshotFollower _follower;
    private readonly Reconciler _reconciler;
    private readonly Func<(long Revision, IReadOnlyDictionary<string, long> Flows)> _flows;
    private readonly TimeProvider _time;
    private readonly EventLogger _events;
    private readonly ILogger _logger;
    private readonly HealthProber _prober;
    private readonly ProcessWatch _processes;
    private readonly SemaphoreSlim _report = new(0);
    private readonly Lock _gate = new();
    private ProbeTasks _tasks = new() { Version = -1 };
    private IReadOnlyList<PassiveSign> _signs = [];
    private string? _trouble;
    private bool _distrusted;

    /// <param name="flows">Live flows from this node to endpoints that are being drained, and the revision they were counted by.</param>
    public HealthAgent(
        string nodeId, RegistryClient registry, SnapshotFollower follower, Reconciler reconciler,
        Func<(long Revision, IReadOnlyDictionary<string, long> Flows)> flows, EventLogger events, TimeProvider time, ILoggerFactory loggers)
    {
        (_nodeId, _registry, _follower, _reconciler, _flows, _events, _time) = (nodeId, registry, follower, reconciler, flows, events, time);
        _logger = loggers.CreateLogger<HealthAgent>();
        _processes = new ProcessWatch(id => _prober!.ProcessEnded(id), id => _prober!.Touch(id), time);
        _prober = new HealthProber(time, loggers.CreateLogger<HealthProber>()) { IsWatched = _processes.IsWatched };
        _prober.Changed += Wake;
        _prober.Passed += _processes.Look;
        // What the kernel does not have yet is not probed: it would fail for no fault of the endpoint.
        _reconciler.Applied += _ => Replan();
    }

    public IEnumerable<Task> Start(CancellationToken cancellation)
    {
        _prober.Start();
        _processes.Start();
        return [_processes.Run(cancellation), Report(cancellation), FollowTasks(cancellation), CountFlows(cancellation), ReadSigns(cancellation), MindHeld(cancellation)];
    }

    /// <summary>The application's own word about an endpoint of this node.</summary>
    /// <exception cref="RegistryException">404: there is no such endpoint here; 409: its service has no ttl check; 400: an unknown word.</exception>
    public void Say(string reference, CheckWord word)
    {
        var outcome = word.Status switch
        {
            "pass" => CheckOutcome.Pass,
            "warn" => CheckOutcome.Warn,
            "fail" => CheckOutcome.BadAnswer,
            _ => throw Refuse.Invalid("invalid-status", "status", word.Status, "it is unknown", "say pass, warn or fail"),
        };
        var endpoint = _follower.Current.FindEndpoint(reference).Candidates.FirstOrDefault(e => e.NodeId == _nodeId && e.Kind == EndpointKind.Container)
            ?? throw Refuse.NotFound("endpoint", reference, "it is not on this node", "say it on the endpoint's own node; see 'overlaynet endpoint ls'");
        if (!_prober.Say(endpoint.Id, outcome, word.Note ?? (word.Status == "fail" ? "the application says so" : "")))
            throw Refuse.Conflict("no-ttl-check", "endpoint", endpoint.Name, "its service has no ttl check, so nobody waits for the application's word",
                "give the service one: overlaynet service update --health ttl:30s NAME");
    }

    /// <summary>On a node without a registry: what this node itself has found.</summary>
    public IReadOnlyList<ProberView> Probers(string endpointId) =>
        _prober.Standing(endpointId) is { } standing ? [HealthViews.Of(_follower.Current.Nodes.GetValueOrDefault(_nodeId)?.Name ?? _nodeId, standing, _time.GetUtcNow())] : [];

    /// <summary>Of what is held, only a manager knows more than this.</summary>
    public string? Held(string endpointId) =>
        _follower.Held.ContainsKey(endpointId) ? "the registry came back without it: it stays in use until its node puts it back, or it does not answer" : null;

    /// <inheritdoc cref="HealthProber.Trust"/>
    public (int Targets, int Silent, bool Distrusted) Trust() => _prober.Trust();

    /// <summary>Checks that are under way.</summary>
    public int Running => _prober.Running;

    public void Dispose()
    {
        _processes.Dispose();
        _prober.Dispose();
        _report.Dispose();
    }

    private void Wake()
    {
        if (_report.CurrentCount == 0)
            _report.Release();
    }

    private void Replan()
    {
        lock (_gate)
        {
            if (!_follower.Synced)
                return;
            var snapshot = _follower.Current;
            var checks = CheckPlan.Of(snapshot, _nodeId, [.. Volatile.Read(ref _tasks).Tasks, .. _follower.Held.Keys.Select(id => new ProbeTask { EndpointId = id, Reach = true })]);
            var built = _reconciler.AppliedRevision;
            _prober.Apply(checks.Where(entry => snapshot.Endpoints[entry.Key].State != EndpointState.Starting || snapshot.Revision <= built)
                .ToDictionary(entry => entry.Key, entry => entry.Value));
            foreach (var check in checks.Values.Where(check => check is { Own: true, InUse: true, Reach: false } && check.TaskNetns.Length > 0))
                _processes.Expect(check);
            _processes.Forget(checks.Where(entry => entry.Value.Own).Select(entry => entry.Key).ToHashSet());
        }
    }

    private void Take(ProbeTasks tasks)
    {
        if (tasks.Version == Volatile.Read(ref _tasks).Version)
            return;
        Volatile.Write(ref _tasks, tasks);
        Replan();
    }

    private async Task Report(CancellationToken cancellation)
    {
        var fullAt = 0L;
        while (!cancellation.IsCancellationRequested)
        {
            var (targets, silent, distrusted) = _prober.Trust();
            await _report.WaitAsync(targets > FewTargets ? FullOfMany : FullOfFew, cancellation).ConfigureAwait(false);
            await Task.Delay(Together, _time, cancellation).ConfigureAwait(false);
            (targets, silent, distrusted) = _prober.Trust();
            Say(distrusted, targets, silent);
            var full = fullAt == 0 || _time.GetElapsedTime(fullAt) >= (targets > FewTargets ? FullOfMany : FullOfFew);
            var (revision, flows) = _flows();
            var report = new HealthReport
            {
                NodeId = _nodeId,
                Full = full,
                Targets = targets,
                Silent = silent,
                Distrusted = distrusted,
                Standings = _prober.Standings(full),
                Signs = Volatile.Read(ref _signs),
                Flows = flows,
                FlowsRevision = revision,
            };
            // Nothing to say and nobody to say it for: a node without checks is silent here.
            if (!full && report.Standings.Count == 0 && flows.Count == 0 && report.Signs.Count == 0)
                continue;
            try
            {
                using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                timeout.CancelAfter(CallTimeout);
                Take(await _registry.ReportHealth(report, timeout.Token).ConfigureAwait(false));
                if (full)
                    fullAt = _time.GetTimestamp();
                _trouble = null;
            }
            catch (Exception e) when (e is RegistryException or HttpRequestException or IOException or OperationCanceledException && !cancellation.IsCancellationRequested)
            {
                HealthMetrics.ReportsLost.Add(1);
                if (_trouble != e.Message)
                    Log.NotReported(_logger, e.Message);
                _trouble = e.Message;
                // Whoever answers next may know nothing: everything is said again.
                fullAt = 0;
                await Task.Delay(Retry, _time, cancellation).ConfigureAwait(false);
                Wake();
            }
        }
    }

    private void Say(bool distrusted, int targets, int silent)
    {
        if (distrusted == _distrusted)
            return;
        _distrusted = distrusted;
        var node = _follower.Current.Nodes.GetValueOrDefault(_nodeId)?.Name ?? _nodeId;
        _events("health", distrusted ? "distrust" : "trust", node,
            distrusted ? $"{silent} of {targets} targets are silent: this node's checks are set aside" : $"{silent} of {targets} targets are silent: this node's checks count again", _follower.Current.Revision);
    }

    private async Task FollowTasks(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            try
            {
                using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                timeout.CancelAfter(PollTimeout);
                Take(await _registry.WaitForProbeTasks(_nodeId, Volatile.Read(ref _tasks).Version, timeout.Token).ConfigureAwait(false));
            }
            catch (Exception e) when (e is RegistryException or HttpRequestException or IOException or OperationCanceledException && !cancellation.IsCancellationRequested)
            {
                await Task.Delay(Retry, _time, cancellation).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Every look is told, also the first that shows nothing any more.</summary>
    private async Task ReadSigns(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            await Task.Delay(SignsEvery, _time, cancellation).ConfigureAwait(false);
            var before = Volatile.Read(ref _signs);
            if (before.Count == 0 && !PassiveSigns.Services(_follower.Current).Any())
                continue;
            var signs = await Task.Run(() => PassiveSigns.Read(_follower.Current, _nodeId), cancellation).ConfigureAwait(false);
            Volatile.Write(ref _signs, signs);
            if (before.Count + signs.Count > 0)
                Wake();
        }
    }

    /// <summary>While something is drained, flows are counted often: somebody waits for the last to end.</summary>
    private async Task CountFlows(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            var changed = _follower.Changed;
            if (_flows().Flows.Count == 0 && !_follower.Current.Endpoints.Values.Any(endpoint => endpoint.State == EndpointState.Draining))
            {
                // Nothing is drained until the registry says otherwise.
                await changed.WaitAsync(cancellation).ConfigureAwait(false);
            }
            else
            {
                _reconciler.Wake();
                Wake();
            }
            await Task.Delay(FlowsEvery, _time, cancellation).ConfigureAwait(false);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "health: not reported, tried again: {Reason}")]
        public static partial void NotReported(ILogger logger, string reason);
    }
}
