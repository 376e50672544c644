using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Tracing;

namespace OverlayNet.Daemon.Consul;

/// <summary>
/// Consul's read API and the agent's registrations, over this node's copy of the registry, on a listener of their own (consul.listen): clients expect
/// them at the root of a host and port, where paths such as <c>/v1/services</c> are not ours. See docs/consul.md.
/// </summary>
internal sealed partial class ConsulApi(NodeDaemon daemon, TimeProvider time, ILogger logger)
{
    // As in Consul.
    private static readonly TimeSpan UsualWait = TimeSpan.FromMinutes(5), MostWait = TimeSpan.FromMinutes(10), Contact = TimeSpan.FromSeconds(5);
    private static readonly string[] _unsupported = ["filter", "node-meta"];

    public void Map(IEndpointRouteBuilder app)
    {
        Read(app, "/v1/agent/self", (_, view) => view.Json(Self(view), ConsulJson.Default.ConsulSelf));
        Read(app, "/v1/agent/members", (_, view) => view.Json(view.Catalog.Nodes.Select(Member).ToList(), ConsulJson.Default.ListConsulMember));
        Read(app, "/v1/agent/services", (_, view) => view.Json(view.Catalog.ServicesOn(view.NodeId), ConsulJson.Default.DictionaryStringConsulService));
        Read(app, "/v1/agent/service/{id}", (call, view) => view.Catalog.ServicesOn(view.NodeId).TryGetValue(Route(call, "id"), out var service)
            ? view.Json(service, ConsulJson.Default.ConsulService)
            : throw new ConsulException(StatusCodes.Status404NotFound, $"unknown service ID: {Route(call, "id")}"));
        Read(app, "/v1/agent/checks", (_, view) => view.Json(view.Catalog.ChecksOnNode(view.NodeId).Where(check => check.ServiceID.Length > 0).ToDictionary(check => check.CheckID), ConsulJson.Default.DictionaryStringConsulCheck));
        Read(app, "/v1/status/leader", (_, view) => view.Json(view.HasLeader ? view.Leader : "", ConsulJson.Default.String));
        Read(app, "/v1/status/peers", (_, view) => view.Json(view.Peers, ConsulJson.Default.ListString));
        Read(app, "/v1/catalog/datacenters", (_, view) => view.Json([.. view.Catalog.Datacenters], ConsulJson.Default.ListString));
        Read(app, "/v1/catalog/nodes", (_, view) => view.Json([.. view.Catalog.Nodes.Select(ConsulCatalog.Of)], ConsulJson.Default.ListConsulNode));
        Read(app, "/v1/catalog/services", (_, view) => view.Json(view.Catalog.Services(), ConsulJson.Default.SortedDictionaryStringListString));
        Read(app, "/v1/catalog/service/{name}", (call, view) => view.Json(view.Catalog.Flat(Route(call, "name"), Tags(call)), ConsulJson.Default.ListConsulCatalogService));
        Read(app, "/v1/catalog/node/{name}", (call, view) => view.Catalog.Node(Route(call, "name")) is { } node ? view.Json(node, ConsulJson.Default.ConsulNodeServices) : "null"u8.ToArray());
        Read(app, "/v1/health/service/{name}", (call, view) =>
            view.Json(view.Catalog.Instances(Route(call, "name"), Tags(call), call.Request.Query.ContainsKey("passing")), ConsulJson.Default.ListConsulEntry));
        Read(app, "/v1/health/node/{name}", (call, view) => view.Json(view.Catalog.ChecksOnNode(Route(call, "name")), ConsulJson.Default.ListConsulCheck));
        Read(app, "/v1/health/checks/{name}", (call, view) => view.Json(view.Catalog.ChecksOf(Route(call, "name")), ConsulJson.Default.ListConsulCheck));
        Read(app, "/v1/health/state/{state}", (call, view) => Route(call, "state") is "any" or "passing" or "warning" or "critical"
            ? view.Json(view.Catalog.ChecksIn(Route(call, "state")), ConsulJson.Default.ListConsulCheck)
            : throw new ConsulException(StatusCodes.Status400BadRequest, $"state: '{Route(call, "state")}' is unknown; ask for any, passing, warning or critical"));

        Write(app, "/v1/agent/service/register", (agent, call) => agent.RegisterAsync(call));
        Write(app, "/v1/agent/service/deregister/{id}", (agent, call) => agent.DeregisterAsync(Route(call, "id"), call.RequestAborted));
        Write(app, "/v1/agent/service/maintenance/{id}", (agent, call) => agent.MaintainAsync(Route(call, "id"), call));
        Write(app, "/v1/agent/check/register", (agent, call) => agent.RegisterCheckAsync(call));
        Write(app, "/v1/agent/check/deregister/{id}", (agent, call) => agent.DeregisterCheckAsync(Route(call, "id"), call.RequestAborted));
        foreach (var word in (string[])["pass", "warn", "fail"])
            Write(app, $"/v1/agent/check/{word}/{{id}}", (agent, call) => agent.SayAsync(Route(call, "id"), word, call.Request.Query["note"].FirstOrDefault()));
        Write(app, "/v1/agent/check/update/{id}", (agent, call) => agent.UpdateCheckAsync(Route(call, "id"), call));
    }

