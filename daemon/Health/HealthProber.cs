using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health.Probers;
using OverlayNet.Kernel;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// Carries out a node's checks. One thread keeps the schedule and makes the sockets, since a socket belongs to the namespace
/// of the thread that makes it; the rest of a check is asynchronous. Probes come from the node's own address inside the network,
/// by the very path that traffic of this node takes.
/// </summary>
internal sealed partial class HealthProber : IDisposable
{
    private const int MostAtOnce = 512;

    // Results for an endpoint that has just become known are wanted soon, but not all in one burst.
    private static readonly TimeSpan EagerSpread = TimeSpan.FromMilliseconds(300), EagerSpreadOfMany = TimeSpan.FromSeconds(2);
    private const int Many = 200;

    // Checks that are due so soon after one another begin together: entering a namespace costs as much as a check's first packet.
    private static readonly TimeSpan MostEarly = TimeSpan.FromMilliseconds(20);
    private const int EarlyPart = 250;
    private static readonly TimeSpan EagerInterval = TimeSpan.FromSeconds(1);
    private readonly Lock _gate = new();
    private readonly Dictionary<string, HealthTarget> _targets = [];
    private readonly PriorityQueue<(HealthTarget Target, long Round), long> _queue = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly ConcurrentDictionary<string, byte> _changed = new();
    private Thread? _thread;
    private volatile bool _stopping;
    private int _running;

    // What the schedule's thread sleeps until, by the clock's timestamps.
    private long _sleepsUntil = long.MaxValue;
    private bool _distrusted;

    public HealthProber(TimeProvider time, ILogger<HealthProber> logger)
    {
        _time = time;
        _logger = logger;
    }

    /// <summary>Something worth a report: a verdict, a first failure, an answer that somebody waits for.</summary>
    public event Action? Changed;

    /// <summary>An endpoint of this node has just passed: whoever watches processes may want to look who listens.</summary>
    public event Action<PlannedCheck>? Passed;

    public void Start()
    {
        // The inner thread may change namespaces; it never returns to a pool.
        _thread = new Thread(() => NetworkNamespace.RunOnThread(Loop)) { IsBackground = true, Name = "health" };
        _thread.Start();
    }

    /// <summary>The checks from now on. What is known of an endpoint stays known when its check changes.</summary>
    public void Apply(IReadOnlyDictionary<string, PlannedCheck> checks)
    {
        lock (_gate)
        {
            foreach (var gone in _targets.Keys.Where(id => !checks.ContainsKey(id)).ToList())
            {
                _targets.Remove(gone, out var target);
                // Its places in the queue are outdated from now on.
                target!.Round++;
            }
            var news = checks.Count(entry => !_targets.ContainsKey(entry.Key));
            var spread = news > Many ? EagerSpreadOfMany : EagerSpread;
            foreach (var (id, plan) in checks)
            {
                if (_targets.TryGetValue(id, out var target))
                    Change(target, plan);
                else
                    Enqueue(_targets[id] = new HealthTarget(plan), CheckSchedule.First(id, First(plan, spread)));
            }
        }
        _wake.Set();
    }

    /// <summary>Whether the process that serves an endpoint of this node is watched.</summary>
    public Func<string, bool> IsWatched { get; init; } = _ => false;

    /// <summary>Something about an endpoint that is told with its standing is otherwise than before.</summary>
    public void Touch(string endpointId)
    {
        _changed[endpointId] = 0;
        Changed?.Invoke();
    }

    /// <summary>Checks an endpoint now: one of its processes has ended.</summary>
    public void ProcessEnded(string endpointId)
    {
        lock (_gate)
        {
            if (!_targets.TryGetValue(endpointId, out var target) || target.Plan.Check.Kind == CheckKind.Ttl)
                return;
            target.EndedAt = _time.GetTimestamp();
            if (target.Running)
                target.Again = true;
            else
                Enqueue(target, TimeSpan.Zero);
        }
        _wake.Set();
    }

    /// <summary>The application's own word.</summary>
    /// <returns>False: this node has no such endpoint with a ttl check.</returns>
    public bool Say(string endpointId, CheckOutcome outcome, string note)
    {
        HealthTarget? target;
        lock (_gate)
        {
            if (!_targets.TryGetValue(endpointId, out target) || target.Plan.Check.Kind != CheckKind.Ttl)
                return false;
            Enqueue(target, TimeSpan.FromMilliseconds(target.Plan.Check.IntervalMs));
        }
        Record(target, new ProbeResult(outcome, note), _time.GetTimestamp(), 0);
        _wake.Set();
        return true;
    }

