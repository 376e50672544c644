using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using OverlayNet.Daemon.Tracing;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Ingress;

namespace OverlayNet.Daemon.Api;

/// <summary>What the manager's API works on.</summary>
/// <param name="Registry">Null on a worker, which answers reads only.</param>
public sealed record ManagerApiServices(ClusterRegistry? Registry, ClusterSecrets? Secrets, JoinService? Join)
{
    /// <summary>Where reads come from on a node without a registry of its own.</summary>
    public Func<Snapshot>? ReadFrom { get; init; }

    /// <summary>The newest registry this node knows.</summary>
    public Snapshot Current => Registry?.Current ?? ReadFrom?.Invoke() ?? Snapshot.Empty;

    /// <summary>Live flows and connections to a service's real servers from this node, by service id; null where there is no agent to ask.</summary>
    public Func<string, IReadOnlyList<RealServerStatistics>>? Flows { get; init; }

    /// <summary>Who holds a port of this host beyond its loopback interface; null: not looked at.</summary>
    public Func<byte, ushort, PortHolder?>? PortHolder { get; init; }

    /// <summary>Null on a worker.</summary>
    internal HealthDesk? Desk { get; init; }

    /// <summary>What this node knows of checks; null: nothing.</summary>
    public IHealthViews? HealthViews { get; init; }

    /// <summary>The other managers and the store's members; null on a worker.</summary>
    internal Managers.ManagerPart? Part { get; init; }

    /// <summary>On a manager whose registry is not up: what hinders. Null: it is up, or this node is a worker.</summary>
    public Func<string>? Starting { get; init; }

    /// <summary>Whether what <see cref="ReadFrom"/> gives may be behind.</summary>
    public Func<bool>? CopyIsStale { get; init; }

    /// <summary>Where writes, and whatever is refused to somebody, are recorded; null: nowhere.</summary>
    public EventLog? Audit { get; init; }
    public TimeProvider Time { get; init; } = TimeProvider.System;
    public ILogger Logger { get; init; } = NullLogger.Instance;
}

/// <summary>The API of a manager: the registry over HTTP, for the unix socket and for other nodes alike.</summary>
public static partial class ManagerApi
{
    /// <summary>Maps every route of <see cref="ManagerRoutes"/>.</summary>
    public static void Map(IEndpointRouteBuilder app, ManagerApiServices services) => Map(app, () => services);

    /// <param name="services">Asked at every request: a manager's registry comes up after its listener.</param>
    public static void Map(IEndpointRouteBuilder app, Func<ManagerApiServices> services)
    {
        foreach (var route in ManagerRoutes.All)
            app.MapMethods(route.Path, [route.Method], context => HandleAsync(context, route, services()));
    }

    /// <summary>Says how far a read can be trusted, having waited for what was acknowledged before.</summary>
    private static async Task MarkReadAsync(HttpContext context, ApiRoute route, ManagerApiServices services)
    {
        if (route.Access != Access.Read || route.Method != "GET")
            return;
        context.Response.Headers[Protocol.ReadHeader] = services.Registry switch
        {
            { } registry => await registry.ConfirmAsync(context.RequestAborted).ConfigureAwait(false) ? "fresh" : "stale",
            null => services.CopyIsStale?.Invoke() == false ? "copy" : "stale",
        };
    }

    internal static async Task HandleAsync(HttpContext context, ApiRoute route, ManagerApiServices services)
    {
        context.Response.Headers[Protocol.Header] = Names.Text(Protocol.Version);
        using var span = route.Traced ? Traces.Request(context, route.Method, route.Path) : null;
        try
        {
            ApiCall.CheckProtocol(context.Request);
            // Who is a member cannot be said before the registry is up; the caller has other managers to ask.
            if (services is { Registry: null, Starting: { } starting } && context.Features.Get<LocalCallerFeature>() is null)
                throw Refuse.Unavailable($"this manager's registry is not up: {starting()}");
            if (route.Request is not null)
                context.Request.EnableBuffering(RequestBody.MaxBytes);
            var known = services.Registry?.KnownRevision ?? 0;
            try
            {
                await AnswerAsync(context, route, services).ConfigureAwait(false);
            }
            catch (RegistryException e) when (services.Registry is { } registry && !context.Response.HasStarted
                && e.Status is StatusCodes.Status404NotFound or StatusCodes.Status409Conflict or StatusCodes.Status410Gone)
            {
                // Refused by what this manager's memory has; another manager may have acknowledged what is missing in it.
                if (!await registry.ConfirmAsync(context.RequestAborted).ConfigureAwait(false))
                {
                    // A read says for itself that it may be behind.
                    if (route.Method == "GET" && e.Status != StatusCodes.Status410Gone)
                        throw;
                    throw Refuse.Unavailable($"without a majority of the managers it cannot be said whether this is so: {e.Error.Message}");
                }
                if (registry.KnownRevision == known)
                    throw;
                if (context.Request.Body.CanSeek)
                    context.Request.Body.Position = 0;
                await AnswerAsync(context, route, services).ConfigureAwait(false);
            }
            Audit(context, route, services, context.Response.StatusCode, "");
        }
        catch (RegistryException e)
        {
            span?.SetStatus(System.Diagnostics.ActivityStatusCode.Error, e.Message);
            Audit(context, route, services, e.Status, e.Error.Code);
            await RefuseAsync(context, e.Status, e.Error).ConfigureAwait(false);
        }
        catch (BadHttpRequestException e)
        {
            await RefuseAsync(context, e.StatusCode, new ErrorBody
            {
                Code = "bad-request",
                Message = $"request: {e.Message}",
                Field = "request",
                Remedy = "send a well-formed HTTP request",
            }).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The caller has gone; there is nobody to answer.
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            Log.Failed(services.Logger, route.Method, route.Path, e);
            await RefuseAsync(context, StatusCodes.Status500InternalServerError, new ErrorBody
            {
                Code = "internal",
                Message = $"{route.Method} {route.Path}: {e.Message}",
                Field = "request",
                Remedy = "see the daemon's log; 'overlaynet doctor' may know more",
            }).ConfigureAwait(false);
        }
    }