    private void Read(IEndpointRouteBuilder app, string path, Func<HttpContext, View, byte[]> render) =>
        app.MapGet(path, context => Guard(context, () => AnswerAsync(context, render)));

    private void Write(IEndpointRouteBuilder app, string path, Func<ConsulAgent, HttpContext, Task> act) =>
        app.MapPut(path, context => Guard(context, async () =>
        {
            // Words about checks come all the time, and change nothing by themselves.
            using var span = path.Contains("/check/", StringComparison.Ordinal) ? null : Traces.Request(context, "PUT", path);
            await act(new ConsulAgent(Agent()), context).ConfigureAwait(false);
        }));

    private NodeAgent Agent() => daemon.Known is null ? throw ConsulException.NoLeader() : daemon.RequireAgent();

    private async Task AnswerAsync(HttpContext context, Func<HttpContext, View, byte[]> render)
    {
        var agent = Agent();
        var query = context.Request.Query;
        foreach (var name in _unsupported)
        {
            if (query[name].FirstOrDefault() is { Length: > 0 } value)
                throw new ConsulException(StatusCodes.Status400BadRequest, $"{name}: '{value}' is not supported here; leave it out and choose in the client, or ask with ?tag=");
        }
        var view = View.Of(agent, query);
        if (query.ContainsKey("consistent") && !view.HasLeader)
            throw ConsulException.NoLeader();
        var body = render(context, view);
        // What the caller has is the newest: wait until the answer is another one. Anything else is answered at once; an index ahead of us is of a
        // registry that has been replaced, and the client starts over when it sees a lower one.
        if (query["index"].FirstOrDefault() is { Length: > 0 } text && Index(text) is var index and > 0 && index == view.Index)
            (view, body) = await WaitAsync(context, agent, view, body, render).ConfigureAwait(false);
        var headers = context.Response.Headers;
        headers["X-Consul-Index"] = view.Index.ToString(CultureInfo.InvariantCulture);
        headers["X-Consul-KnownLeader"] = view.HasLeader ? "true" : "false";
        headers["X-Consul-LastContact"] = ((long)view.Age.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = body.Length;
        await context.Response.Body.WriteAsync(body, context.RequestAborted).ConfigureAwait(false);
    }

    private async Task<(View, byte[])> WaitAsync(HttpContext context, NodeAgent agent, View view, byte[] body, Func<HttpContext, View, byte[]> render)
    {
        var query = context.Request.Query;
        var wait = query["wait"].FirstOrDefault() is { Length: > 0 } text
            ? ConsulCatalog.Duration(text) ?? throw new ConsulException(StatusCodes.Status400BadRequest, $"wait: '{text}' is not a duration; write it as 30s or 5m")
            : UsualWait;
        wait = wait <= TimeSpan.Zero ? UsualWait : wait > MostWait ? MostWait : wait;
        // As in Consul: clients that came together should not come back together.
        wait += wait * (Random.Shared.NextDouble() / 16);
        var begun = time.GetTimestamp();
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
        while (time.GetElapsedTime(begun) is var passed && passed < wait)
        {
            var changed = agent.Follower.Changed;
            var next = View.Of(agent, query);
            if (next.Index != view.Index)
            {
                var answer = render(context, next);
                if (!answer.AsSpan().SequenceEqual(body))
                    return (next, answer);
                view = next;
            }
            try
            {
                await changed.WaitAsync(wait - passed, time, ends.Token).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                break;
            }
        }
        return (View.Of(agent, query), body);
    }

    private async Task Guard(HttpContext context, Func<Task> act)
    {
        try
        {
            await act().ConfigureAwait(false);
        }
        catch (ConsulException e)
        {
            await RefuseAsync(context, e.Status, e.Message).ConfigureAwait(false);
        }
        catch (RegistryException e)
        {
            // Consul's clients try again after a 500; what is wrong with the request itself stays what it is.
            await RefuseAsync(context, e.Status >= 500 ? StatusCodes.Status500InternalServerError : e.Status,
                e.Error.Code is "no-manager" or "no-store" ? $"No cluster leader: {e.Message}" : $"{e.Message}{(e.Error.Remedy is { Length: > 0 } remedy ? $"; {remedy}" : "")}").ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            await RefuseAsync(context, StatusCodes.Status400BadRequest, $"Request decode failed: {e.Message}").ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // The caller has gone, or the daemon stops.
            context.Abort();
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            Log.Failed(logger, context.Request.Path, e);
            await RefuseAsync(context, StatusCodes.Status500InternalServerError, e.Message).ConfigureAwait(false);
        }
    }

    private static Task RefuseAsync(HttpContext context, int status, string text)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "text/plain; charset=utf-8";
        return context.Response.WriteAsync(text, context.RequestAborted);
    }

