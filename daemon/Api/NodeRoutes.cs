using System.Globalization;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Diagnosis;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Peers;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Runtimes.Cni;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>What a node answers about itself, on its unix socket only: status, membership, attach and detach, DNS, events, doctor.</summary>
internal static class NodeRoutes
{
    private const string Get = "GET", Post = "POST";

    public static IReadOnlyList<ApiRoute> For(NodeDaemon daemon) =>
    [
        new(Get, "/v1/status", Access.Local, "How this node is", call => call.AnswerAsync(daemon.Status(), Default.StatusReport), null, Default.StatusReport),
        new(Post, "/v1/init", Access.Local, "Make this node the first of a new cluster", async call =>
        {
            await daemon.Init(await call.BodyAsync(Default.InitRequest, strict: true).ConfigureAwait(false), call.Aborted).ConfigureAwait(false);
            await call.AnswerAsync(daemon.Status(), Default.StatusReport).ConfigureAwait(false);
        }, Default.InitRequest, Default.StatusReport),
        new(Post, "/v1/cluster/join", Access.Local, "Join a cluster through one of its managers", async call =>
        {
            await daemon.Join(await call.BodyAsync(Default.JoinClusterRequest, strict: true).ConfigureAwait(false), call.Aborted).ConfigureAwait(false);
            await call.AnswerAsync(daemon.Status(), Default.StatusReport).ConfigureAwait(false);
        }, Default.JoinClusterRequest, Default.StatusReport),
        new(Post, "/v1/leave", Access.Local, "End the membership and remove everything of it from this host", async call =>
        {
            await daemon.Leave(call.Flag("force"), call.Aborted).ConfigureAwait(false);
            call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
        }, Success: StatusCodes.Status204NoContent, Query: [("force", "true: also when no manager answers, or this is the only one")]),
        new(Post, "/v1/backup", Access.Local, "Write a backup of the registry to a file of this machine, and try it out",
            async call => await call.AnswerAsync(await daemon.RequireManager().BackupAsync(call.Query("file"), call.Aborted).ConfigureAwait(false), ManagersJson.Default.StepsReport).ConfigureAwait(false),
            null, ManagersJson.Default.StepsReport, Query: [("file", "absolute path; absent: among the manager's own backups")]),
        new(Post, "/v1/restore", Access.Local, "Put a backup in the place of the registry", async call =>
        {
            var request = await call.BodyAsync(ManagersJson.Default.RestoreRequest, strict: true).ConfigureAwait(false);
            await call.AnswerAsync(await daemon.Restore(request, call.Aborted).ConfigureAwait(false), ManagersJson.Default.StepsReport).ConfigureAwait(false);
        }, ManagersJson.Default.RestoreRequest, ManagersJson.Default.StepsReport),
        new(Post, "/v1/recover", Access.Local, "From this manager, the only one left, to a working cluster", async call =>
        {
            var request = await call.BodyAsync(ManagersJson.Default.RecoverRequest, strict: true).ConfigureAwait(false);
            await call.AnswerAsync(await daemon.RequireManager().RecoverAsync(request, call.Aborted).ConfigureAwait(false), ManagersJson.Default.StepsReport).ConfigureAwait(false);
        }, ManagersJson.Default.RecoverRequest, ManagersJson.Default.StepsReport),
        new(Post, "/v1/attach", Access.Local, "Attach a network namespace to a network", async call =>
        {
            var agent = daemon.RequireAgent();
            var request = await call.BodyAsync(Default.AttachRequest, strict: true).ConfigureAwait(false);
            await call.AnswerAsync(await agent.Attachments.Attach(request, call.Aborted).ConfigureAwait(false), Default.AttachResponse).ConfigureAwait(false);
        }, Default.AttachRequest, Default.AttachResponse),
        new(Post, "/v1/detach", Access.Local, "Take an endpoint of this node off its network", async call =>
        {
            var agent = daemon.RequireAgent();
            var request = await call.BodyAsync(Default.DetachRequest, strict: true).ConfigureAwait(false);
            await agent.Attachments.Detach(request, call.Aborted).ConfigureAwait(false);
            call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
        }, Default.DetachRequest, Success: StatusCodes.Status204NoContent),
        CniRoute.For(daemon),
        .. HealthRoutes.Node(daemon),
        .. ReadableRoutes.For(daemon),
        .. PeerCalls.For(daemon),
        new(Get, "/v1/doctor", Access.Local, "What is wrong on this node, with evidence and remedy",
            call => call.AnswerAsync(daemon.Doctor(), Default.DoctorReport), null, Default.DoctorReport),
        new(Get, "/v1/endpoints/{ref}/connections", Access.Local, "Which instance each connection of a container of this node through a VIP went to",
            call =>
            {
                var agent = daemon.RequireAgent();
                return call.AnswerAsync(VipConnections.Of(agent.Follower.Current, agent.Membership.NodeId, call.Route("ref"), call.Query("network")), Default.ListVipConnection);
            }, null, Default.ListVipConnection, Query: [("network", "name or id of the network, where a name is on several")]),
        new(Post, "/v1/compare", Access.Local, "Compare everything with the kernel now, and mend it", call =>
        {
            daemon.RequireAgent().Reconciler.Mend();
            call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
            return Task.CompletedTask;
        }, Success: StatusCodes.Status204NoContent),
        new(Get, "/v1/dns/upstreams", Access.Local, "Servers that names outside the cluster are asked of",
            call => call.AnswerAsync(DnsReports.Upstreams(daemon.RequireAgent()), Default.ListString), null, Default.ListString),
        new(Get, "/v1/events", Access.Local, "What happened: one JSON object a line", call => call.Flag("cluster") ? ClusterEvents.Answer(call, daemon) : EventStream.Answer(call, daemon.RequireAgent().Events),
            null, Default.ClusterEvent, ContentType: "application/x-ndjson",
            Query: [("since", "a sequence number, or a duration such as 10m"), ("follow", "true: also what is to come"), ("cluster", "true: of all managers as well, by time; since is a duration then")]),
        new(Get, "/v1/vip-explain", Access.Local, "What this node has to do with its floating VIPs, and why",
            call => call.AnswerAsync(VipExplainer.Explain(daemon.RequireAgent(), call.Query("vip")), Default.ListVipExplanation), null, Default.ListVipExplanation,
            Query: [("vip", "name or id; absent: all")]),
        new(Get, "/v1/dns/query", Access.Local, "What this node would answer, and why", async call => await call.AnswerAsync(
            await DnsReports.Query(daemon.RequireAgent(), call.Query("name") ?? "", call.Query("type") ?? "A", call.Query("from") ?? "").ConfigureAwait(false),
            Default.DnsQueryReport).ConfigureAwait(false), null, Default.DnsQueryReport,
            Query: [("name", "the name asked for"), ("type", "record type; absent: A"), ("from", "name, id or address of the endpoint that asks; absent: the node")]),
        new(Get, "/v1/dns/table", Access.Local, "Every record this node owns",
            call => call.AnswerAsync(DnsReports.Table(daemon.RequireAgent(), call.Query("network") ?? ""), Default.ListDnsTableEntry), null, Default.ListDnsTableEntry,
            Query: [("network", "name or id; absent: all")]),
        new(Get, "/v1/dns/cache", Access.Local, "Answers of upstreams that are kept",
            call => call.AnswerAsync(DnsReports.Cache(daemon.RequireAgent()), Default.ListDnsCacheEntry), null, Default.ListDnsCacheEntry),
        new(Post, "/v1/dns/flush", Access.Local, "Forget answers of upstreams", call =>
        {
            daemon.RequireAgent().Dns.FlushCache(call.Query("domain"));
            call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
            return Task.CompletedTask;
        }, Success: StatusCodes.Status204NoContent, Query: [("domain", "only at and below this domain")]),
    ];
}
