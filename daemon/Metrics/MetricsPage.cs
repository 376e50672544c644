using System.Diagnostics;
using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Diagnosis;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Balancers;

namespace OverlayNet.Daemon.Metrics;

/// <summary>Composes what <c>/metrics</c> shows of this node: what is counted all the time, and what is looked up when somebody asks. See docs/metrics.md.</summary>
internal sealed class MetricsPage(TimeProvider time) : IDisposable
{
    // Counters of the balancers are read from every namespace: several scrapers should not multiply that.
    private static readonly TimeSpan TrafficKept = TimeSpan.FromSeconds(2);
    private readonly MeterReader _meters = Begin();
    private readonly Lock _gate = new();
    private IReadOnlyList<RealServerStatistics> _traffic = [];
    private long _trafficAt;

    /// <param name="member">Null: the node is a member of nothing.</param>
    public string Write(Member? member)
    {
        var page = new Exposition();
        page.Gauge("overlaynet_build_info", "The version that runs; always 1", new Sample(1, ("version", Protocol.Release), ("runtime", Environment.Version.ToString())));
        page.Gauge("overlaynet_member", "Whether this node is a member of a cluster", member is null ? 0 : 1);
        OfProcess(page);
        _meters.Write(page);
        if (member is null)
            return page.ToString();
        var agent = member.Agent;
        var snapshot = agent.Follower.Current;
        OfAgent(page, agent, snapshot);
        OfCatalog(page, snapshot);
        OfTraffic(page, agent, snapshot);
        OfDns(page, agent);
        OfHealth(page, agent);
        OfFloatingVips(page, agent);
        OfManager(page, member.Registry);
        return page.ToString();
    }

    public void Dispose() => _meters.Dispose();

    private static MeterReader Begin()
    {
        var meters = new MeterReader(DaemonInstruments.MeterName);
        DaemonInstruments.Begin();
        return meters;
    }

    private static void OfProcess(Exposition page)
    {
        using var process = Process.GetCurrentProcess();
        page.Counter("process_cpu_seconds_total", "Processor time the daemon has used", process.TotalProcessorTime.TotalSeconds);
        page.Gauge("process_resident_memory_bytes", "Memory of the daemon that is in use", process.WorkingSet64);
        page.Gauge("process_open_fds", "Descriptors the daemon has open", Directory.GetFiles("/proc/self/fd").Length);
        page.Gauge("process_start_time_seconds", "When the daemon was started, in seconds since 1970", new DateTimeOffset(process.StartTime).ToUnixTimeMilliseconds() / 1000.0);
        page.Gauge("overlaynet_threads", "Threads of the daemon", process.Threads.Count);
        page.Gauge("overlaynet_threadpool_queue_length", "Work that waits for a thread of the pool", ThreadPool.PendingWorkItemCount);
    }

