using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Tracing;
using OverlayNet.Dns;
using OverlayNet.Overlay;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// The three parts in their order. Adding goes FDB → balancer → DNS. When something goes away, two more steps keep
/// the reverse order: first everything old and new together, then names, then balancers, then paths.
/// </summary>
internal sealed partial class DataPlane(
    Overlay.Overlay overlay,
    BalancerSet balancers,
    DnsServer dns,
    DnsListeners listeners,
    AnsweringDevices answering,
    DnsPlanner dnsPlanner,
    Func<NodeFacts> facts,
    Action<OverlayConfig> watch,
    HostResolverAddresses resolverAddresses,
    EventLog events,
    AppliedTraces traces,
    TimeProvider time,
    ILogger<DataPlane> logger) : IDataPlane
{
    private readonly PartRecord _overlayPart = new("overlay"), _vipPart = new("vip"), _dnsPart = new("dns");
    private Applied? _applied;
    private bool _troubled;
    private IReadOnlyList<DnsListenAddress> _listening = [];

    /// <summary>How each part fared last, for status.</summary>
    public IReadOnlyList<PartStatus> Parts => [_overlayPart.Status, _vipPart.Status, _dnsPart.Status];

    /// <summary>What the balancers said last.</summary>
    public VipReport? Vip { get; private set; }

    /// <summary>Flows of this node's clients to a service's real servers, over every path, also of such as drain or are removed.</summary>
    public IReadOnlyList<RealServerStatistics> ReadFlows(string serviceId)
    {
        var config = _applied?.Vip ?? VipConfig.Empty;
        return
        [
            .. balancers.ReadStatistics(config with
            {
                Networks =
                [
                    .. config.Networks.Where(network => network.Services.Any(service => service.Id == serviceId))
                        .Select(network => network with { Services = [.. network.Services.Where(service => service.Id == serviceId)] }),
                ],
            }).Where(entry => entry.ServiceId == serviceId),
        ];
    }

    /// <summary>The same for all services at once.</summary>
    public IReadOnlyList<RealServerStatistics> ReadFlows() => _applied is { } applied ? balancers.ReadStatistics(applied.Vip) : [];

    /// <summary>
    /// Answers again where the daemon before this one did: by the snapshot and on the sockets that it left. What its names point
    /// at is still in the kernel, and a comparison with that may take longer than a client waits for its answer.
    /// </summary>
    public void Resume(Snapshot snapshot)
    {
        var config = dnsPlanner.Plan(snapshot, synced: true, time.GetUtcNow());
        dns.Apply(config);
        var networks = AnsweredNetworks(snapshot, config, null);
        listeners.TakeOver(ListenAddresses(networks, config));
        answering.TakeOver(networks);
    }

    public ApplyOutcome Apply(Snapshot snapshot, IReadOnlySet<string> suppressed, bool whole)
    {
        var spans = traces.BeginApply(snapshot.Revision, facts().NodeId);
        try
        {
            return ApplyAll(snapshot, suppressed, whole);
        }
        finally
        {
            foreach (var span in spans.Reverse())
                span.Dispose();
        }
    }

    private ApplyOutcome ApplyAll(Snapshot snapshot, IReadOnlySet<string> suppressed, bool whole)
    {
        var started = time.GetTimestamp();
        var node = facts();
        var basis = new PlanBasis(snapshot, suppressed);
        // What failed is not as remembered: only a comparison says how it is.
        whole |= _applied is null || _troubled;
        var errors = new Dictionary<string, string>();
        // A difference although nothing else is desired than before was made by somebody else.
        var mending = whole && _applied is { } last && snapshot.Revision == last.Basis.Snapshot.Revision && suppressed.SetEquals(last.Basis.Suppressed);
        var overlayNext = OverlayPlanner.Plan(snapshot, node, suppressed, whole ? null : network => Known(basis, node, network)?.Overlay);
        var vipNext = VipPlanner.Plan(snapshot, node.NodeId, suppressed, time.GetUtcNow(), whole ? null : network => Known(basis, node, network)?.Vip);
        // Until it is through: a fault on the way leaves what nobody remembers.
        _troubled = true;
        var pass = new Pass(snapshot, suppressed, whole, mending, errors);
        if (_applied is { } before && !OverlayPlanner.Adds(before.Overlay, overlayNext) && !VipPlanner.Adds(before.Vip, vipNext))
        {
            // Things only go, or nothing changes: names first, paths last.
            ApplyDns(pass, overlayNext);
            ApplyVip(pass, before.Vip, vipNext);
            ApplyOverlay(pass, before.Overlay, overlayNext);
        }
        else
        {
            var overlayBoth = _applied is null ? overlayNext : OverlayPlanner.Union(_applied.Overlay, overlayNext);
            var vipBoth = VipPlanner.Union(_applied?.Vip ?? VipConfig.Empty, vipNext);
            ApplyOverlay(pass, _applied?.Overlay, overlayBoth);
            ApplyVip(pass, _applied?.Vip, vipBoth);
            ApplyDns(pass, overlayNext);
            // What was compared a moment ago need not be again.
            var rest = pass with { Whole = false, Mending = false };
            ApplyVip(rest, vipBoth, vipNext);
            ApplyOverlay(rest, overlayBoth, overlayNext);
        }
        _applied = new Applied(basis, node, overlayNext, vipNext);
        Draining = CountDraining(vipNext);
        _troubled = errors.Count > 0 || pass.Gone.Count > 0;
        DaemonInstruments.Apply.Record(time.GetElapsedTime(started).TotalSeconds, DaemonInstruments.Tag("scope", whole ? "whole" : "change"));
        Log.Applied(logger, snapshot.Revision, whole ? "everything compared" : "what changed", time.GetElapsedTime(started).TotalMilliseconds);
        return new ApplyOutcome { Revision = snapshot.Revision, Whole = whole, Errors = errors, Ready = pass.Ready, Gone = [.. pass.Gone] };
    }

    /// <summary>What a network was planned as before, when nothing it depends on has changed.</summary>
    private (OverlayNetwork? Overlay, VipNetwork? Vip)? Known(PlanBasis basis, NodeFacts node, Network network) =>
        _applied is { } last && last.Node == node && basis.IsSame(last.Basis, network)
            ? (last.Overlay.Networks.FirstOrDefault(planned => planned.Vni == network.Vni), last.Vip.Networks.FirstOrDefault(planned => planned.Id == network.Id))
            : null;

    /// <summary>Live flows from this node to endpoints of weight 0, by endpoint, and the revision by which they were counted.</summary>
    public (long Revision, IReadOnlyDictionary<string, long> Flows) Draining { get; private set; } = (-1, new Dictionary<string, long>());

    /// <summary>Takes everything of this node out of the kernel, names first.</summary>
    public void Clear(Snapshot snapshot)
    {
        answering.Apply([], whole: true);
        listeners.Apply([]);
        resolverAddresses.Remove();
        balancers.Apply(VipConfig.Empty);
        overlay.Apply(OverlayPlanner.Plan(Snapshot.Empty, facts(), new HashSet<string>()) with { ClusterId = snapshot.ClusterId });
    }

    /// <summary>Every difference between what is desired and what is, changing nothing.</summary>
    public IReadOnlyList<(string Part, string Object, string Difference)> Observe(Snapshot snapshot)
    {
        var node = facts();
        var none = new HashSet<string>();
        var differences = new List<(string, string, string)>();
        var plan = overlay.Plan(OverlayPlanner.Plan(snapshot, node, none));
        differences.AddRange(plan.Changes.Select(change => ("overlay", change.Network, change.What)));
        differences.AddRange(plan.Errors.Select(error => ("overlay", error.Network, $"{error.What}: {error.Message}")));
        var observed = balancers.Observe(VipPlanner.Plan(snapshot, node.NodeId, none, time.GetUtcNow()));
        differences.AddRange(observed.Changes.Select(change => ("vip", change.Network, $"{change.Where}: {change.What}")));
        differences.AddRange(observed.Errors.Where(error => !error.NamespaceGone).Select(error => ("vip", error.Network, error.ToString())));
        return differences;
    }

    private (long, IReadOnlyDictionary<string, long>) CountDraining(VipConfig config)
    {
        var flows = config.Networks.SelectMany(network => network.Services).SelectMany(service => service.RealServers)
            .Where(server => server.Weight == 0).Select(server => server.EndpointId).Distinct().ToDictionary(id => id, _ => 0L);
        if (flows.Count == 0)
            return (config.Revision, flows);
        foreach (var statistics in balancers.ReadStatistics(config))
        {
            if (flows.TryGetValue(statistics.EndpointId, out var count))
                flows[statistics.EndpointId] = count + statistics.LiveFlows;
        }
        return (config.Revision, flows);
    }

    /// <param name="before">What was applied last; null: nothing yet.</param>
    private void ApplyOverlay(Pass pass, OverlayConfig? before, OverlayConfig config)
    {
        var revision = pass.Snapshot.Revision;
        if (!pass.Whole && before is not null && before with { Networks = config.Networks } == config
            && before.Networks.SequenceEqual(config.Networks, ReferenceEqualityComparer.Instance))
        {
            _overlayPart.Reached(revision);
            return;
        }
        using var span = Traces.Child("apply overlay");
        // Before, so that what is taken away now is not heard as a loss; after, so that new namespaces are listened to.
        watch(config);
        var report = pass.Whole || before is null ? overlay.Apply(config) : overlay.ApplyChange(before, config);
        watch(config);
        span?.SetTag("overlaynet.changes", report.Changes.Count);
        Count("overlay", report.Changes.Count, pass.Mending ? report.Changes.Count : 0, report.Errors.Count);
        foreach (var change in report.Changes)
        {
            if (pass.Mending)
            {
                Log.Mended(logger, "overlay", change.Network, change.What);
                events.Append("kernel", "mend", change.Network, change.What, revision);
            }
            else
            {
                Log.Changed(logger, "overlay", change.Network, change.What);
            }
        }
        foreach (var error in report.Errors)
        {
            Log.Failed(logger, "overlay", error.Network, error.What, error.Message);
            if (pass.Snapshot.FindNetwork(error.Network).Value is { } network)
                pass.Errors[network.Id] = error.ToString();
        }
        foreach (var (id, endpoint) in report.Endpoints)
        {
            if (endpoint.Outcome == EndpointOutcome.Failed)
                pass.Errors[id] = string.Join("; ", report.Errors.Select(error => error.ToString()));
            if (endpoint.Outcome == EndpointOutcome.Gone)
                pass.Gone.Add(id);
            if (endpoint is { Outcome: EndpointOutcome.Ready, Interface: { } @interface })
                pass.Ready[id] = @interface;
        }
        _overlayPart.Done(revision, report.Errors.Count > 0 ? report.Errors[0].ToString() : null, time.GetUtcNow());
    }

    /// <inheritdoc cref="ApplyOverlay"/>
    private void ApplyVip(Pass pass, VipConfig? before, VipConfig config)
    {
        var revision = pass.Snapshot.Revision;
        if (!pass.Whole && before is not null && before.Networks.SequenceEqual(config.Networks, ReferenceEqualityComparer.Instance))
        {
            _vipPart.Reached(revision);
            return;
        }
        using var span = Traces.Child("apply vip");
        var report = balancers.Apply(config);
        span?.SetTag("overlaynet.changes", report.Changes.Count);
        foreach (var change in report.Changes.Where(change => change.Mended && pass.Mending))
            events.Append("kernel", "mend", change.Network, $"{change.Balancer}, {change.Where}: {change.What}", config.Revision);
        var failures = report.Errors.Where(error => !error.NamespaceGone).ToList();
        Count("vip", report.Changes.Count, report.Changes.Count(change => change.Mended), failures.Count);
        foreach (var error in failures)
            pass.Errors.TryAdd($"vip/{error.Network}", error.ToString());
        _vipPart.Done(revision, failures.Count > 0 ? failures[0].ToString() : null, time.GetUtcNow());
        // What is due by time (report.NextDue, the end of a drain; the next step of a slow start) is done by the comparison that comes every few seconds.
        Vip = report;
    }

    private void ApplyDns(Pass pass, OverlayConfig overlayConfig)
    {
        using var span = Traces.Child("apply dns");
        var config = dnsPlanner.Plan(pass.Snapshot, synced: true, time.GetUtcNow(), pass.Suppressed);
        dns.Apply(config);
        // Before the listeners, which let go of what nobody took over.
        var networks = AnsweredNetworks(pass.Snapshot, config, overlayConfig);
        answering.Apply(networks, pass.Whole);
        var listen = ListenAddresses(networks, config);
        if (!pass.Whole && _listening.SequenceEqual(listen))
        {
            _dnsPart.Reached(pass.Snapshot.Revision);
            return;
        }
        resolverAddresses.Ensure();
        var failures = listeners.Apply(listen);
        _listening = failures.Count == 0 ? listen : [];
        Count("dns", 0, 0, failures.Count);
        foreach (var (address, error) in failures)
        {
            Log.Failed(logger, "dns", address, "listen", error);
            pass.Errors.TryAdd($"dns/{address}", error);
        }
        _dnsPart.Done(pass.Snapshot.Revision, failures.Count > 0 ? failures.First() is var (address1, error1) ? $"{address1}: {error1}" : null : null, time.GetUtcNow());
    }

    private static void Count(string part, int changes, int mended, int errors)
    {
        DaemonInstruments.Changes.Add(changes, DaemonInstruments.Tag("part", part));
        DaemonInstruments.Mends.Add(mended, DaemonInstruments.Tag("part", part));
        DaemonInstruments.Errors.Add(errors, DaemonInstruments.Tag("part", part));
    }

    /// <param name="overlayConfig">Where the containers of this node are; null: not known yet.</param>
    private List<AnsweredNetwork> AnsweredNetworks(Snapshot snapshot, DnsConfig config, OverlayConfig? overlayConfig)
    {
        var node = facts();
        var endpoints = overlayConfig?.Networks.ToDictionary(network => network.Netns, network => network.Endpoints);
        return config.Networks.Select(network =>
        {
            var netns = ObjectNames.Netns(node.NodeId, snapshot.Networks[network.Id]);
            return new AnsweredNetwork(network.Id, netns, [.. network.ListenerAddresses, .. config.FixedAddresses], endpoints?.GetValueOrDefault(netns) ?? []);
        }).ToList();
    }

    private static List<DnsListenAddress> ListenAddresses(List<AnsweredNetwork> networks, DnsConfig config) =>
    [
        .. networks.SelectMany(network => network.Addresses.Select(address => new DnsListenAddress(network.NetworkId, network.Netns, address))),
        .. config.FixedAddresses.Select(address => new DnsListenAddress(null, null, address)),
    ];

    /// <summary>What the last application was made from and what it brought about.</summary>
    private sealed record Applied(PlanBasis Basis, NodeFacts Node, OverlayConfig Overlay, VipConfig Vip);

    /// <summary>One application under way.</summary>
    private sealed record Pass(Snapshot Snapshot, IReadOnlySet<string> Suppressed, bool Whole, bool Mending, Dictionary<string, string> Errors)
    {
        public HashSet<string> Gone { get; } = [];
        public Dictionary<string, string> Ready { get; } = [];
    }

    private sealed class PartRecord(string name)
    {
        public long Revision { get; private set; } = -1;
        private string? _error;
        private DateTimeOffset? _errorAt;
        private bool _ok = true;

        public PartStatus Status => new() { Name = name, Revision = Revision, Ok = _ok, LastError = _error, LastErrorAt = _errorAt };

        /// <summary>The part had nothing to do for this revision.</summary>
        public void Reached(long revision) => Revision = revision;

        /// <summary>The last error stays readable after it has gone; <c>Ok</c> says whether it has.</summary>
        public void Done(long revision, string? error, DateTimeOffset now)
        {
            Revision = revision;
            _ok = error is null;
            if (error is not null)
                (_error, _errorAt) = (error, now);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Debug, "{Part}: network {Network}: {What}")]
        public static partial void Changed(ILogger logger, string part, string network, string what);

        [LoggerMessage(2, LogLevel.Warning, "{Part}: network {Network}: mended, somebody else had changed it: {What}")]
        public static partial void Mended(ILogger logger, string part, string network, string what);

        [LoggerMessage(3, LogLevel.Error, "{Part}: {Object}: {What}: {Message}")]
        public static partial void Failed(ILogger logger, string part, string @object, string what, string message);

        [LoggerMessage(4, LogLevel.Debug, "revision {Revision} applied, {What}, in {Milliseconds:0.0} ms")]
        public static partial void Applied(ILogger logger, long revision, string what, double milliseconds);
    }
}
