using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Hosting;

/// <summary>
/// A node's unix socket: its own routes, and the registry's. A manager answers the latter itself; a worker answers
/// reads from its copy and passes the rest on to a manager, which decides what a worker may do.
/// </summary>
internal static class LocalApi
{
    private const string DocumentPath = "/v1/openapi.json";

    public static void Map(IEndpointRouteBuilder app, NodeDaemon daemon, Func<Member> member, ILogger logger)
    {
        // Before the node is a member its own routes work on nothing.
        var alone = new ManagerApiServices(null, null, null) { Logger = logger };
        var own = NodeRoutes.For(daemon);
        var document = new Lazy<string>(() => OpenApiDocument.Build([.. own, .. ManagerRoutes.All]).ToJsonString());
        foreach (var route in own)
            app.MapMethods(route.Path, [route.Method], context => ManagerApi.HandleAsync(context, route, alone));
        foreach (var route in ManagerRoutes.All)
        {
            var local = route.Path == DocumentPath
                ? route with { Handle = call => Document(call.Context, document.Value) }
                : route with { Handle = call => Registry(call, route, member()) };
            app.MapMethods(route.Path, [route.Method], context => ManagerApi.HandleAsync(context, local, alone));
        }
    }

    private static Task Registry(ApiCall call, ApiRoute route, Member member)
    {
        // The managers' own report is not in a worker's copy.
        var isCopied = route.Method == "GET" && route.Access == Access.Read && (route.Path != "/v1/managers" || member.Manager is not null);
        if (member.Manager is not null || isCopied)
            return ManagerApi.HandleAsync(call.Context, route, member.Services);
        if (route.Access != Access.Manage)
            return PassOn(call.Context, member);
        // As in Swarm. A manager would refuse it as well; said here it also holds while none answers.
        var managers = member.Services.Current.Nodes.Values.Where(node => node.Role == NodeRole.Manager).Select(node => $"{node.Name} ({node.Address})");
        throw Refuse.Conflict("not-a-manager", "node", member.Agent.Membership.NodeName, "it is a worker, and workers change only what is about themselves", $"run the command on a manager: {string.Join(", ", managers)}");
    }

    private static Task Document(HttpContext context, string text)
    {
        context.Response.ContentType = "application/json";
        return context.Response.WriteAsync(text, context.RequestAborted);
    }

    private static async Task PassOn(HttpContext context, Member member)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted).ConfigureAwait(false);
        using var response = await member.Agent.Registry.Forward(
            () => new HttpRequestMessage(new HttpMethod(context.Request.Method), context.Request.Path + context.Request.QueryString)
            {
                Content = body.Length > 0 ? new ByteArrayContent(body.ToArray()) : null,
            },
            context.RequestAborted).ConfigureAwait(false);
        context.Response.StatusCode = (int)response.StatusCode;
        context.Response.ContentType = response.Content.Headers.ContentType?.ToString();
        foreach (var name in (string[])[Protocol.RevisionHeader, Protocol.ReadHeader])
        {
            if (response.Headers.TryGetValues(name, out var values))
                context.Response.Headers[name] = values.First();
        }
        await response.Content.CopyToAsync(context.Response.Body, context.RequestAborted).ConfigureAwait(false);
    }
}
