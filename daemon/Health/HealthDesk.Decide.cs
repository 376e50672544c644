using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Health;

internal sealed partial class HealthDesk
{
    // What clients select by.
    private static readonly string[] SubsetLabels = ["zone", "tag"];
    private static readonly TimeSpan PeerGrace = TimeSpan.FromMilliseconds(500);

    /// <summary>What follows from what is known now; also brings questions to peers, held endpoints and their view up to date.</summary>
    private List<HealthChange> Decide(Snapshot snapshot)
    {
        lock (_gate)
        {
            var now = _time.GetTimestamp();
            var cases = Cases(snapshot, now);
            Question(cases, snapshot, now);
            var changes = new List<HealthChange>();
            var held = new Dictionary<string, string>();
            foreach (var of in cases.Values.GroupBy(c => c.Endpoint.ServiceId ?? ""))
                DecideService(snapshot, [.. of], now, changes, held);
            PostTasks(snapshot, cases);
            SayHeld(snapshot, held);
            return changes;
        }
    }

    /// <summary>Every endpoint that anything may follow for.</summary>
    private Dictionary<string, Case> Cases(Snapshot snapshot, long now)
    {
        var cases = new Dictionary<string, Case>();
        var outliers = OutliersOf(snapshot, now);
        var hearsMost = snapshot.Nodes.Values.Count(node => _registry.SinceHeartbeat(node.Id) < _options.SilentAfter) * 2 >= snapshot.Nodes.Count;
        foreach (var node in snapshot.Nodes.Values)
        {
            var reports = _nodes.GetValueOrDefault(node.Id);
            var silence = _registry.SinceHeartbeat(node.Id) ?? TimeSpan.Zero;
            var silent = silence >= _options.SilentAfter || node.State != NodeState.Ready;
            // What it said before it fell silent is no reason to take anything back when it returns.
            if (silent)
                reports?.Standings.Clear();
            foreach (var endpoint in snapshot.EndpointsOf(node))
            {
                if (endpoint.Kind != EndpointKind.Container || Phase(endpoint.State) is not { } phase)
                    continue;
                var check = HealthTargets.CheckOf(snapshot, endpoint);
                if (check is null && !silent && phase == HealthPhase.Healthy)
                    continue;
                var heard = reports?.Standings.GetValueOrDefault(endpoint.Id);
                if (heard is not null && _time.GetElapsedTime(heard.At, now) > _options.ReportsGoodFor)
                    heard = null;
                // Most are well, or nothing is known of them: nothing follows.
                var outlier = outliers.TryGetValue(endpoint.Id, out var found) ? found : (Outlier?)null;
                if (phase == HealthPhase.Healthy && !silent && outlier is null && (heard is null || RiseFall.IsSuccess((ProbeOutcome)heard.Standing.Outcome)))
                    continue;
                cases[endpoint.Id] = new Case
                {
                    Endpoint = endpoint,
                    Node = node,
                    Check = check ?? HealthTargets.Reach(null),
                    Checked = check is not null,
                    Status = new HealthStatus(phase, endpoint.StateSinceUnixMs, endpoint.RampEighths),
                    Own = silent ? null : heard?.Standing,
                    Silent = silent,
                    Silence = silence,
                    HearsMost = hearsMost,
                    Outlier = outlier,
                    OwnTrusted = !silent && reports?.Distrusted != true,
                };
            }
        }
        return cases;
    }

    /// <summary>Opens doubts where silence has to be confirmed, and closes those that are over.</summary>
    private void Question(Dictionary<string, Case> cases, Snapshot snapshot, long now)
    {
        foreach (var id in _doubts.Keys.Where(id => !cases.TryGetValue(id, out var c) || !c.Doubtful).ToList())
        {
            _doubts.Remove(id, out var doubt);
            foreach (var peer in doubt!.Peers)
                _nodes.GetValueOrDefault(peer)?.Standings.Remove(id);
        }
        foreach (var (id, c) in cases)
        {
            if (!c.Doubtful)
                continue;
            if (!_doubts.TryGetValue(id, out var doubt))
                _doubts[id] = doubt = new Doubt { Since = now };
            doubt.Reach = !c.Checked || !HealthTargets.NeedsPort(c.Check.Kind);
            doubt.Peers = Peers(snapshot, c, now);
            foreach (var peer in doubt.Peers)
            {
                if (_nodes.GetValueOrDefault(peer)?.Standings.GetValueOrDefault(id) is not { } heard || heard.At < doubt.Since)
                    continue;
                if (RiseFall.IsSuccess((ProbeOutcome)heard.Standing.Outcome))
                    c.PeersPassing++;
                else
                    c.PeersFailing++;
            }
            c.PeersAsked = doubt.Peers.Count;
            c.Overdue = _time.GetElapsedTime(doubt.Since, now) > TimeSpan.FromMilliseconds(c.Check.TimeoutMs) + PeerGrace;
        }
    }