    private static void OfAgent(Exposition page, NodeAgent agent, Snapshot snapshot)
    {
        var (follower, reconciler) = (agent.Follower, agent.Reconciler);
        var since = follower.SinceContact;
        page.Gauge("overlaynet_node_info", "Who this node is; always 1", new Sample(
            1, ("node", agent.Membership.NodeName), ("node_id", agent.Membership.NodeId), ("role", Word(agent.Membership.Role)), ("cluster", agent.Membership.ClusterId)));
        page.Gauge("overlaynet_registry_synced", "Whether this node has ever had a copy of the registry", follower.Synced ? 1 : 0);
        page.Gauge("overlaynet_registry_revision", "The newest revision of the registry that this node knows", snapshot.Revision);
        page.Gauge("overlaynet_applied_revision", "The revision that this node's kernel and names reflect", reconciler.AppliedRevision);
        page.Gauge("overlaynet_compared_revision", "The newest revision for which everything was compared with the kernel", reconciler.ComparedRevision);
        page.Gauge("overlaynet_revision_lag", "How many revisions this node's kernel is behind the newest that it knows", Math.Max(0, snapshot.Revision - reconciler.AppliedRevision));
        page.Gauge("overlaynet_registry_contact_age_seconds", "Since a manager was last heard; absent: never yet", since is { } age ? [new Sample(age.TotalSeconds)] : []);
        page.Gauge("overlaynet_registry_stale", "Whether the manager that is followed has lost its majority", follower.Stale ? 1 : 0);
        page.Gauge("overlaynet_registry_held_endpoints", "Endpoints that are used although the registry came back without them", follower.Held.Count);
        page.Gauge("overlaynet_apply_failing_objects", "Objects that the last application of a revision could not bring about", reconciler.Last.Errors.Count);
        page.Gauge("overlaynet_withdrawals_pending", "Endpoints that are gone and still in the registry", agent.Withdrawals.Pending);
        page.Gauge("overlaynet_part_ok", "Whether the part's last application was without an error", agent.Plane.Parts.Select(part => new Sample(part.Ok ? 1 : 0, ("part", part.Name))));
        page.Gauge("overlaynet_part_revision", "The revision that the part reflects", agent.Plane.Parts.Select(part => new Sample(part.Revision, ("part", part.Name))));
        page.Gauge("overlaynet_kernel_feature_present", "Whether the kernel has what the daemon would use", agent.Features.Select(feature => new Sample(feature.Present ? 1 : 0, ("feature", feature.Name))));
    }

    private static void OfCatalog(Exposition page, Snapshot snapshot)
    {
        page.Gauge("overlaynet_nodes", "Nodes of the cluster", snapshot.Nodes.Values.GroupBy(node => (node.Role, node.State))
            .OrderBy(group => group.Key).Select(group => new Sample(group.Count(), ("role", Word(group.Key.Role)), ("state", Word(group.Key.State)))));
        page.Gauge("overlaynet_networks", "Networks of the cluster", snapshot.Networks.Count);
        page.Gauge("overlaynet_services", "Services of the cluster", snapshot.Services.Count);
        page.Gauge("overlaynet_endpoints", "Containers' attachments in the cluster, by state", Enum.GetValues<EndpointState>().Select(state => new Sample(
            snapshot.Endpoints.Values.Count(endpoint => endpoint.Kind == EndpointKind.Container && endpoint.State == state), ("state", Word(state)))));
        var services = snapshot.Services.Values.OrderBy(service => service.Id, StringComparer.Ordinal)
            .Select(service => (Labels: Labels(snapshot, service), Service: service, Endpoints: snapshot.EndpointsOf(service).ToList())).ToList();
        page.Gauge("overlaynet_service_endpoints", "Endpoints of a service", services.Select(entry => new Sample(entry.Endpoints.Count, entry.Labels)));
        page.Gauge("overlaynet_service_endpoints_serving", "Endpoints of a service that are healthy or recovering", services.Select(entry => new Sample(
            entry.Endpoints.Count(endpoint => endpoint.State is EndpointState.Healthy or EndpointState.Recovering), entry.Labels)));
        page.Gauge("overlaynet_service_panic", "Whether all endpoints of a service are used because too few pass their checks", services.Select(entry => new Sample(
            PanicMode.On(snapshot, entry.Service) ? 1 : 0, entry.Labels)));
    }

