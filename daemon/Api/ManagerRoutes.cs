using Microsoft.AspNetCore.Http.Features;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>The table of a manager's routes: what is mapped, who may use it, and what the OpenAPI document says.</summary>
internal static class ManagerRoutes
{
    private const string Get = "GET", Post = "POST", Patch = "PATCH", Delete = "DELETE";

    private static readonly (string, string) InNetwork = ("network", "name or id of the network, where a name is on several");

    public static IReadOnlyList<ApiRoute> All { get; } =
    [
        new(Get, "/v1/networks", Access.Read, "List networks", ListNetworks, null, Default.ListNetwork),
        new(Post, "/v1/networks", Access.Manage, "Create a network", CreateNetwork,
            Default.NetworkCreateRequest, Default.Network, StatusCodes.Status201Created),
        new(Post, "/v1/networks/prune", Access.Manage, "Remove networks that nothing is on; answers with those removed",
            PruneNetworks, null, Default.ListNetwork),
        new(Get, "/v1/networks/{ref}", Access.Read, "Show a network",
            call => call.AnswerAsync(Resolve.Network(call.Current, call.Route("ref")), Default.Network), null, Default.Network),
        new(Patch, "/v1/networks/{ref}", Access.Manage, "Rename a network that no container is on", UpdateNetwork,
            Default.NetworkUpdateRequest, Default.Network),
        new(Delete, "/v1/networks/{ref}", Access.Manage, "Remove a network that nothing is on", RemoveNetwork, null, Default.Network),

        new(Get, "/v1/services", Access.Read, "List services", ListServices, null, Default.ListService, Query: [InNetwork]),
        new(Post, "/v1/services", Access.Manage, "Create a service", CreateService,
            Default.ServiceCreateRequest, Default.Service, StatusCodes.Status201Created),
        new(Get, "/v1/services/{ref}", Access.Read, "Show a service",
            call => call.AnswerAsync(FindService(call), Default.Service), null, Default.Service, Query: [InNetwork]),
        new(Patch, "/v1/services/{ref}", Access.Manage, "Change a service", UpdateService,
            Default.ServiceUpdateRequest, Default.Service, Query: [InNetwork]),
        new(Delete, "/v1/services/{ref}", Access.Manage, "Remove a service", RemoveService, null, Default.Service,
            Query: [InNetwork, ("force", "true: also with endpoints, which stay attached without a service")]),
        new(Post, "/v1/services/gc", Access.Manage, "Remove endpoints of nodes that have been silent for long and that no other node reaches; answers with them", CollectGarbage,
            null, Default.ListEndpoint, Query: [("after", "seconds that an endpoint has been unreachable; absent: 3600"), ("dry-run", "true: say which, remove none"), ("service", "name or id; absent: all"), InNetwork]),
        new(Get, "/v1/services/{ref}/backends", Access.Read, "Show a service's endpoints and the shares planned for them",
            HealthRoutes.Backends, null, Default.ListBackendReport, Query: [InNetwork]),

        new(Get, "/v1/endpoints", Access.Read, "List endpoints", ListEndpoints, null, Default.ListEndpoint,
            Query: [("network", "name or id"), ("service", "name or id"), ("node", "name or id")]),
        new(Post, "/v1/endpoints", Access.OwnNode, "Allocate addresses for an endpoint and record it", CreateEndpoint,
            Default.EndpointCreateRequest, Default.Endpoint, StatusCodes.Status201Created),
        new(Get, "/v1/endpoints/{ref}", Access.Read, "Show an endpoint",
            call => call.AnswerAsync(FindEndpoint(call), Default.Endpoint), null, Default.Endpoint, Query: [InNetwork]),
        new(Patch, "/v1/endpoints/{ref}", Access.OwnNode, "Change an endpoint", UpdateEndpoint,
            Default.EndpointUpdateRequest, Default.Endpoint, Query: [InNetwork]),
        new(Delete, "/v1/endpoints/{ref}", Access.OwnNode, "Remove an endpoint and free its addresses", RemoveEndpoint,
            null, Default.Endpoint, Query: [InNetwork]),

        new(Get, "/v1/nodes", Access.Read, "List nodes", ListNodes, null, Default.ListNode),
        new(Get, "/v1/nodes/{ref}", Access.Read, "Show a node",
            call => call.AnswerAsync(Resolve.Node(call.Current, call.Route("ref")), Default.Node), null, Default.Node),
        new(Patch, "/v1/nodes/{ref}", Access.Manage, "Change a node's availability or labels", UpdateNode,
            Default.NodeUpdateRequest, Default.Node),
        new(Delete, "/v1/nodes/{ref}", Access.Manage, "Remove a node and the endpoints on it", RemoveNode, null, Default.Node,
            Query: [("force", "true: also while its daemon runs or it has endpoints")]),
        new(Post, "/v1/nodes/{id}/heartbeat", Access.OwnNode, "Say that a node's daemon lives", Heartbeat,
            Default.HeartbeatRequest, Default.HeartbeatResponse, Quiet: true),

        .. VipRoutes.All,

        .. HealthRoutes.Manager,

        new(Get, "/v1/snapshot", Access.Read, "The whole registry at one revision",
            call => call.AnswerAsync(call.Current.ToContract(), Default.RegistrySnapshot), null, Default.RegistrySnapshot),
        new(Get, "/v1/watch", Access.Read, "Follow the registry: one JSON object a line, see docs/api.md", Watch,
            null, Default.WatchMessage, ContentType: "application/x-ndjson",
            Query: [("from", "the revision the caller has; absent or negative: begin with a snapshot"), ("incarnation", "of that revision")]),

        new(Get, "/v1/tokens", Access.Manage, "Show the join tokens", ShowTokens, null, Default.TokenBody),
        new(Post, "/v1/tokens/rotate", Access.Manage, "Make new join tokens; the old ones end", RotateTokens, null, Default.TokenBody,
            Query: [("role", "worker or manager; absent: both")]),
        new(Post, "/v1/tokens", Access.Manage, "Make a further join token, which ends by itself", async call => await call.AnswerAsync(
            await call.Secrets.CreateTokenAsync(await call.BodyAsync(Default.TokenCreateRequest, strict: true).ConfigureAwait(false), call.Aborted).ConfigureAwait(false),
            Default.TokenInfo).ConfigureAwait(false), Default.TokenCreateRequest, Default.TokenInfo),
        new(Get, "/v1/tokens/list", Access.Manage, "The join tokens without their secrets", async call => await call.AnswerAsync(
            await call.Secrets.ListTokensAsync(call.Aborted).ConfigureAwait(false), Default.ListTokenInfo).ConfigureAwait(false), null, Default.ListTokenInfo),
        new(Delete, "/v1/tokens/{id}", Access.Manage, "End a further join token", async call => await call.AnswerAsync(
            await call.Secrets.RevokeTokenAsync(call.Route("id"), call.Aborted).ConfigureAwait(false), Default.TokenInfo).ConfigureAwait(false), null, Default.TokenInfo),
        new(Get, "/v1/ca/rotation", Access.Manage, "How far the replacement of the cluster's CA is", Authority, null, Default.AuthorityReport),
        new(Post, "/v1/ca/rotate", Access.Manage, "Replace the cluster's CA, in two phases and under way", async call =>
        {
            await call.Secrets.RotateAuthorityAsync(call.Aborted).ConfigureAwait(false);
            await Authority(call).ConfigureAwait(false);
        }, null, Default.AuthorityReport),
        new(Get, "/v1/ca", Access.Anyone, "The cluster CA's certificate (PEM); two while it is being replaced", ShowAuthority, ContentType: "application/x-pem-file"),
        new(Post, "/v1/join", Access.Anyone, "Become a member, with a join token", Join, Default.JoinRequest, Default.JoinResponse),
        new(Get, "/v1/openapi.json", Access.Read, "This API's OpenAPI document", ShowDocument),
        .. ManagerDutyRoutes.All,
    ];