    /// <summary>Other nodes on the endpoint's network that are heard of and trust themselves; the same ones as long as they are.</summary>
    private List<string> Peers(Snapshot snapshot, Case c, long now) =>
    [
        .. snapshot.Nodes.Values
            .Where(node => node.Id != c.Endpoint.NodeId && node.State == NodeState.Ready
                && snapshot.NodeEndpoint(node.Id, c.Endpoint.NetworkId) is not null
                && (_registry.SinceHeartbeat(node.Id) ?? TimeSpan.MaxValue) < _options.SilentAfter
                && _nodes.GetValueOrDefault(node.Id) is { Distrusted: false } reports && _time.GetElapsedTime(reports.At, now) < _options.ReportsGoodFor)
            .OrderBy(node => CheckSchedule.First($"{c.Endpoint.Id}/{node.Id}", TimeSpan.FromDays(1)))
            .Take(c.Silent ? Math.Max(1, c.Check.Peers) : c.Check.Peers)
            .Select(node => node.Id),
    ];

    private void DecideService(Snapshot snapshot, List<Case> cases, long now, List<HealthChange> changes, Dictionary<string, string> held)
    {
        var nowUnixMs = _time.GetUtcNow().ToUnixTimeMilliseconds();
        var service = cases[0].Endpoint.ServiceId is { } id ? snapshot.Services.GetValueOrDefault(id) : null;
        foreach (var c in cases)
            c.Ruling = Judge(c, confirm: false);
        Eject(snapshot, service, cases);
        var questioned = Questioned(snapshot, service, cases, nowUnixMs);
        foreach (var c in cases)
        {
            var subset = questioned.GetValueOrDefault(c.Endpoint.Id);
            // What is ejected has been confirmed, and is a tenth of the service at most.
            if (subset is not null && c is { Ruling: Ruling.Withdraw, Ejected: false })
            {
                c.Ruling = Judge(c, confirm: true);
                // Nobody else can be asked: then its own node has to find the same once more.
                if (c.Ruling == Ruling.Withdraw && c.PeersAsked == 0 && !c.Silent && (c.Own?.InARow ?? 0) <= c.Check.Failures)
                    c.Ruling = Ruling.Wait;
            }
            if (WhyHeld(c, subset) is { } why)
                held[c.Endpoint.Id] = why;
            var passing = c.Silent ? c.PeersPassing > 0 : c.Own?.Passing == true;
            var times = Times(c, service);
            var next = HealthMachine.Next(c.Status, c.Ruling, passing, c.Silent, c.Own?.Outcome == CheckOutcome.Gone && subset is null, times, nowUnixMs);
            if (next != c.Status)
                changes.Add(new HealthChange(c.Endpoint.Id, c.Endpoint.State, State(next.Phase), next.Eighths, next.SinceUnixMs, Reason(c, next), c.Ejected && !next.Serves));
        }
    }

    private Ruling Judge(Case c, bool confirm)
    {
        // A node that is silent only just now is wondered about, no more.
        if (c.Silent && c.Silence < _options.WithdrawAfter && c.Node.State == NodeState.Ready)
            return Ruling.Wait;
        // Nobody can be asked, and its lease is over: that decides, while most others are heard (else it is this manager that
        // hears nothing) and while it would not empty the service.
        if (c is { Silent: true, PeersAsked: 0, Node.State: NodeState.Unmanaged or NodeState.Down } && c.HearsMost && !confirm)
            return Ruling.Withdraw;
        var verdict = c.Own?.Passing switch { true => Verdict.Passing, false => Verdict.Failing, _ => Verdict.Unknown };
        return Jury.Judge(
            new Ballot(verdict, (ProbeOutcome)(c.Own?.Outcome ?? CheckOutcome.NoAnswer), c.OwnTrusted, c.PeersAsked, c.PeersPassing, c.PeersFailing, c.Overdue), confirm);
    }