    private void OfTraffic(Exposition page, NodeAgent agent, Snapshot snapshot)
    {
        var traffic = Traffic(agent.Plane).GroupBy(entry => (entry.ServiceId, entry.EndpointId, entry.Balancer))
            .Select(group => (Sum: group.ToList(), Labels: Labels(snapshot, group.Key.ServiceId, group.Key.EndpointId, group.Key.Balancer)))
            .Where(entry => entry.Labels.Length > 0).OrderBy(entry => string.Join('\0', entry.Labels.Select(label => label.Value)), StringComparer.Ordinal).ToList();
        page.Gauge("overlaynet_service_active_connections", "Connections of this node's clients to an endpoint of a service that are alive", traffic.Select(entry => new Sample(
            entry.Sum.Sum(one => one.LiveFlows), entry.Labels)));
        page.Counter("overlaynet_service_connections_total", "Connections of this node's clients to an endpoint of a service, where the balancer counts them", Counted(one => one.Connections));
        page.Counter("overlaynet_service_packets_total", "Packets of this node's clients to an endpoint of a service, where the balancer counts them", Counted(one => one.Packets));
        page.Counter("overlaynet_service_bytes_total", "Bytes of this node's clients to an endpoint of a service, where the balancer counts them", Counted(one => one.Octets));
        var vip = agent.Plane.Vip;
        page.Gauge("overlaynet_balancer_usable", "Whether this node's kernel can carry VIPs by the balancer", vip?.Balancers.OrderBy(entry => entry.Key, StringComparer.Ordinal)
            .Select(entry => new Sample(entry.Value.Usable ? 1 : 0, ("balancer", entry.Key))) ?? []);
        page.Gauge("overlaynet_service_degraded", "Whether a service's wish for a balancer or scheduler could not be met on this node", vip?.Paths
            .Where(path => snapshot.Services.ContainsKey(path.ServiceId)).DistinctBy(path => path.ServiceId).OrderBy(path => path.ServiceId, StringComparer.Ordinal)
            .Select(path => new Sample(path.Degraded ? 1 : 0, [.. Labels(snapshot, snapshot.Services[path.ServiceId]), ("balancers", string.Join('+', path.Balancers))])) ?? []);

        IEnumerable<Sample> Counted(Func<RealServerStatistics, long?> count) => traffic.Where(entry => entry.Sum.Any(one => count(one) is not null))
            .Select(entry => new Sample(entry.Sum.Sum(one => count(one) ?? 0), entry.Labels));
    }

    private IReadOnlyList<RealServerStatistics> Traffic(DataPlane plane)
    {
        lock (_gate)
        {
            if (_trafficAt == 0 || time.GetElapsedTime(_trafficAt) > TrafficKept)
                (_traffic, _trafficAt) = (plane.ReadFlows(), time.GetTimestamp());
            return _traffic;
        }
    }

