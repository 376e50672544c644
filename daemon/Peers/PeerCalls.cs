using System.Net;
using System.Security.Cryptography;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Peers;

/// <summary>The local routes that ask another node: what <see cref="PeerRoutes"/> answers, to whoever may use this node's socket.</summary>
internal static class PeerCalls
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    public static IReadOnlyList<ApiRoute> For(NodeDaemon daemon) =>
    [
        new("GET", "/v1/nodes/{ref}/clock", Access.Local, "Another node's clock against this node's", async call =>
        {
            var node = Other(daemon, call);
            using var limit = Limit(call);
            var offset = await Ask(node, () => NodeClock.CompareAsync(daemon.NodeHttp, node.Name, HostPort.Of(node).ToUri(PeerRoutes.Clock), limit.Token), call.Aborted).ConfigureAwait(false);
            await call.AnswerAsync(offset, Default.ClockOffset).ConfigureAwait(false);
        }, null, Default.ClockOffset),
        new("GET", "/v1/nodes/{ref}/path", Access.Local, "Datagrams through the overlay to another node and from it, counted where they arrive", async call =>
        {
            var node = Other(daemon, call);
            var family = call.Number("family") ?? 4;
            var agent = daemon.RequireAgent();
            var network = Resolve.Network(agent.Follower.Current, call.Query("network") ?? throw Refuse.Invalid("invalid-query", "network", null, "it is missing", "name the network that is to be probed"));
            using var limit = Limit(call);
            var report = await Ask(node, () => Probe(daemon, node, network, (int)family, limit.Token), call.Aborted).ConfigureAwait(false);
            await call.AnswerAsync(report, Default.PathReport).ConfigureAwait(false);
        }, null, Default.PathReport, Query: [("network", "name or id"), ("family", "4 or 6; absent: 4")]),
        new("GET", "/v1/nodes/{ref}/capture", Access.Local, "Packets of another node as pcapng, on a manager", call => Capture(daemon, call), ContentType: CaptureStream.ContentType,
            Query: [("service, endpoint, network, node, vip", "one of them: what to capture; absent: VXLAN and VRRP"), ("filter", "in pcap-filter's words"), ("seconds", "the most; absent: an hour"), ("megabytes", "the most; absent: 256"), ("snap", "octets kept of a packet")]),
    ];

    private static async Task<PathReport> Probe(NodeDaemon daemon, Node node, Network network, int family, CancellationToken cancel)
    {
        const int tokenOctets = 16;
        var agent = daemon.RequireAgent();
        var token = RandomNumberGenerator.GetBytes(tokenOctets);
        using var socket = PathSocket.Open(agent.Follower.Current, agent.Membership.NodeId, node.Id, network.Id, family, token);
        using var content = JsonBody.Of(new PathProbeRequest { Network = network.Id, Family = family, Port = socket.Port, Token = Convert.ToHexString(token) }, Default.PathProbeRequest);
        using var begun = await daemon.NodeHttp.PostAsync(HostPort.Of(node).ToUri(PeerRoutes.Path), content, cancel).ConfigureAwait(false);
        var started = await Read(node, begun, Default.PathProbeStarted, cancel).ConfigureAwait(false);
        var back = await socket.ExchangeAsync(started.Port, cancel).ConfigureAwait(false);
        using var ended = await daemon.NodeHttp.GetAsync(HostPort.Of(node).ToUri($"{PeerRoutes.Path}/{started.Id}"), cancel).ConfigureAwait(false);
        var seen = await Read(node, ended, Default.PathProbeSeen, cancel).ConfigureAwait(false);
        return new PathReport { Node = node.Name, Network = network.Name, Family = family, Sent = PathSocket.Count, There = seen.Arrived, Back = back };
    }

    private static async Task Capture(NodeDaemon daemon, ApiCall call)
    {
        var node = Other(daemon, call);
        // The other node would refuse it as well.
        var membership = daemon.RequireAgent().Membership;
        if (membership.Role != NodeRole.Manager)
            throw Refuse.Conflict("not-a-manager", "node", membership.NodeName, "it is a worker, and only managers may capture on other nodes", "run the command on a manager; see 'overlaynet node ls'");
        using var request = new HttpRequestMessage(HttpMethod.Get, HostPort.Of(node).ToUri(PeerRoutes.Capture + call.Context.Request.QueryString));
        using var response = await Ask(node, () => daemon.NodeHttp.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, call.Aborted), call.Aborted).ConfigureAwait(false);
        if (!response.IsSuccessStatusCode)
            throw await Refused(node, response, call.Aborted).ConfigureAwait(false);
        call.Context.Response.ContentType = CaptureStream.ContentType;
        try
        {
            await response.Content.CopyToAsync(call.Context.Response.Body, call.Aborted).ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            // The node, or the way to it, is gone: the reader must not take that for the end.
            call.Context.Abort();
        }
    }

    private static CancellationTokenSource Limit(ApiCall call)
    {
        var limit = CancellationTokenSource.CreateLinkedTokenSource(call.Aborted);
        limit.CancelAfter(Patience);
        return limit;
    }

    private static Node Other(NodeDaemon daemon, ApiCall call)
    {
        var agent = daemon.RequireAgent();
        var node = Resolve.Node(agent.Follower.Current, call.Route("ref"));
        return node.Id != agent.Membership.NodeId ? node : throw Refuse.Conflict("is-this-node", "node", node.Name, "it is this node itself", "name another one; see 'overlaynet node ls'");
    }

    private static async Task<T> Ask<T>(Node node, Func<Task<T>> ask, CancellationToken aborted)
    {
        try
        {
            return await ask().ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or IOException || (e is OperationCanceledException && !aborted.IsCancellationRequested))
        {
            throw Refuse.Conflict("node-unreachable", "node", node.Name, $"its daemon does not answer on {node.Address} port {node.ApiPort}: {(e is OperationCanceledException ? "no answer in time" : (e.InnerException ?? e).Message)}",
                $"let TCP {node.ApiPort} pass between the nodes; see 'overlaynet doctor' on {node.Name}");
        }
    }

    private static async Task<T> Read<T>(Node node, HttpResponseMessage response, System.Text.Json.Serialization.Metadata.JsonTypeInfo<T> type, CancellationToken cancel) => response.IsSuccessStatusCode
        ? JsonSerializer.Deserialize(await response.Content.ReadAsByteArrayAsync(cancel).ConfigureAwait(false), type)!
        : throw await Refused(node, response, cancel).ConfigureAwait(false);

    private static async Task<RegistryException> Refused(Node node, HttpResponseMessage response, CancellationToken cancel)
    {
        try
        {
            if (JsonSerializer.Deserialize(await response.Content.ReadAsByteArrayAsync(cancel).ConfigureAwait(false), Default.ErrorBody) is { } error)
                return new RegistryException((int)response.StatusCode, error);
        }
        catch (JsonException)
        {
            // An older daemon's: it has no such route.
        }
        return Refuse.Conflict("node-refuses", "node", node.Name, $"it answers {(int)response.StatusCode}", "its daemon may be older than this one: see 'overlaynet node ls'");
    }
}