    private static async Task AnswerAsync(HttpContext context, ApiRoute route, ManagerApiServices services)
    {
        var caller = route.Access == Access.Anyone
            ? new CallerIdentity(CallerKind.Anonymous, null)
            : CallerIdentity.Of(context, services.Current);
        var call = new ApiCall(context, services, caller);
        Authorize(route, call);
        await MarkReadAsync(context, route, services).ConfigureAwait(false);
        await route.Handle(call).ConfigureAwait(false);
    }

    /// <summary>Who did what, at which revision, and what came of it. Signs of life are no writes; of reads only those that were refused to somebody count.</summary>
    private static void Audit(HttpContext context, ApiRoute route, ManagerApiServices services, int status, string code)
    {
        if (services.Audit is not { } audit)
            return;
        var isRefused = status is StatusCodes.Status401Unauthorized or StatusCodes.Status403Forbidden or StatusCodes.Status410Gone;
        if (!isRefused && (route.Method == "GET" || route.Quiet))
            return;
        var subject = context.Connection.ClientCertificate is { } certificate ? CertificateSubject.Of(certificate) : null;
        var by = context.Features.Get<LocalCallerFeature>() is not null ? "local"
            : subject is null ? "anonymous"
            : $"node {services.Current.Nodes.GetValueOrDefault(subject.NodeId)?.Name ?? subject.NodeId}";
        var revision = context.Response.Headers[Protocol.RevisionHeader] is [{ } text, ..] && long.TryParse(text, out var written) ? written : 0;
        audit.Append("audit", route.Method, context.Request.Path + context.Request.QueryString,
            $"{Names.Text(status)}{(code.Length > 0 ? $" {code}" : "")} by {by} from {context.Connection.RemoteIpAddress?.ToString() ?? "local"}", revision);
    }

    private static void Authorize(ApiRoute route, ApiCall call)
    {
        var allowed = route.Access switch
        {
            Access.Anyone => true,
            Access.Read or Access.OwnNode => call.Caller.Kind != CallerKind.Anonymous,
            Access.Manage => call.Caller.Kind is CallerKind.Local or CallerKind.Manager,
            Access.Local => call.Caller.Kind == CallerKind.Local,
            _ => false,
        };
        if (allowed)
            return;
        Log.Forbidden(call.Services.Logger, call.By, call.From, route.Method, route.Path);
        throw call.Caller.Kind == CallerKind.Anonymous
            ? Refuse.Forbidden(call.By, "this needs a certificate of the cluster", "join the cluster first with 'overlaynet join'")
            : Refuse.Forbidden(call.By, "a worker may not do this", "run the command on a manager; see 'overlaynet node ls'");
    }

    private static async Task RefuseAsync(HttpContext context, int status, ErrorBody error)
    {
        if (context.Response.HasStarted)
        {
            context.Abort();
            return;
        }
        await ApiCall.WriteAsync(context.Response, error, OverlayNetJson.Default.ErrorBody, status).ConfigureAwait(false);
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Error, Message = "{Method} {Path} failed")]
        public static partial void Failed(ILogger logger, string method, string path, Exception error);

        [LoggerMessage(Level = LogLevel.Warning, Message = "{Caller} from {From} may not {Method} {Path}")]
        public static partial void Forbidden(ILogger logger, string caller, string from, string method, string path);
    }
}
