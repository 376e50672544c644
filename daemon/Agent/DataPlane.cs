using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
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
    DnsPlanner dnsPlanner,
    Func<NodeFacts> facts,
    Action<OverlayConfig> watch,
    HostResolverAddresses resolverAddresses,
    EventLog events,
    TimeProvider time,
    ILogger<DataPlane> logger) : IDataPlane
{
    private readonly PartRecord _overlayPart = new("overlay"), _vipPart = new("vip"), _dnsPart = new("dns");
    private OverlayConfig? _overlayBefore;
    private VipConfig _vipBefore = VipConfig.Empty;
    private long _appliedRevision = -1;
    private IReadOnlySet<string> _suppressedBefore = new HashSet<string>();

    /// <summary>How each part fared last, for status.</summary>
    public IReadOnlyList<PartStatus> Parts => [_overlayPart.Status, _vipPart.Status, _dnsPart.Status];

    /// <summary>What the balancers said last.</summary>
    public VipReport? Vip { get; private set; }

    /// <summary>Flows of this node's clients to a service's real servers, over every path, also of such as drain or are removed.</summary>
    public IReadOnlyList<RealServerStatistics> ReadFlows(string serviceId)
    {
        var config = _vipBefore;
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

    public ApplyOutcome Apply(Snapshot snapshot, IReadOnlySet<string> suppressed)
    {
        var node = facts();
        var errors = new Dictionary<string, string>();
        // A difference although nothing else is desired than before was made by somebody else.
        var mending = snapshot.Revision == _appliedRevision && suppressed.SetEquals(_suppressedBefore);
        var overlayNext = OverlayPlanner.Plan(snapshot, node, suppressed);
        var vipNext = VipPlanner.Plan(snapshot, node.NodeId, suppressed, time.GetUtcNow());
        ApplyReport report;
        if (_overlayBefore is { } overlayBefore && !OverlayPlanner.Adds(overlayBefore, overlayNext) && !VipPlanner.Adds(_vipBefore, vipNext))
        {
            // Things only go, or nothing changes: names first, paths last.
            ApplyDns(snapshot, errors);
            ApplyVip(vipNext, mending, errors);
            report = ApplyOverlay(overlayNext, snapshot, mending, errors);
        }
        else
        {
            var overlayBoth = _overlayBefore is null ? overlayNext : OverlayPlanner.Union(_overlayBefore, overlayNext);
            var vipBoth = VipPlanner.Union(_vipBefore, vipNext);
            report = ApplyOverlay(overlayBoth, snapshot, mending, errors);
            ApplyVip(vipBoth, mending, errors);
            ApplyDns(snapshot, errors);
            if (!ReferenceEquals(vipBoth, vipNext))
                ApplyVip(vipNext, mending: false, errors);
            if (!ReferenceEquals(overlayBoth, overlayNext))
                report = ApplyOverlay(overlayNext, snapshot, mending: false, errors);
        }
        (_appliedRevision, _suppressedBefore) = (snapshot.Revision, suppressed);

        (_overlayBefore, _vipBefore) = (overlayNext, vipNext);
        return new ApplyOutcome
        {
            Revision = snapshot.Revision,
            Errors = errors,
            Ready = report.Endpoints.Where(entry => entry.Value is { Outcome: EndpointOutcome.Ready, Interface: not null })
                .ToDictionary(entry => entry.Key, entry => entry.Value.Interface!),
            Gone = [.. report.Endpoints.Where(entry => entry.Value.Outcome == EndpointOutcome.Gone).Select(entry => entry.Key)],
        };
    }

    /// <summary>Takes everything of this node out of the kernel, names first.</summary>
    public void Clear(Snapshot snapshot)
    {
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

    private ApplyReport ApplyOverlay(OverlayConfig config, Snapshot snapshot, bool mending, Dictionary<string, string> errors)
    {
        // Before, so that what is taken away now is not heard as a loss; after, so that new namespaces are listened to.
        watch(config);
        var report = overlay.Apply(config);
        watch(config);
        foreach (var change in report.Changes)
        {
            if (mending)
            {
                Log.Mended(logger, "overlay", change.Network, change.What);
                events.Append("kernel", "mend", change.Network, change.What, snapshot.Revision);
            }
            else
            {
                Log.Changed(logger, "overlay", change.Network, change.What);
            }
        }
        foreach (var error in report.Errors)
        {
            Log.Failed(logger, "overlay", error.Network, error.What, error.Message);
            if (snapshot.FindNetwork(error.Network).Value is { } network)
                errors[network.Id] = error.ToString();
        }
        foreach (var (id, endpoint) in report.Endpoints)
        {
            if (endpoint.Outcome == EndpointOutcome.Failed)
                errors[id] = string.Join("; ", report.Errors.Select(error => error.ToString()));
        }
        _overlayPart.Done(snapshot.Revision, report.Errors.Count > 0 ? report.Errors[0].ToString() : null, time.GetUtcNow());
        return report;
    }

    private void ApplyVip(VipConfig config, bool mending, Dictionary<string, string> errors)
    {
        var report = balancers.Apply(config);
        foreach (var change in report.Changes.Where(change => change.Mended && mending))
            events.Append("kernel", "mend", change.Network, $"{change.Balancer}, {change.Where}: {change.What}", config.Revision);
        var failures = report.Errors.Where(error => !error.NamespaceGone).ToList();
        foreach (var error in failures)
            errors.TryAdd($"vip/{error.Network}", error.ToString());
        _vipPart.Done(config.Revision, failures.Count > 0 ? failures[0].ToString() : null, time.GetUtcNow());
        // What is due by time (report.NextDue, the end of a drain; the next step of a slow start) is done by the resync that comes every few seconds.
        Vip = report;
    }

    private void ApplyDns(Snapshot snapshot, Dictionary<string, string> errors)
    {
        var config = dnsPlanner.Plan(snapshot, synced: true);
        dns.Apply(config);
        resolverAddresses.Ensure();
        var failures = listeners.Apply(ListenAddresses(snapshot, config));
        foreach (var (address, error) in failures)
        {
            Log.Failed(logger, "dns", address, "listen", error);
            errors.TryAdd($"dns/{address}", error);
        }
        _dnsPart.Done(snapshot.Revision, failures.Count > 0 ? failures.First() is var (address1, error1) ? $"{address1}: {error1}" : null : null, time.GetUtcNow());
    }

    private List<DnsListenAddress> ListenAddresses(Snapshot snapshot, DnsConfig config)
    {
        var node = facts();
        return
        [
            .. config.Networks.SelectMany(network => network.ListenerAddresses.Concat(config.FixedAddresses).Select(address =>
                new DnsListenAddress(network.Id, ObjectNames.Netns(node.NodeId, snapshot.Networks[network.Id]), address))),
            .. config.FixedAddresses.Select(address => new DnsListenAddress(null, null, address)),
        ];
    }

    private sealed class PartRecord(string name)
    {
        public long Revision { get; private set; } = -1;
        private string? _error;
        private DateTimeOffset? _errorAt;
        private bool _ok = true;

        public PartStatus Status => new() { Name = name, Revision = Revision, Ok = _ok, LastError = _error, LastErrorAt = _errorAt };

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
    }
}