    private static Task ListNetworks(ApiCall call) =>
        call.AnswerAsync([.. call.Current.Networks.Values.OrderBy(n => n.Name, StringComparer.Ordinal)], Default.ListNetwork);

    private static async Task CreateNetwork(ApiCall call)
    {
        var request = await call.BodyAsync(Default.NetworkCreateRequest, strict: true).ConfigureAwait(false);
        var written = await call.Registry.CreateNetworkAsync(request, call.By, call.Aborted).ConfigureAwait(false);
        await call.AnswerAsync(written, Default.Network, StatusCodes.Status201Created).ConfigureAwait(false);
    }

    private static async Task PruneNetworks(ApiCall call)
    {
        var written = await call.Registry.PruneNetworksAsync(call.By, call.Aborted).ConfigureAwait(false);
        await call.AnswerAsync(new Written<List<Network>>([.. written.Value], written.Revision), Default.ListNetwork).ConfigureAwait(false);
    }

    private static async Task UpdateNetwork(ApiCall call)
    {
        var request = await call.BodyAsync(Default.NetworkUpdateRequest, strict: true).ConfigureAwait(false);
        await call.AnswerAsync(
            await call.Registry.UpdateNetworkAsync(call.Route("ref"), request, call.By, call.Aborted).ConfigureAwait(false),
            Default.Network).ConfigureAwait(false);
    }

    private static async Task RemoveNetwork(ApiCall call) => await call.AnswerAsync(
        await call.Registry.RemoveNetworkAsync(call.Route("ref"), call.By, call.Aborted).ConfigureAwait(false),
        Default.Network).ConfigureAwait(false);