    /// <summary>Targets, and how many of them last gave no answer at all.</summary>
    public (int Targets, int Silent, bool Distrusted) Trust()
    {
        lock (_gate)
        {
            // Only those in use: what was withdrawn long ago says nothing of this node, nor does what others wonder about.
            var own = _targets.Values.Where(target => target is { Last: not null, Plan: { Own: true, InUse: true } }).ToList();
            var silent = own.Count(target => target.Last!.Outcome == CheckOutcome.NoAnswer);
            return (own.Count, silent, ProberTrust.Distrusted(own.Count, silent));
        }
    }

    /// <summary>Checks that are under way.</summary>
    public int Running => Volatile.Read(ref _running);

    /// <summary>What is known of every endpoint, or of those that changed since the last time this was asked.</summary>
    public IReadOnlyList<CheckStanding> Standings(bool all)
    {
        lock (_gate)
        {
            var changed = _changed.Keys.ToList();
            foreach (var id in changed)
                _changed.TryRemove(id, out _);
            return all
                ? [.. _targets.Values.Select(target => Contract(target)).OfType<CheckStanding>()]
                : [.. changed.Select(id => _targets.GetValueOrDefault(id) is { } target ? Contract(target) : null).OfType<CheckStanding>()];
        }
    }

    /// <summary>Null: not known here.</summary>
    public CheckStanding? Standing(string endpointId)
    {
        lock (_gate)
            return _targets.GetValueOrDefault(endpointId) is { } target ? Contract(target) : null;
    }

    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        _thread?.Join();
        _wake.Dispose();
    }

    private CheckStanding? Contract(HealthTarget target) => target.ToContract(target.Plan.Own && IsWatched(target.Plan.EndpointId));

    private void Change(HealthTarget target, PlannedCheck plan)
    {
        var before = target.Plan;
        target.Plan = plan;
        // Sooner than planned when the interval got shorter or somebody waits now; never at once for all of them.
        var interval = Interval(plan);
        if (!target.Running && (interval < Interval(before) || (plan.Eager && !before.Eager)))
            Enqueue(target, CheckSchedule.First(plan.EndpointId, plan.Check.Kind == CheckKind.Ttl ? interval : TimeSpan.FromTicks(Math.Min(interval.Ticks, EagerSpread.Ticks))));
    }

    private static TimeSpan First(PlannedCheck plan, TimeSpan spread)
    {
        var interval = Interval(plan);
        // A second opinion is wanted now: others are asked only while something is in doubt.
        return !plan.Own ? TimeSpan.FromMilliseconds(Math.Min(spread.TotalMilliseconds, plan.Check.TimeoutMs / 10.0))
            : plan.Check.Kind == CheckKind.Ttl || !plan.Eager ? interval
            : TimeSpan.FromTicks(Math.Min(interval.Ticks, spread.Ticks));
    }

    private static TimeSpan Interval(PlannedCheck plan)
    {
        var interval = TimeSpan.FromMilliseconds(plan.Check.IntervalMs);
        return plan.Eager && plan.Check.Kind != CheckKind.Ttl && interval > EagerInterval ? EagerInterval : interval;
    }

    private void Enqueue(HealthTarget target, TimeSpan delay)
    {
        target.Round++;
        target.DueAt = _time.GetTimestamp() + (long)(delay.TotalSeconds * _time.TimestampFrequency);
        _queue.Enqueue((target, target.Round), target.DueAt);
        // Most are due long after what the thread waits for anyway.
        if (target.DueAt < _sleepsUntil)
            _wake.Set();
    }

    private void Loop()
    {
        var due = new List<HealthTarget>();
        while (!_stopping)
        {
            var wait = TakeDue(due);
            if (due.Count > 0)
            {
                foreach (var group in due.GroupBy(target => target.Plan.Netns))
                    Launch(group.Key, [.. group]);
                due.Clear();
                continue;
            }
            _wake.WaitOne(wait);
        }
    }

    /// <returns>How long nothing is due.</returns>
    private TimeSpan TakeDue(List<HealthTarget> due)
    {
        lock (_gate)
        {
            var now = _time.GetTimestamp();
            while (_queue.TryPeek(out var next, out var at))
            {
                var outdated = next.Round != next.Target.Round || next.Target.Running;
                _sleepsUntil = at;
                if (!outdated && at > (due.Count == 0 ? now : now + Early(next.Target)))
                    return TimeSpan.FromMilliseconds(Math.Max(1, Math.Ceiling(_time.GetElapsedTime(now, at).TotalMilliseconds)));
                if (!outdated && Volatile.Read(ref _running) + due.Count >= MostAtOnce)
                    return TimeSpan.FromMilliseconds(5);
                _queue.Dequeue();
                if (outdated)
                    continue;
                next.Target.Running = true;
                HealthMetrics.Lateness.Record(Math.Max(0, _time.GetElapsedTime(at, now).TotalSeconds));
                due.Add(next.Target);
            }
            _sleepsUntil = long.MaxValue;
            return Timeout.InfiniteTimeSpan;
        }
    }

    /// <summary>By how many ticks a check may begin early, beside another: far less than its jitter.</summary>
    private long Early(HealthTarget target) =>
        (long)(Math.Min(MostEarly.TotalSeconds, Interval(target.Plan).TotalSeconds / EarlyPart) * _time.TimestampFrequency);

    private void Launch(string netnsName, List<HealthTarget> targets)
    {
        Interlocked.Add(ref _running, targets.Count);
        var begun = 0;
        try
        {
            using var netns = NetworkNamespace.Open(NamedNamespaces.PathOf(netnsName));
            netns.Run(() =>
            {
                for (; begun < targets.Count; begun++)
                    _ = Probe(targets[begun]);
            });
        }
        catch (KernelException e)
        {
            Log.NoNamespace(_logger, netnsName, e.Message);
            for (; begun < targets.Count; begun++)
                Finish(targets[begun], null, 0, 0);
        }
    }

    /// <summary>Begins in the network's namespace; after the first wait it may go on in any thread.</summary>
    private async Task Probe(HealthTarget target)
    {
        var plan = target.Plan;
        var begun = _time.GetTimestamp();
        ProbeResult? result = null;
        var timeout = new CancellationTokenSource(plan.Check.TimeoutMs);
        try
        {
            result = await Run(plan, timeout.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            result = ProbeResult.NoAnswer($"no answer within {plan.Check.TimeoutMs} ms");
        }
        catch (SocketException e)
        {
            result = ProbeResult.Of(e) ?? LocalFault(plan, e);
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            result = timeout.IsCancellationRequested ? ProbeResult.NoAnswer($"no answer within {plan.Check.TimeoutMs} ms")
                : e.GetBaseException() is SocketException inner && ProbeResult.Of(inner) is { } of ? of
                : ProbeResult.Bad(e.GetBaseException().Message);
        }
        catch (Exception e)
        {
            // A fault in a prober must neither end the schedule nor be taken for the endpoint's.
            result = LocalFault(plan, e);
        }
        finally
        {
            timeout.Dispose();
        }
        Finish(target, result, begun, _time.GetElapsedTime(begun).TotalMilliseconds);
    }

    private static async Task<ProbeResult?> Run(PlannedCheck plan, CancellationToken cancellation)
    {
        if (plan.Check.Kind == CheckKind.Ttl && !plan.Reach)
            return ProbeResult.Bad($"no word of the application for {plan.Check.IntervalMs / 1000.0:0.#} s");
        if (plan.Check.Kind == CheckKind.Exec && !plan.Reach)
            return await ExecProber.Run(plan, cancellation).ConfigureAwait(false);
        var udp = plan.Check.Kind == CheckKind.Udp;
        using var socket = new Socket(plan.Address.AddressFamily, udp ? SocketType.Dgram : SocketType.Stream, udp ? ProtocolType.Udp : ProtocolType.Tcp);
        if (!udp)
        {
            // Closed by a reset once the answer is there: thousands of checks must not fill the port range with TIME-WAIT.
            socket.LingerState = new LingerOption(true, 0);
            socket.NoDelay = true;
        }
        if (plan.Source is { } source)
            socket.Bind(new IPEndPoint(source, 0));
        return udp
            ? await UdpProber.Run(plan, socket, cancellation).ConfigureAwait(false)
            : await StreamProbers.Run(plan, socket, cancellation).ConfigureAwait(false);
    }

    private ProbeResult? LocalFault(PlannedCheck plan, Exception e)
    {
        Log.LocalFault(_logger, plan.EndpointId, e.Message);
        return null;
    }

    private void Finish(HealthTarget target, ProbeResult? result, long begun, double latencyMs)
    {
        Interlocked.Decrement(ref _running);
        lock (_gate)
        {
            target.Running = false;
            var known = _targets.TryGetValue(target.Plan.EndpointId, out var current) && ReferenceEquals(current, target);
            if (known && target.Plan.Check.Kind == CheckKind.Ttl && !target.Plan.Reach)
                Enqueue(target, Interval(target.Plan));
            else if (known)
                // From the begin of this check to the next, however long this one took.
                Enqueue(target, target.Again ? TimeSpan.Zero : CheckSchedule.Gap(target.Plan.EndpointId, target.Round, Interval(target.Plan)) - TimeSpan.FromMilliseconds(latencyMs));
            target.Again = false;
            if (!known)
                return;
        }
        if (result is not null)
            Record(target, result, begun, latencyMs);
    }

    /// <param name="begun">When the check began: one that began before a process ended says nothing of what listens since.</param>
    private void Record(HealthTarget target, ProbeResult result, long begun, double latencyMs)
    {
        var plan = target.Plan;
        HealthMetrics.Checks.Add(1, new("kind", plan.Check.Kind.ToString().ToLowerInvariant()), new("outcome", result.Outcome.ToString().ToLowerInvariant()));
        HealthMetrics.Latency.Record(latencyMs / 1000);
        bool worth, passed;
        RiseFall before, after;
        bool? nowDistrusted = null;
        int targets = 0, silent = 0;
        lock (_gate)
        {
            if (target.EndedAt is not null && result.Outcome == CheckOutcome.Refused)
                result = new ProbeResult(CheckOutcome.Gone, "its process has ended, and nobody listens");
            (before, var lastOutcome) = (target.Standing, target.Last?.Outcome);
            after = before.Next((ProbeOutcome)result.Outcome, plan.Check.Failures, plan.Check.Successes);
            (target.Standing, target.Last, target.LatencyMs, target.AtUnixMs) = (after, result, latencyMs, _time.GetUtcNow().ToUnixTimeMilliseconds());
            passed = RiseFall.IsSuccess((ProbeOutcome)result.Outcome);
            if (passed && begun >= target.EndedAt)
                target.EndedAt = null;
            worth = after.Verdict != before.Verdict || lastOutcome != result.Outcome || !plan.Own;
            // While it fails each result counts: how many came in a row may decide.
            worth |= after.Verdict == Verdict.Failing;
            if (worth)
                _changed[plan.EndpointId] = 0;
            if (lastOutcome != result.Outcome)
            {
                (targets, silent, var distrusted) = Trust();
                if (distrusted != _distrusted)
                    nowDistrusted = _distrusted = distrusted;
            }
        }
        if (after.Verdict != before.Verdict)
        {
            HealthMetrics.Verdicts.Add(1, new KeyValuePair<string, object?>("verdict", after.Verdict.ToString().ToLowerInvariant()));
            if (after.Verdict == Verdict.Failing)
                Log.Failing(_logger, plan.EndpointId, plan.Name, plan.Address, result.Reason);
            else
                Log.Passing(_logger, plan.EndpointId, plan.Name, plan.Address, latencyMs);
        }
        if (nowDistrusted is { } changed)
            Log.Distrust(_logger, changed ? "distrusts itself" : "trusts itself again", silent, targets);
        if (passed && plan.Own && plan.TaskNetns.Length > 0)
            Passed?.Invoke(plan);
        if (worth)
            Changed?.Invoke();
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "endpoint {Id} of {Service} at {Address}: fails its check: {Reason}")]
        public static partial void Failing(ILogger logger, string id, string service, IPAddress address, string reason);

        [LoggerMessage(2, LogLevel.Information, "endpoint {Id} of {Service} at {Address}: passes its check after {Latency:F1} ms")]
        public static partial void Passing(ILogger logger, string id, string service, IPAddress address, double latency);

        [LoggerMessage(3, LogLevel.Warning, "health: this node {What}: {Silent} of {Targets} targets are silent")]
        public static partial void Distrust(ILogger logger, string what, int silent, int targets);

        [LoggerMessage(4, LogLevel.Debug, "health: namespace {Netns} cannot be entered: {Reason}")]
        public static partial void NoNamespace(ILogger logger, string netns, string reason);

        [LoggerMessage(5, LogLevel.Warning, "health: endpoint {Id} could not be checked, which says nothing of it: {Reason}")]
        public static partial void LocalFault(ILogger logger, string id, string reason);
    }
}
