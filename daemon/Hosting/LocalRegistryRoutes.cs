using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;

namespace OverlayNet.Daemon.Hosting;

/// <summary>
/// The registry's routes on a node's unix socket. A manager answers them itself; a worker answers reads from its copy
/// and passes the rest on to a manager, which decides what a worker may do.
/// </summary>
internal static class LocalRegistryRoutes
{
    public static void Map(IEndpointRouteBuilder app, Func<Member> member, ILogger logger)
    {
        foreach (var route in ManagerRoutes.All)
        {
            app.MapMethods(route.Path, [route.Method], context => NodeApi.Guard(context, _ =>
            {
                var current = member();
                return current.Registry is not null || (route.Method == "GET" && route.Access == Access.Read)
                    ? ManagerApi.HandleAsync(context, route, current.Services)
                    : PassOn(context, current);
            }, logger));
        }
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
        if (response.Headers.TryGetValues(Protocol.RevisionHeader, out var revision))
            context.Response.Headers[Protocol.RevisionHeader] = revision.First();
        await response.Content.CopyToAsync(context.Response.Body, context.RequestAborted).ConfigureAwait(false);
    }
}