    /// <summary>Which of those that would go are too many at once; those that went just before count as going too.</summary>
    private IReadOnlyDictionary<string, string> Questioned(Snapshot snapshot, Service? service, List<Case> cases, long nowUnixMs)
    {
        var leaving = new HashSet<string>();
        foreach (var c in cases)
        {
            if (c.Ruling == Ruling.Withdraw && c.Status.Serves)
                leaving.Add(c.Endpoint.Id);
        }
        if (leaving.Count == 0 || service is null)
            return new Dictionary<string, string>();
        var members = new List<GuardedMember>();
        foreach (var endpoint in snapshot.EndpointsOf(service))
        {
            var justGone = endpoint.State is EndpointState.Unhealthy or EndpointState.Unreachable
                && nowUnixMs - endpoint.StateSinceUnixMs < _options.ShrinkWindow.TotalMilliseconds;
            if (justGone)
                leaving.Add(endpoint.Id);
            members.Add(new GuardedMember(
                endpoint.Id, justGone || endpoint.State is EndpointState.Healthy or EndpointState.Recovering,
                [.. SubsetLabels.Where(endpoint.Labels.ContainsKey).Select(label => $"{label}={endpoint.Labels[label]}")]));
        }
        return ShrinkGuard.Questioned(members, leaving, service.Health?.ShrinkPercent ?? 50);
    }

    private static string? WhyHeld(Case c, string? subset)
    {
        if (!c.Status.Serves)
            return null;
        if (c is { Outlier: { } outlier, Ruling: not Ruling.Withdraw } && c.Own is not { Passing: false })
            return $"{Clients(outlier)}: {(c.Confirmed ? "no more of the service may be ejected" : "its check does not confirm that")}, so it stays";
        var fails = c.Own is { Passing: false };
        if (fails && !c.OwnTrusted && c.Ruling != Ruling.Withdraw)
            return $"its node's check fails ({c.Own!.Reason}), but most of that node's targets are silent: its word is set aside";
        return c.Ruling switch
        {
            Ruling.OneSided => $"one-sided: {(c.Silent ? "its node is silent" : $"its own node fails to reach it ({c.Own?.Reason})")}, {c.PeersPassing} of {c.PeersAsked} other nodes reach it",
            Ruling.Wait when subset is not null && fails => $"too much would go at once ({(subset.Length == 0 ? "the service" : subset)}): waiting for another prober to confirm",
            Ruling.Keep when c.Silent && c.PeersPassing > 0 => $"its node is silent, and {c.PeersPassing} of {c.PeersAsked} other nodes reach it",
            _ => null,
        };
    }

    private static string Reason(Case c, HealthStatus next) => next.Phase switch
    {
        HealthPhase.Unhealthy when c.Ejected => $"ejected: {Clients(c.Outlier!.Value)}, and {(c.OwnFailed ? $"its check finds: {c.Own!.Reason}" : $"{c.PeersFailing} of {c.PeersAsked} other nodes fail to reach it")}",
        HealthPhase.Unhealthy => $"{c.Own?.Reason ?? "other nodes fail to reach it"}{(c.PeersFailing > 0 ? $", as {c.PeersFailing} of {c.PeersAsked} other nodes say" : "")}",
        HealthPhase.Unreachable => $"its node is silent for {c.Silence.TotalSeconds:0.0} s, and {c.PeersFailing} of {c.PeersAsked} other nodes fail to reach it",
        HealthPhase.Recovering => next.Eighths > 2 ? $"{next.Eighths} of 8" : "passes its check again",
        _ => "",
    };

    private static HealthTimes Times(Case c, Service? service) => new(
        c.Check.HoldMs > 0 ? c.Check.HoldMs : (c.Check.Failures - 1L) * c.Check.IntervalMs,
        service is { SlowStartSeconds: > 0 } ? service.SlowStartSeconds * 1000L : c.Check.RampMs);

