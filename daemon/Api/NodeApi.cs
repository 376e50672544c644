using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Diagnosis;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>What a node answers about itself, on its unix socket only: status, attach and detach, DNS, events, doctor, membership.</summary>
internal static partial class NodeApi
{
    public static void Map(IEndpointRouteBuilder app, NodeDaemon daemon, ILogger logger)
    {
        void Route(string method, string path, Func<HttpContext, Task> handle) =>
            app.MapMethods(path, [method], context => Guard(context, handle, logger));

        Route("GET", "/v1/status", context => Answer(context, daemon.Status(), Default.StatusReport));
        Route("POST", "/v1/init", async context =>
        {
            var request = await RequestBody.ReadAsync(context.Request, Default.InitRequest, strict: true, context.RequestAborted).ConfigureAwait(false);
            await daemon.Init(request, context.RequestAborted).ConfigureAwait(false);
            await Answer(context, daemon.Status(), Default.StatusReport).ConfigureAwait(false);
        });
        Route("POST", "/v1/cluster/join", async context =>
        {
            var request = await RequestBody.ReadAsync(context.Request, Default.JoinClusterRequest, strict: true, context.RequestAborted).ConfigureAwait(false);
            await daemon.Join(request, context.RequestAborted).ConfigureAwait(false);
            await Answer(context, daemon.Status(), Default.StatusReport).ConfigureAwait(false);
        });
        Route("POST", "/v1/leave", async context =>
        {
            await daemon.Leave(context.Request.Query["force"] == "true", context.RequestAborted).ConfigureAwait(false);
            context.Response.StatusCode = StatusCodes.Status204NoContent;
        });
        Route("POST", "/v1/attach", async context =>
        {
            var agent = daemon.RequireAgent();
            var request = await RequestBody.ReadAsync(context.Request, Default.AttachRequest, strict: true, context.RequestAborted).ConfigureAwait(false);
            await Answer(context, await agent.Attachments.Attach(request, context.RequestAborted).ConfigureAwait(false), Default.AttachResponse).ConfigureAwait(false);
        });
        Route("POST", "/v1/detach", async context =>
        {
            var agent = daemon.RequireAgent();
            var request = await RequestBody.ReadAsync(context.Request, Default.DetachRequest, strict: true, context.RequestAborted).ConfigureAwait(false);
            await agent.Attachments.Detach(request, context.RequestAborted).ConfigureAwait(false);
            context.Response.StatusCode = StatusCodes.Status204NoContent;
        });
        Route("GET", "/v1/doctor", context => Answer(context, daemon.Doctor(), Default.DoctorReport));
        Route("GET", "/v1/events", context => Events(context, daemon.RequireAgent().Events));
        Route("GET", "/v1/dns/query", async context => await Answer(
            context,
            await DnsReports.Query(daemon.RequireAgent(), Query(context, "name"), Query(context, "type"), Query(context, "from")).ConfigureAwait(false),
            Default.DnsQueryReport).ConfigureAwait(false));
        Route("GET", "/v1/dns/table", context => Answer(context, DnsReports.Table(daemon.RequireAgent(), Query(context, "network")), Default.ListString));
        Route("GET", "/v1/dns/cache", context => Answer(context, DnsReports.Cache(daemon.RequireAgent()), Default.ListString));
        Route("POST", "/v1/dns/flush", context =>
        {
            daemon.RequireAgent().Dns.FlushCache(Query(context, "domain") is { Length: > 0 } domain ? domain : null);
            context.Response.StatusCode = StatusCodes.Status204NoContent;
            return Task.CompletedTask;
        });
    }

    /// <summary>Every refusal becomes an <see cref="ErrorBody"/>, never a stack trace.</summary>
    internal static async Task Guard(HttpContext context, Func<HttpContext, Task> handle, ILogger logger)
    {
        try
        {
            await handle(context).ConfigureAwait(false);
        }
        catch (RegistryException e)
        {
            await ApiCall.WriteAsync(context.Response, e.Error, Default.ErrorBody, e.Status).ConfigureAwait(false);
        }
        catch (RegistryRefusal e)
        {
            await ApiCall.WriteAsync(context.Response, e.Error, Default.ErrorBody, (int)e.Status).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (context.RequestAborted.IsCancellationRequested)
        {
            // The caller has gone; there is nobody to answer.
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            Log.Failed(logger, context.Request.Method, context.Request.Path, e);
            await ApiCall.WriteAsync(context.Response, new ErrorBody
            {
                Code = "internal",
                Message = $"{context.Request.Method} {context.Request.Path}: {e.Message}",
                Remedy = "see the daemon's log; 'overlaynet doctor' may know more",
            }, Default.ErrorBody, StatusCodes.Status500InternalServerError).ConfigureAwait(false);
        }
    }

    private static string Query(HttpContext context, string name) => context.Request.Query[name].ToString();

    private static Task Answer<T>(HttpContext context, T value, JsonTypeInfo<T> type) =>
        ApiCall.WriteAsync(context.Response, value, type, StatusCodes.Status200OK);

    /// <summary>NDJSON: kept events, then with <c>follow=true</c> those to come. <c>since</c> is a sequence number or a duration (10m, 2h).</summary>
    private static async Task Events(HttpContext context, EventLog events)
    {
        context.Response.ContentType = "application/x-ndjson";
        var since = Query(context, "since");
        IReadOnlyList<ClusterEvent> kept;
        if (since.Length == 0)
            kept = events.Since(0);
        else if (long.TryParse(since, NumberStyles.None, CultureInfo.InvariantCulture, out var sequence))
            kept = events.Since(sequence);
        else if (Duration(since) is { } duration)
            kept = events.Since(TimeProvider.System.GetUtcNow() - duration);
        else
            throw Refuse.Invalid("invalid-query", "since", since, "it is neither a sequence number nor a duration", "write a number, or 30s, 10m, 2h, 1d");
        foreach (var entry in kept)
            await Line(context, entry).ConfigureAwait(false);
        await context.Response.Body.FlushAsync(context.RequestAborted).ConfigureAwait(false);
        if (context.Request.Query["follow"] != "true")
            return;
        await foreach (var entry in events.FollowAsync(kept.Count > 0 ? kept[^1].Sequence : 0, context.RequestAborted).ConfigureAwait(false))
        {
            await Line(context, entry).ConfigureAwait(false);
            await context.Response.Body.FlushAsync(context.RequestAborted).ConfigureAwait(false);
        }
    }

    private static async Task Line(HttpContext context, ClusterEvent entry)
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(entry, Default.ClusterEvent);
        await context.Response.Body.WriteAsync(json, context.RequestAborted).ConfigureAwait(false);
        await context.Response.Body.WriteAsync("\n"u8.ToArray(), context.RequestAborted).ConfigureAwait(false);
    }

    private static TimeSpan? Duration(string text)
    {
        if (text.Length < 2 || !double.TryParse(text[..^1], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var count))
            return null;
        return text[^1] switch
        {
            's' => TimeSpan.FromSeconds(count),
            'm' => TimeSpan.FromMinutes(count),
            'h' => TimeSpan.FromHours(count),
            'd' => TimeSpan.FromDays(count),
            _ => null,
        };
    }

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Error, Message = "{Method} {Path} failed")]
        public static partial void Failed(ILogger logger, string method, string path, Exception error);
    }
}