    private static Service FindService(ApiCall call) => Resolve.Service(call.Current, call.Route("ref"), call.Query("network"));

    private static Task ListServices(ApiCall call)
    {
        var services = call.Query("network") is { } network
            ? call.Current.ServicesOf(Resolve.Network(call.Current, network))
            : call.Current.Services.Values;
        return call.AnswerAsync([.. services.OrderBy(s => s.Name, StringComparer.Ordinal)], Default.ListService);
    }

    private static async Task CreateService(ApiCall call)
    {
        var request = await call.BodyAsync(Default.ServiceCreateRequest, strict: true).ConfigureAwait(false);
        PortCheck.RefuseHeld(call, PortSpecs.Parse(request.Ports, request.PublishMode), []);
        var written = await call.Registry.CreateServiceAsync(request, call.By, call.Aborted).ConfigureAwait(false);
        await call.AnswerAsync(written, Default.Service, StatusCodes.Status201Created).ConfigureAwait(false);
    }

    private static async Task UpdateService(ApiCall call)
    {
        var request = await call.BodyAsync(Default.ServiceUpdateRequest, strict: true).ConfigureAwait(false);
        if (request.Ports is not null)
        {
            var before = FindService(call).Ports;
            PortCheck.RefuseHeld(call, PortSpecs.Parse(request.Ports, before.FirstOrDefault()?.Mode ?? PublishMode.Ingress), before);
        }
        await call.AnswerAsync(
            await call.Registry.UpdateServiceAsync(call.Route("ref"), call.Query("network"), request, call.By, call.Aborted)
                .ConfigureAwait(false),
            Default.Service).ConfigureAwait(false);
    }

    private static async Task CollectGarbage(ApiCall call)
    {
        var after = call.Number("after") ?? 3600;
        if (after < 0)
            throw Refuse.Invalid("invalid-query", "after", Names.Text(after), "it is negative", "give seconds, such as 3600");
        var service = call.Query("service") is { } name ? Resolve.Service(call.Current, name, call.Query("network")) : null;
        var residual = ResidualEndpoints.Of(call.Current, service, TimeSpan.FromSeconds(after), call.Services.Time.GetUtcNow());
        foreach (var endpoint in call.Flag("dry-run") ? [] : residual)
            await call.Registry.RemoveEndpointAsync(endpoint.Id, null, call.By, call.Aborted).ConfigureAwait(false);
        await call.AnswerAsync([.. residual], Default.ListEndpoint).ConfigureAwait(false);
    }

    private static async Task RemoveService(ApiCall call) => await call.AnswerAsync(
        await call.Registry.RemoveServiceAsync(call.Route("ref"), call.Query("network"), call.Flag("force"), call.By, call.Aborted)
            .ConfigureAwait(false),
        Default.Service).ConfigureAwait(false);

    private static Endpoint FindEndpoint(ApiCall call) => Resolve.Endpoint(call.Current, call.Route("ref"), call.Query("network"));

    private static Task ListEndpoints(ApiCall call)
    {
        var current = call.Current;
        var network = call.Query("network") is { } inNetwork ? Resolve.Network(current, inNetwork) : null;
        var service = call.Query("service") is { } ofService ? Resolve.Service(current, ofService, network?.Id) : null;
        var node = call.Query("node") is { } onNode ? Resolve.Node(current, onNode) : null;
        var endpoints = service is not null ? current.EndpointsOf(service)
            : network is not null ? current.EndpointsOf(network)
            : current.Endpoints.Values;
        return call.AnswerAsync(
            [.. endpoints.Where(e => node is null || e.NodeId == node.Id)
                .OrderBy(e => e.Name, StringComparer.Ordinal).ThenBy(e => e.Id, StringComparer.Ordinal)],
            Default.ListEndpoint);
    }

    private static async Task CreateEndpoint(ApiCall call)
    {
        var request = await call.BodyAsync(Default.EndpointCreateRequest, strict: false).ConfigureAwait(false);
        call.MayActFor(request.NodeId);
        var written = await call.Registry.CreateEndpointAsync(request, call.By, call.Aborted).ConfigureAwait(false);
        await call.AnswerAsync(written, Default.Endpoint, StatusCodes.Status201Created).ConfigureAwait(false);
    }

    private static async Task UpdateEndpoint(ApiCall call)
    {
        var endpoint = FindEndpoint(call);
        call.MayActFor(endpoint.NodeId);
        var request = await call.BodyAsync(Default.EndpointUpdateRequest, strict: true).ConfigureAwait(false);
        await call.AnswerAsync(
            await call.Registry.UpdateEndpointAsync(endpoint.Id, null, request, call.By, call.Aborted).ConfigureAwait(false),
            Default.Endpoint).ConfigureAwait(false);
    }

