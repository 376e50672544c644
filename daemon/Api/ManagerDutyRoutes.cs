using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using static OverlayNet.Contracts.ManagersJson;

namespace OverlayNet.Daemon.Api;

/// <summary>Routes about the managers themselves: their store, their roles, and what nodes say after a recovery.</summary>
internal static class ManagerDutyRoutes
{
    private const string Get = "GET", Post = "POST";

    public static IReadOnlyList<ApiRoute> All { get; } =
    [
        new(Get, "/v1/managers", Access.Read, "The managers: reachability, lag, and what the cluster can still lose",
            async call => await call.AnswerAsync(await call.Part.ReportAsync(call.Aborted).ConfigureAwait(false), Default.ManagersReport).ConfigureAwait(false), null, Default.ManagersReport),
        new(Post, "/v1/managers/exchange", Access.Manage, "What managers tell each other each second", async call =>
        {
            var report = await call.BodyAsync(Default.ManagerReport, strict: false).ConfigureAwait(false);
            await call.AnswerAsync(call.Part.Peers.Take(report), Default.ManagerReport).ConfigureAwait(false);
        }, Default.ManagerReport, Default.ManagerReport, Quiet: true),
        new(Post, "/v1/managers/store", Access.Manage, "A place in the store for a new manager", async call =>
        {
            var request = await call.BodyAsync(Default.StoreJoinRequest, strict: false).ConfigureAwait(false);
            if (call.Caller.NodeId != request.NodeId)
                throw Refuse.Forbidden(call.By, "it asks for a place in the store for another node", "do this on that node");
            await call.AnswerAsync(await call.Part.Store.AddMemberAsync(request, call.Aborted).ConfigureAwait(false), Default.StoreJoinResponse).ConfigureAwait(false);
        }, Default.StoreJoinRequest, Default.StoreJoinResponse),
        new(Get, "/v1/managers/events", Access.Read, "What happened at this manager: one JSON object a line", call => EventStream.Answer(call, call.Part.Events),
            null, OverlayNetJson.Default.ClusterEvent, ContentType: "application/x-ndjson",
            Query: [("since", "a sequence number, or a duration such as 10m"), ("follow", "true: also what is to come")]),
        new(Post, "/v1/nodes/{ref}/promote", Access.Manage, "Make a worker a manager", call => SetRole(call, NodeRole.Manager), null, OverlayNetJson.Default.Node),
        new(Post, "/v1/nodes/{ref}/demote", Access.Manage, "Make a manager a worker", call => SetRole(call, NodeRole.Worker), null, OverlayNetJson.Default.Node),
        new(Post, "/v1/nodes/{id}/certificate", Access.OwnNode, "A certificate of the node's present role", Certificate, Default.CertificateRequestBody, Default.CertificateResponse),
        new(Post, "/v1/nodes/{id}/assert", Access.OwnNode, "Say what a node has, after the registry has been replaced", async call =>
        {
            call.MayActFor(call.Route("id"));
            var request = await call.BodyAsync(Default.AssertRequest, strict: false).ConfigureAwait(false);
            if (request.Incarnation != call.Current.Incarnation)
                throw Refuse.Conflict("other-incarnation", "incarnation", request.Incarnation.ToString(System.Globalization.CultureInfo.InvariantCulture), $"the registry's is {call.Current.Incarnation}", "read the registry again");
            await call.AnswerAsync(await call.Registry.AssertAsync(call.Route("id"), request, call.By, call.Aborted).ConfigureAwait(false), Default.AssertResponse).ConfigureAwait(false);
        }, Default.AssertRequest, Default.AssertResponse),
    ];

    private static async Task SetRole(ApiCall call, NodeRole role)
    {
        var node = Resolve.Node(call.Current, call.Route("ref"));
        if (role == NodeRole.Worker)
            await call.Part.CheckDemotionAsync(node, call.Aborted).ConfigureAwait(false);
        else if (!call.Part.Store.IsExternal && Managers.EtcdProcess.Find() is null)
            throw Refuse.Conflict("no-etcd", "node", node.Name, "there is no etcd on this manager's machine, and every one of several managers runs a member", "install it: apt-get install etcd-server");
        await call.AnswerAsync(await call.Registry.SetRoleAsync(node.Id, role, call.By, call.Aborted).ConfigureAwait(false), OverlayNetJson.Default.Node).ConfigureAwait(false);
    }

    private static async Task Certificate(ApiCall call)
    {
        var id = call.Route("id");
        call.MayActFor(id);
        var request = await call.BodyAsync(Default.CertificateRequestBody, strict: false).ConfigureAwait(false);
        if (!call.Current.Nodes.TryGetValue(id, out var node))
            throw Refuse.NodeUnknown(id);
        using var authority = await call.Secrets.AuthorityAsync(call.Aborted).ConfigureAwait(false);
        try
        {
            await call.AnswerAsync(new CertificateResponse
            {
                Role = node.Role,
                Certificate = authority.Sign(request.Csr, new CertificateSubject(node.Id, node.Role, call.Current.ClusterId), node.Name, node.Address),
            }, Default.CertificateResponse).ConfigureAwait(false);
        }
        catch (CryptographicException e)
        {
            throw Refuse.Invalid("invalid-csr", "csr", null, $"it cannot be signed: {e.Message}", "send a PKCS#10 request (PEM) for an ECDSA P-256 key");
        }
    }
}
