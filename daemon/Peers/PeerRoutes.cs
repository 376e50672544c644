using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Kernel;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Peers;

/// <summary>What any node answers another one about itself, by mutual TLS on the API's port: its clock, probes of the way between the two, and captures for a manager.</summary>
/// <remarks>None of it needs a registry that lives: who asks is judged by the snapshot this node has.</remarks>
internal static class PeerRoutes
{
    public const string Clock = "/v1/peer/clock", Capture = "/v1/peer/capture", Path = "/v1/peer/path";

    public static void Map(IEndpointRouteBuilder app, Func<ManagerApiServices> services, NodeAgent agent, CaptureStream captures, PathAnswers paths)
    {
        ApiRoute[] routes =
        [
            new("GET", Clock, Access.Read, "What this node's clock says", call => call.AnswerAsync(new PeerClock { UnixNs = WallClock.Nanoseconds }, Default.PeerClock), null, Default.PeerClock),
            new("GET", Capture, Access.Manage, "Packets of this node as pcapng", call => captures.Answer(call, agent), ContentType: CaptureStream.ContentType),
            new("POST", Path, Access.Read, "Listen for a probe of the way, and send one", async call =>
            {
                var request = await call.BodyAsync(Default.PathProbeRequest, strict: false).ConfigureAwait(false);
                await call.AnswerAsync(paths.Begin(agent.Follower.Current, agent.Membership.NodeId, call.Caller.NodeId!, request), Default.PathProbeStarted).ConfigureAwait(false);
            }, Default.PathProbeRequest, Default.PathProbeStarted, Quiet: true),
            new("GET", Path + "/{id}", Access.Read, "What came of a probe", async call =>
                await call.AnswerAsync(new PathProbeSeen { Arrived = await paths.End(call.Route("id"), call.Aborted).ConfigureAwait(false) }, Default.PathProbeSeen).ConfigureAwait(false), null, Default.PathProbeSeen),
        ];
        foreach (var route in routes)
            app.MapMethods(route.Path, [route.Method], context => ManagerApi.HandleAsync(context, route, services()));
    }
}