    private static async Task RemoveEndpoint(ApiCall call)
    {
        var endpoint = FindEndpoint(call);
        call.MayActFor(endpoint.NodeId);
        await call.AnswerAsync(
            await call.Registry.RemoveEndpointAsync(endpoint.Id, null, call.By, call.Aborted).ConfigureAwait(false),
            Default.Endpoint).ConfigureAwait(false);
    }

    private static Task ListNodes(ApiCall call) =>
        call.AnswerAsync([.. call.Current.Nodes.Values.OrderBy(n => n.Name, StringComparer.Ordinal)], Default.ListNode);

    private static async Task UpdateNode(ApiCall call)
    {
        var request = await call.BodyAsync(Default.NodeUpdateRequest, strict: true).ConfigureAwait(false);
        await call.AnswerAsync(
            await call.Registry.UpdateNodeAsync(call.Route("ref"), request, call.By, call.Aborted).ConfigureAwait(false),
            Default.Node).ConfigureAwait(false);
    }

    private static async Task RemoveNode(ApiCall call) => await call.AnswerAsync(
        await call.Registry.RemoveNodeAsync(call.Route("ref"), call.Flag("force"), call.By, call.Aborted).ConfigureAwait(false),
        Default.Node).ConfigureAwait(false);

    private static async Task Heartbeat(ApiCall call)
    {
        var request = await call.BodyAsync(Default.HeartbeatRequest, strict: false).ConfigureAwait(false);
        var id = call.Route("id");
        if (request.NodeId != id)
            throw Refuse.Invalid("invalid-field", "nodeId", request.NodeId, $"the path says {id}", "send the node's own id in both places");
        call.MayActFor(id);
        var answer = await call.Registry.HeartbeatAsync(request, call.Aborted).ConfigureAwait(false);
        try
        {
            var trust = await call.Secrets.TrustAsync(call.Aborted).ConfigureAwait(false);
            answer = answer with { Trust = trust.Hash, Issuer = trust.Signer };
        }
        catch (RegistryException)
        {
            // Without a majority a heartbeat is heard all the same.
        }
        await call.AnswerAsync(answer with { Stale = call.Registry.IsStale ? true : null }, Default.HeartbeatResponse).ConfigureAwait(false);
    }

    private static async Task Authority(ApiCall call) => await call.AnswerAsync(
        await call.Secrets.ReportAsync(call.Registry.NodeTrusts(), call.Aborted).ConfigureAwait(false), Default.AuthorityReport).ConfigureAwait(false);

    private static async Task Watch(ApiCall call)
    {
        var from = call.Number("from");
        var incarnation = call.Number("incarnation") ?? call.Current.Incarnation;
        var response = call.Context.Response;
        response.ContentType = "application/x-ndjson";
        call.Context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        // An open watch must not hold up the daemon's stop.
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(
            call.Aborted, call.Context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
        try
        {
            await foreach (var line in call.Registry.Feed
                .ReadAsync(from is null or < 0 ? null : from, incarnation, call.Services.Time, ends.Token).ConfigureAwait(false))
                await response.BodyWriter.WriteAsync(line, ends.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (ends.IsCancellationRequested)
        {
            // The watcher has gone, or the daemon stops: the stream just ends.
        }
    }

    private static async Task ShowTokens(ApiCall call) => await call.AnswerAsync(
        await call.Secrets.TokensAsync(call.Aborted).ConfigureAwait(false), Default.TokenBody).ConfigureAwait(false);

    private static async Task RotateTokens(ApiCall call)
    {
        NodeRole? role = call.Query("role") switch
        {
            null => null,
            "worker" => NodeRole.Worker,
            "manager" => NodeRole.Manager,
            var other => throw Refuse.Invalid("invalid-query", "role", other, "it is unknown", "use worker or manager"),
        };
        await call.AnswerAsync(
            await call.Secrets.RotateAsync(role, call.Aborted).ConfigureAwait(false), Default.TokenBody).ConfigureAwait(false);
    }

    private static async Task ShowAuthority(ApiCall call)
    {
        var pem = await call.Secrets.TrustPemAsync(call.Aborted).ConfigureAwait(false);
        call.Context.Response.ContentType = "application/x-pem-file";
        await call.Context.Response.WriteAsync(pem, call.Aborted).ConfigureAwait(false);
    }

    private static async Task Join(ApiCall call)
    {
        var request = await call.BodyAsync(Default.JoinRequest, strict: false).ConfigureAwait(false);
        await call.AnswerAsync(
            await call.Join.JoinAsync(request, call.From, call.Aborted).ConfigureAwait(false), Default.JoinResponse)
            .ConfigureAwait(false);
    }

    private static Task ShowDocument(ApiCall call)
    {
        call.Context.Response.ContentType = "application/json";
        return call.Context.Response.WriteAsync(OpenApiDocument.Text, call.Aborted);
    }
}