    private static void OfDns(Exposition page, NodeAgent agent)
    {
        var dns = agent.Dns.GetMetrics();
        page.Counter("overlaynet_dns_queries_total", "Queries that came", dns.Queries);
        page.Counter("overlaynet_dns_owned_queries_total", "Queries for names of the cluster", dns.Owned);
        page.Counter("overlaynet_dns_negative_answers_total", "Answers that a name is absent or has no record of the type", dns.Negative);
        page.Counter("overlaynet_dns_answers_total", "Answers by response code", dns.Rcodes.Where(entry => entry.Value > 0 || entry.Key is OverlayNet.Dns.Rcode.NoError or OverlayNet.Dns.Rcode.ServFail or OverlayNet.Dns.Rcode.NxDomain or OverlayNet.Dns.Rcode.Refused)
            .OrderBy(entry => entry.Key).Select(entry => new Sample(entry.Value, ("rcode", entry.Key.ToString().ToUpperInvariant()))));
        page.Histogram("overlaynet_dns_answer_duration_seconds", "From a UDP query's arrival in the daemon to the last answer of its batch; waits for upstreams are not in it",
            new HistogramSample(OverlayNet.Dns.DnsMetrics.AnswerBounds, dns.AnswerBuckets, dns.AnswerSeconds));
        page.Counter("overlaynet_dns_kernel_answers_total", "Queries that the kernel answered, without the daemon", dns.Kernel?.Answered ?? 0);
        page.Counter("overlaynet_dns_kernel_passed_total", "Queries that the kernel looked at and left to the daemon", dns.Kernel?.Passed ?? 0);
        page.Gauge("overlaynet_dns_kernel_names", "Questions that the kernel answers now", dns.Kernel?.Names ?? 0);
        page.Counter("overlaynet_dns_malformed_packets_total", "Packets that were no queries", dns.Malformed);
        page.Counter("overlaynet_dns_rate_limited_queries_total", "Queries beyond a client's rate", dns.RateLimited);
        page.Counter("overlaynet_dns_truncated_answers_total", "Answers that did not fit a datagram", dns.Truncated);
        page.Counter("overlaynet_dns_send_failures_total", "Answers that the kernel did not take", dns.SendFailed);
        page.Counter("overlaynet_dns_dnstap_lost_total", "Answers that are missing in the dnstap file", dns.DnstapLost);
        page.Counter("overlaynet_dns_tcp_accepted_total", "TCP connections that were taken", dns.TcpAccepted);
        page.Counter("overlaynet_dns_tcp_refused_total", "TCP connections beyond the limit", dns.TcpRefused);
        page.Gauge("overlaynet_dns_tcp_connections", "TCP connections that are open", dns.TcpConnections);
        page.Counter("overlaynet_dns_forwarded_total", "Questions put to upstreams", dns.ForwardAsked);
        page.Counter("overlaynet_dns_forward_coalesced_total", "Queries that joined a question already under way", dns.ForwardCoalesced);
        page.Counter("overlaynet_dns_forward_failures_total", "Questions that no upstream answered", dns.ForwardFailed);
        page.Counter("overlaynet_dns_forward_refused_total", "Queries refused because too many were in flight", dns.ForwardRefused);
        page.Counter("overlaynet_dns_forward_mismatches_total", "Upstreams' answers that did not belong to their question", dns.ForwardMismatches);
        page.Gauge("overlaynet_dns_forward_in_flight", "Queries that wait for upstreams", dns.ForwardInFlight);
        page.Counter("overlaynet_dns_cache_hits_total", "Queries answered from the cache", dns.CacheHits);
        page.Counter("overlaynet_dns_cache_stale_total", "Queries answered from the cache past the time of the answer", dns.CacheStale);
        page.Counter("overlaynet_dns_cache_prefetched_total", "Answers that were asked for again before they expired", dns.CachePrefetched);
        page.Counter("overlaynet_dns_cache_evicted_total", "Answers that had to make room", dns.CacheEvicted);
        page.Gauge("overlaynet_dns_cache_entries", "Answers in the cache", dns.CacheEntries);
        page.Gauge("overlaynet_dns_cache_size_bytes", "Memory of the cache", dns.CacheBytes);
        page.Gauge("overlaynet_dns_names", "Names of the cluster that are served", dns.Names);
        page.Gauge("overlaynet_dns_revision", "The revision of what is served", dns.Revision);
        page.Gauge("overlaynet_dns_upstream_up", "Whether an upstream answers", dns.Upstreams.Select(upstream => new Sample(upstream.State == "up" ? 1 : 0, ("upstream", upstream.Endpoint))));
        page.Counter("overlaynet_dns_upstream_queries_total", "Tries at an upstream", dns.Upstreams.Select(upstream => new Sample(upstream.Queries, ("upstream", upstream.Endpoint))));
        page.Counter("overlaynet_dns_upstream_failures_total", "Tries at an upstream without a usable answer", dns.Upstreams.Select(upstream => new Sample(upstream.Failed, ("upstream", upstream.Endpoint))));
    }

    private static void OfHealth(Exposition page, NodeAgent agent)
    {
        var (targets, silent, distrusted) = agent.Health.Trust();
        page.Gauge("overlaynet_health_targets", "Endpoints of this node that it checks", targets);
        page.Gauge("overlaynet_health_silent_targets", "Those of them that gave no answer at all last", silent);
        page.Gauge("overlaynet_health_prober_distrusted", "Whether this node's checks are set aside because most of its targets are silent", distrusted ? 1 : 0);
        page.Gauge("overlaynet_health_checks_running", "Checks that are under way", agent.Health.Running);
    }