    private void PostTasks(Snapshot snapshot, Dictionary<string, Case> cases)
    {
        var tasks = _doubts
            .SelectMany(doubt => doubt.Value.Peers.Select(peer => (Peer: peer, Task: new ProbeTask { EndpointId = doubt.Key, Reach = doubt.Value.Reach })))
            .ToLookup(entry => entry.Peer, entry => entry.Task);
        foreach (var node in snapshot.Nodes.Keys.Where(node => tasks.Contains(node) || _boards.ContainsKey(node)))
            Board(node).Ask([.. tasks[node].OrderBy(task => task.EndpointId, StringComparer.Ordinal)]);
        foreach (var gone in _nodes.Keys.Where(node => !snapshot.Nodes.ContainsKey(node)).ToList())
        {
            _nodes.Remove(gone);
            _boards.Remove(gone);
        }
    }

    /// <summary>Tells of what is held, once when it begins and once when it ends.</summary>
    private void SayHeld(Snapshot snapshot, Dictionary<string, string> held)
    {
        foreach (var (id, why) in held)
        {
            var begins = !_held.ContainsKey(id);
            _held[id] = why;
            // Every manager holds it; the one that its node is at home with says so.
            if (!begins || !Speaks(snapshot, id))
                continue;
            var name = snapshot.Endpoints.GetValueOrDefault(id)?.Name ?? id;
            HealthMetrics.Held.Add(1);
            Log.Held(_logger, id, name, why);
            _events?.Append("endpoint", "held", name, why, snapshot.Revision);
        }
        foreach (var id in _held.Keys.Where(id => !held.ContainsKey(id)).ToList())
        {
            _held.Remove(id);
            if (snapshot.Endpoints.GetValueOrDefault(id) is { } endpoint && Speaks(snapshot, id))
                _events?.Append("endpoint", "released", endpoint.Name, "no longer held by protection", snapshot.Revision);
        }
    }

    /// <summary>Without a word of its node, which manager heard it last says nothing: then each speaks.</summary>
    private bool Speaks(Snapshot snapshot, string endpointId) =>
        !snapshot.Endpoints.TryGetValue(endpointId, out var endpoint) || _nodes.GetValueOrDefault(endpoint.NodeId) is not { Direct: false };

    private static HealthPhase? Phase(EndpointState state) => state switch
    {
        EndpointState.Starting => HealthPhase.Starting,
        EndpointState.Healthy => HealthPhase.Healthy,
        EndpointState.Recovering => HealthPhase.Recovering,
        EndpointState.Unhealthy => HealthPhase.Unhealthy,
        EndpointState.Unreachable => HealthPhase.Unreachable,
        // What an operator decided is not health's to change.
        _ => null,
    };

    private static EndpointState State(HealthPhase phase) => phase switch
    {
        HealthPhase.Starting => EndpointState.Starting,
        HealthPhase.Healthy => EndpointState.Healthy,
        HealthPhase.Recovering => EndpointState.Recovering,
        HealthPhase.Unhealthy => EndpointState.Unhealthy,
        _ => EndpointState.Unreachable,
    };

    /// <summary>One endpoint while it is decided on.</summary>
    private sealed class Case
    {
        public required Endpoint Endpoint { get; init; }
        public required Node Node { get; init; }
        public required HealthCheck Check { get; init; }

        /// <summary>Its service asks for checks; otherwise only its node's death matters.</summary>
        public required bool Checked { get; init; }
        public required HealthStatus Status { get; init; }

        /// <summary>What its own node found; null: nothing, or nothing that is still good.</summary>
        public CheckStanding? Own { get; init; }
        public bool OwnTrusted { get; init; }
        public bool Silent { get; init; }
        public TimeSpan Silence { get; init; }

        /// <summary>The manager hears at least half of all nodes: that it does not hear this one is not its own fault.</summary>
        public bool HearsMost { get; init; }
        public int PeersAsked { get; set; }
        public int PeersPassing { get; set; }
        public int PeersFailing { get; set; }
        public bool Overdue { get; set; }
        public Ruling Ruling { get; set; }

        /// <summary>Clients fare badly with it.</summary>
        public Outlier? Outlier { get; init; }
        public bool Ejected { get; set; }
        public bool OwnFailed => Own is { } own && !RiseFall.IsSuccess((ProbeOutcome)own.Outcome);

        /// <summary>An active check finds what clients find; one is enough where so many clients agree.</summary>
        public bool Confirmed => OwnFailed || PeersFailing > PeersPassing;

        /// <summary>In use, and somebody finds silence: others are asked.</summary>
        public bool Doubtful => Status.Serves
            && (Silent || Outlier is not null || Own is { } own && !RiseFall.IsSuccess((ProbeOutcome)own.Outcome));
    }
}
