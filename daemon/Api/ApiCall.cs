using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Api;

/// <summary>One request at the manager's API, with what its handler needs.</summary>
internal sealed class ApiCall(HttpContext context, ManagerApiServices services, CallerIdentity caller)
{
    public ManagerApiServices Services { get; } = services;

    /// <exception cref="RegistryException">409: this node is a worker.</exception>
    public ClusterRegistry Registry => Services.Registry ?? throw NotManager();

    /// <inheritdoc cref="Registry"/>
    public ClusterSecrets Secrets => Services.Secrets ?? throw NotManager();

    /// <inheritdoc cref="Registry"/>
    public JoinService Join => Services.Join ?? throw NotManager();

    /// <inheritdoc cref="Registry"/>
    public HealthDesk Desk => Services.Desk ?? throw NotManager();

    public Snapshot Current => Services.Current;

    public CallerIdentity Caller { get; } = caller;

    public string By => Caller.Describe(Current);

    public HttpContext Context { get; } = context;

    public CancellationToken Aborted => Context.RequestAborted;

    public string From => Context.Connection.RemoteIpAddress?.ToString() ?? "local";

    public string Route(string name) => (string)Context.Request.RouteValues[name]!;

    /// <returns>Null: absent or empty.</returns>
    public string? Query(string name) => Context.Request.Query[name] is [{ Length: > 0 } value, ..] ? value : null;

    public bool Flag(string name) => Query(name) switch
    {
        null or "false" => false,
        "true" => true,
        var other => throw Refuse.Invalid("invalid-query", name, other, "it is neither true nor false", $"write ?{name}=true"),
    };

    public long? Number(string name)
    {
        if (Query(name) is not { } text)
            return null;
        return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
            ? number
            : throw Refuse.Invalid("invalid-query", name, text, "it is not a whole number", $"write ?{name}=1");
    }

    /// <param name="strict">A field that is not known is a mistake, unless a node of a newer release says it on its own behalf.</param>
    public Task<T> BodyAsync<T>(JsonTypeInfo<T> type, bool strict) =>
        RequestBody.ReadAsync(Context.Request, type, strict && !IsOfNewerNode, Aborted);

    private bool IsOfNewerNode =>
        Caller.Kind is CallerKind.Worker or CallerKind.Manager
        && !Context.Request.Headers.ContainsKey(Protocol.ForwardedHeader)
        && Context.Request.Headers[Protocol.Header] is [{ } text, ..]
        && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var version) && version > Protocol.Version;

    /// <inheritdoc cref="Registry"/>
    public Managers.ManagerPart Part => Services.Part ?? throw NotManager();

    private RegistryException NotManager() => Services.Starting is { } starting
        ? Refuse.Unavailable($"this manager's registry is not up: {starting()}")
        : Refuse.Conflict("not-a-manager", "node", null, "this node is a worker", "run the command on a manager; see 'overlaynet node ls'");

    /// <summary>Refuses a worker that speaks for another node.</summary>
    public void MayActFor(string nodeId)
    {
        if (Caller.Kind == CallerKind.Worker && Caller.NodeId != nodeId)
            throw Refuse.Forbidden(By, $"it is not node {nodeId}, and a worker may write only what is about itself",
                "do this on that node, or on a manager");
    }

    public Task AnswerAsync<T>(Written<T> written, JsonTypeInfo<T> type, int status = StatusCodes.Status200OK) =>
        AnswerAsync(written.Value, type, written.Revision, status);

    public Task AnswerAsync<T>(T value, JsonTypeInfo<T> type) => AnswerAsync(value, type, Current.Revision, StatusCodes.Status200OK);

    private Task AnswerAsync<T>(T value, JsonTypeInfo<T> type, long revision, int status)
    {
        Context.Response.Headers[Protocol.RevisionHeader] = revision.ToString(CultureInfo.InvariantCulture);
        return WriteAsync(Context.Response, value, type, status);
    }

    public static Task WriteAsync<T>(HttpResponse response, T value, JsonTypeInfo<T> type, int status)
    {
        response.StatusCode = status;
        response.ContentType = "application/json";
        var json = JsonSerializer.SerializeToUtf8Bytes(value, type);
        response.ContentLength = json.Length;
        return response.Body.WriteAsync(json).AsTask();
    }

    /// <exception cref="RegistryException">400: the peer is too old or too new.</exception>
    public static void CheckProtocol(HttpRequest request)
    {
        if (request.Headers[Protocol.Header] is not [{ } text, ..])
            return;
        if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var version))
            throw Refuse.Invalid("protocol-version", Protocol.Header, text, "it is not a number", $"send {Protocol.Version}");
        if (!Protocol.Understands(version))
            throw ProtocolRefusal.Of(version);
    }
}
