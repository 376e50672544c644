using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>Routes of health: reports of agents, what managers ask of them, an application's own word, drains, backends.</summary>
internal static class HealthRoutes
{
    private const string Get = "GET", Post = "POST";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20), MostWait = TimeSpan.FromSeconds(30), DrainLook = TimeSpan.FromMilliseconds(100);

    public static IReadOnlyList<ApiRoute> Manager { get; } =
    [
        new(Post, "/v1/nodes/{id}/health", Access.OwnNode, "Report what a node's checks have found", Report, Default.HealthReport, Default.ProbeTasks, Quiet: true),
        new(Post, "/v1/managers/health", Access.Manage, "Take what nodes have reported to another manager", async call =>
        {
            foreach (var report in (await call.BodyAsync(Default.HealthReports, strict: false).ConfigureAwait(false)).Reports)
                call.Desk.Report(report, direct: false);
            call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
        }, Default.HealthReports, Success: StatusCodes.Status204NoContent, Quiet: true),
        new(Get, "/v1/nodes/{id}/probes", Access.OwnNode, "Wait until something else is asked of a node", Probes, null, Default.ProbeTasks,
            Query: [("after", "the version the node has")]),
        new(Get, "/v1/endpoints/{ref}/drain", Access.Read, "How far a drain has come", Drain, null, Default.DrainReport,
            Query: [("network", "name or id of the network, where a name is on several"), ("wait", "answer when it is done, or after so many seconds (at most 30)")]),
    ];

    public static IReadOnlyList<ApiRoute> Node(NodeDaemon daemon) =>
    [
        new(Post, "/v1/endpoints/{ref}/check", Access.Local, "The application's own word about an endpoint of this node (ttl checks)", async call =>
        {
            var word = await call.BodyAsync(Default.CheckWord, strict: true).ConfigureAwait(false);
            daemon.RequireAgent().Health.Say(call.Route("ref"), word);
            call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
        }, Default.CheckWord, Success: StatusCodes.Status204NoContent),
    ];

    public static Task Backends(ApiCall call)
    {
        var (current, views) = (call.Current, call.Services.HealthViews);
        var service = Resolve.Service(current, call.Route("ref"), call.Query("network"));
        var panic = PanicMode.On(current, service);
        var backends = current.EndpointsOf(service).OrderBy(e => e.Name, StringComparer.Ordinal)
            .Select(endpoint => (Endpoint: endpoint, Node: current.Nodes.GetValueOrDefault(endpoint.NodeId)))
            .Select(e => (e.Endpoint, e.Node, Balanced: Weights.Balanced(PanicMode.Seen(e.Endpoint, panic), e.Node, service, call.Services.Time.GetUtcNow()))).ToList();
        var total = backends.Sum(e => (long)e.Balanced);
        var flows = call.Services.Flows?.Invoke(service.Id).ToLookup(entry => entry.EndpointId);
        return call.AnswerAsync(
            [.. backends.Select(e => new BackendReport
            {
                Endpoint = e.Endpoint.Name,
                Node = e.Node?.Name ?? e.Endpoint.NodeId,
                Address4 = e.Endpoint.Address4,
                Address6 = e.Endpoint.Address6,
                State = Weights.StateOf(e.Endpoint, e.Node),
                Weight = e.Endpoint.Weight,
                Share = total == 0 ? 0 : (double)e.Balanced / total,
                LiveFlows = flows?[e.Endpoint.Id].Sum(entry => entry.LiveFlows),
                Connections = Counted(flows?[e.Endpoint.Id].Select(entry => entry.Connections)),
                Balanced = e.Balanced,
                Check = HealthTargets.CheckOf(current, e.Endpoint) is { } check ? HealthSpecs.Describe(check) : null,
                Probers = views?.Probers(e.Endpoint.Id) ?? [],
                Held = panic && e.Endpoint.State is EndpointState.Unhealthy or EndpointState.Unreachable
                    ? "panic: too few endpoints pass, so all of them are used"
                    : views?.Held(e.Endpoint.Id),
            })],
            Default.ListBackendReport);
    }

    /// <summary>Null when no path counts them.</summary>
    private static long? Counted(IEnumerable<long?>? connections) =>
        connections?.OfType<long>().ToList() is { Count: > 0 } counted ? counted.Sum() : null;

    private static async Task Report(ApiCall call)
    {
        var report = await call.BodyAsync(Default.HealthReport, strict: false).ConfigureAwait(false);
        if (report.NodeId != call.Route("id"))
            throw Refuse.Invalid("invalid-field", "nodeId", report.NodeId, $"the path says {call.Route("id")}", "send the node's own id in both places");
        call.MayActFor(report.NodeId);
        call.Services.Part?.Health.Pass(report);
        await call.AnswerAsync(call.Desk.Report(report), Default.ProbeTasks).ConfigureAwait(false);
    }

    private static async Task Probes(ApiCall call)
    {
        call.MayActFor(call.Route("id"));
        // An open wait must not hold up the daemon's stop.
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(
            call.Aborted, call.Context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
        var tasks = await call.Desk.TasksAsync(call.Route("id"), call.Number("after") ?? -1, Patience, ends.Token).ConfigureAwait(false);
        await call.AnswerAsync(tasks, Default.ProbeTasks).ConfigureAwait(false);
    }

    private static async Task Drain(ApiCall call)
    {
        var until = call.Services.Time.GetTimestamp() + (long)(Math.Clamp(call.Number("wait") ?? 0, 0, (long)MostWait.TotalSeconds) * call.Services.Time.TimestampFrequency);
        var desk = call.Desk;
        while (true)
        {
            var report = desk.Drain(Resolve.Endpoint(call.Current, call.Route("ref"), call.Query("network")));
            if (report.Done || call.Services.Time.GetTimestamp() >= until)
            {
                await call.AnswerAsync(report, Default.DrainReport).ConfigureAwait(false);
                return;
            }
            await Task.Delay(DrainLook, call.Services.Time, call.Aborted).ConfigureAwait(false);
        }
    }
}