    private static void OfFloatingVips(Exposition page, NodeAgent agent)
    {
        var vips = VipExplainer.Explain(agent, null).Where(vip => vip.State != "absent").ToList();
        page.Gauge("overlaynet_vip_state", "The state of a floating VIP on this node; always 1", vips.Select(vip => new Sample(1, ("vip", vip.Name), ("state", vip.State), ("mode", Word(vip.Mode)))));
        page.Gauge("overlaynet_vip_holder", "Whether this node holds a floating VIP", vips.Select(vip => new Sample(vip.State is "holder" or "active" or "unfenced" ? 1 : 0, ("vip", vip.Name))));
        page.Gauge("overlaynet_vip_priority", "This node's priority for a floating VIP, tracking applied; 0: it must not hold it", vips.Select(vip => new Sample(vip.Priority, ("vip", vip.Name))));
        page.Gauge("overlaynet_vip_epoch", "The epoch of a floating VIP's lease as this node has seen it", vips.Select(vip => new Sample(vip.Epoch, ("vip", vip.Name))));
        page.Gauge("overlaynet_vip_lease_margin_seconds", "What is left of a floating VIP's lease; absent: nobody holds one", vips.Where(vip => vip.LeaseLeftMs is not null)
            .Select(vip => new Sample(vip.LeaseLeftMs!.Value / 1000, ("vip", vip.Name))));
        page.Gauge("overlaynet_vip_gate_margin_seconds", "What is left until the kernel shuts the holder's gate; absent: it is shut", vips.Where(vip => vip.GateLeftMs is not null)
            .Select(vip => new Sample(vip.GateLeftMs!.Value / 1000, ("vip", vip.Name))));
        page.Gauge("overlaynet_vip_standing_alarms", "What an operator must mend about a floating VIP", vips.Select(vip => new Sample(vip.Alarms.Count, ("vip", vip.Name))));
    }

    private static void OfManager(Exposition page, ClusterRegistry? registry)
    {
        page.Gauge("overlaynet_manager", "Whether this node is a manager whose registry is up", registry is null ? 0 : 1);
        var lags = registry?.NodeLags() ?? [];
        page.Gauge("overlaynet_store_majority", "Whether the store has its majority, as this manager knows", registry is null ? [] : [new Sample(registry.IsStale ? 0 : 1)]);
        page.Gauge("overlaynet_store_confirmed_age_seconds", "Since the store last had its majority for certain",
            registry is null || registry.Store.SinceConfirmed == TimeSpan.MaxValue ? [] : [new Sample(registry.Store.SinceConfirmed.TotalSeconds)]);
        page.Gauge("overlaynet_node_revision_lag", "How many revisions a node's kernel is behind, as this manager knows", lags.Select(lag => new Sample(lag.Lag, ("node", lag.Name))));
        page.Gauge("overlaynet_node_heartbeat_age_seconds", "Since a node's daemon was last heard", lags.Where(lag => lag.SecondsSinceHeartbeat is not null)
            .Select(lag => new Sample(lag.SecondsSinceHeartbeat!.Value, ("node", lag.Name))));
        page.Gauge("overlaynet_node_state", "The state of a node's daemon; always 1", lags.Select(lag => new Sample(1, ("node", lag.Name), ("state", Word(lag.State)))));
    }

    private static (string, string)[] Labels(Snapshot snapshot, Service service) =>
        [("network", snapshot.Networks.GetValueOrDefault(service.NetworkId)?.Name ?? service.NetworkId), ("service", service.Name)];

    /// <summary>Empty: the registry does not know the service any more, so it has no name.</summary>
    private static (string Name, string Value)[] Labels(Snapshot snapshot, string serviceId, string endpointId, string balancer) =>
        snapshot.Services.TryGetValue(serviceId, out var service)
            ? [.. Labels(snapshot, service), ("endpoint", snapshot.Endpoints.GetValueOrDefault(endpointId)?.Name ?? endpointId), ("balancer", balancer)]
            : [];

    private static string Word<T>(T value) where T : struct, Enum => value.ToString()!.ToLower(CultureInfo.InvariantCulture);
}
