using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Api;

/// <summary>What monitoring reads of a node: on the unix socket, and over TCP where an operator has opened a port for it (metrics.listen).</summary>
internal static class ReadableRoutes
{
    private const string Get = "GET";

    public static IReadOnlyList<ApiRoute> For(NodeDaemon daemon) =>
    [
        new(Get, "/metrics", Access.Local, "This node's metrics, in Prometheus' text format", call => Metrics(call.Context, daemon), ContentType: Exposition.ContentType),
        new(Get, "/v1/sd/prometheus", Access.Local, "Endpoints as targets for Prometheus' http_sd", call => Targets(call.Context, daemon),
            Query: [("service", "only this service, by name"), ("network", "only on this network, by name"), ("port", "the port's name or number; absent: a service's first")]),
    ];

    /// <summary>The same without a caller's identity: whoever reaches the listener may read.</summary>
    public static void Map(IEndpointRouteBuilder app, NodeDaemon daemon)
    {
        app.MapGet("/metrics", context => Metrics(context, daemon));
        app.MapGet("/v1/sd/prometheus", context => Targets(context, daemon));
    }

    private static Task Metrics(HttpContext context, NodeDaemon daemon)
    {
        context.Response.ContentType = Exposition.ContentType;
        return context.Response.WriteAsync(daemon.Metrics(), context.RequestAborted);
    }

    /// <summary>Prometheus keeps the targets it has when the answer is an error, and drops them when it is empty: unknown must not look empty.</summary>
    private static Task Targets(HttpContext context, NodeDaemon daemon)
    {
        var query = context.Request.Query;
        if (daemon.Known is not { } snapshot)
        {
            context.Response.StatusCode = StatusCodes.Status500InternalServerError;
            context.Response.ContentType = "text/plain";
            return context.Response.WriteAsync("this node has no copy of the registry yet\n", context.RequestAborted);
        }
        var groups = PrometheusTargets.Of(snapshot, query["service"].FirstOrDefault(), query["network"].FirstOrDefault(), query["port"].FirstOrDefault());
        return ApiCall.WriteAsync(context.Response, groups, ReadableJson.Default.ListTargetGroup, StatusCodes.Status200OK);
    }
}