    private static long Index(string text) => long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var index)
        ? index
        : throw new ConsulException(StatusCodes.Status400BadRequest, $"index: '{text}' is not a whole number");

    /// <summary>The path's part as the client meant it: routing leaves an encoded slash as it is.</summary>
    private static string Route(HttpContext context, string name) => Uri.UnescapeDataString((string)context.Request.RouteValues[name]!);

    private static List<string> Tags(HttpContext context) => [.. context.Request.Query["tag"].OfType<string>().Where(tag => tag.Length > 0)];

    private static ConsulSelf Self(View view)
    {
        var node = view.Snapshot.Nodes.GetValueOrDefault(view.NodeId) ?? throw ConsulException.NoLeader();
        return new ConsulSelf(new ConsulSelfConfig(node.Dc, node.Dc, node.Name, node.Id, node.Role == Contracts.NodeRole.Manager, Protocol.Release), Member(node), new Dictionary<string, string>());
    }

    private static ConsulMember Member(Contracts.Node node) => new(
        node.Name, node.Address.ToString(), node.ApiPort, node.State == Contracts.NodeState.Down ? 4 : 1,
        new Dictionary<string, string> { ["role"] = node.Role == Contracts.NodeRole.Manager ? "consul" : "node", ["dc"] = node.Dc, ["id"] = node.Id });

    /// <summary>The registry as one request sees it.</summary>
    private sealed record View(Snapshot Snapshot, ConsulCatalog Catalog, string NodeId, TimeSpan Age, bool HasLeader)
    {
        /// <summary>Never 0: to a client that means "begin anew".</summary>
        public long Index => Math.Max(1, Snapshot.Revision);

        public List<string> Peers => [.. Snapshot.Nodes.Values.Where(node => node.Role == Contracts.NodeRole.Manager).Select(node => new System.Net.IPEndPoint(node.Address, node.ApiPort).ToString()).Order(StringComparer.Ordinal)];

        public string Leader => Peers.FirstOrDefault() ?? "";

        public static View Of(NodeAgent agent, IQueryCollection query)
        {
            var snapshot = agent.Follower.Current;
            var dc = query["dc"].FirstOrDefault() is { Length: > 0 } asked ? asked : null;
            if (dc is not null && snapshot.Nodes.Values.All(node => node.Dc != dc))
                throw new ConsulException(StatusCodes.Status500InternalServerError, "No path to datacenter");
            var network = query["ns"].FirstOrDefault() is { Length: > 0 } ns && ns is not ("default" or "*") ? ns : null;
            var age = agent.Follower.SinceContact ?? TimeSpan.FromDays(1);
            return new View(snapshot, new ConsulCatalog(snapshot, dc, network), agent.Membership.NodeId, age, age < Contact && !agent.Follower.Stale);
        }

        public byte[] Json<T>(T value, JsonTypeInfo<T> type) => JsonSerializer.SerializeToUtf8Bytes(value, type);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Error, "consul: {Path} failed")]
        public static partial void Failed(ILogger logger, string path, Exception error);
    }
}

/// <summary>An answer outside 2xx, in Consul's form: a status and a line of text.</summary>
internal sealed class ConsulException(int status, string message) : Exception(message)
{
    public int Status { get; } = status;

    /// <summary>Clients keep what they have and try again.</summary>
    public static ConsulException NoLeader() => new(StatusCodes.Status500InternalServerError, "No cluster leader");
}
