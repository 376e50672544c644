using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>Who keeps a network in Docker's view: one Docker, or swarm mode for all of its nodes.</summary>
internal enum PluginScope
{
    Local,
    Global,
}

/// <summary>
/// Serves Docker's plugin protocol (moby: pkg/plugins) on a unix socket: POST /Subject.Method with a JSON body and an answer
/// in JSON; an error is a 500 with <c>{"Err": "..."}</c>. Docker 20.10 sends an empty Host header and no Content-Type.
/// </summary>
internal sealed partial class PluginServer : IAsyncDisposable
{
    private const int MaxBody = 1 << 20;
    private static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(1);
    private readonly string _path;
    private readonly Func<DockerRuntime> _runtime;
    private readonly PluginScope _scope;
    private readonly Task _ready;
    private readonly ILogger _logger;
    private readonly WebApplication _app;

    private PluginServer(string path, PluginScope scope, Task ready, Func<DockerRuntime> runtime, ILoggerFactory loggers)
    {
        _ready = ready;
        _path = path;
        _scope = scope;
        _runtime = runtime;
        _logger = loggers.CreateLogger<PluginServer>();
        _app = WebHost.Build(loggers, kestrel =>
        {
            kestrel.ListenUnixSocket(path);
            kestrel.Limits.MaxRequestBodySize = MaxBody;
        });
        _app.Run(Handle);
    }

    /// <param name="ready">Requests wait for it.</param>
    /// <param name="runtime">What answers for the cluster; throws a refusal while the node is in none.</param>
    /// <exception cref="IOException">Another daemon serves the socket, or it cannot be made.</exception>
    public static async Task<PluginServer> Start(string path, PluginScope scope, Task ready, Func<DockerRuntime> runtime, ILoggerFactory loggers)
    {
        if (Answers(path))
            throw new IOException($"socket {path} is served by another daemon; give this one a socket of its own (docker.plugin), or say docker.plugin: off");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var server = new PluginServer(path, scope, ready, runtime, loggers);
        await server._app.StartAsync().ConfigureAwait(false);
        return server;
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync(StopPatience).ConfigureAwait(false);
        await _app.DisposeAsync().ConfigureAwait(false);
        File.Delete(_path);
    }

    private static bool Answers(string path)
    {
        using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            probe.Connect(new UnixDomainSocketEndPoint(path));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private async Task Handle(HttpContext context)
    {
        var method = context.Request.Path.Value?.TrimStart('/') ?? "";
        try
        {
            await _ready.WaitAsync(context.RequestAborted).ConfigureAwait(false);
            using var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body, context.RequestAborted).ConfigureAwait(false);
            // What Docker has asked for is finished even when it no longer waits: it asks again, or undoes it, by the same ids.
            var answer = await Dispatch(method, body.ToArray()).ConfigureAwait(false);
            Log.Answered(_logger, method);
            await Write(context, StatusCodes.Status200OK, answer).ConfigureAwait(false);
        }
        catch (RegistryException e)
        {
            Log.Refused(_logger, method, e.Message);
            await Fail(context, e.Error.Remedy is { } remedy ? $"{e.Message} ({remedy})" : e.Message).ConfigureAwait(false);
        }
        catch (JsonException e)
        {
            Log.Refused(_logger, method, e.Message);
            await Fail(context, $"{method}: the body is not what libnetwork sends: {e.Message}").ConfigureAwait(false);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            Log.Failed(_logger, e, method);
            await Fail(context, $"{method}: {e.Message} (see 'overlaynet doctor' and the daemon's log)").ConfigureAwait(false);
        }
    }

    private async Task<byte[]> Dispatch(string method, byte[] body)
    {
        var json = PluginJson.Default;
        switch (method)
        {
            case "Plugin.Activate":
                return Json(new ActivateResponse(_scope == PluginScope.Local ? ["NetworkDriver", "IpamDriver"] : ["NetworkDriver"]), json.ActivateResponse);
            case "NetworkDriver.GetCapabilities":
                return Json(new CapabilitiesResponse(_scope == PluginScope.Local ? "local" : "global", "global"), json.CapabilitiesResponse);
            case "IpamDriver.GetDefaultAddressSpaces":
                return Json(new AddressSpacesResponse(IpamDriver.AddressSpace, IpamDriver.AddressSpace), json.AddressSpacesResponse);
            case "IpamDriver.RequestPool":
                return Json(_runtime().Ipam.RequestPool(Read(body, json.RequestPoolRequest)), json.RequestPoolResponse);
            case "IpamDriver.RequestAddress":
                return Json(await _runtime().Ipam.RequestAddress(Read(body, json.RequestAddressRequest)).ConfigureAwait(false), json.RequestAddressResponse);
            case "IpamDriver.ReleaseAddress":
                await _runtime().Ipam.ReleaseAddress(Read(body, json.ReleaseAddressRequest)).ConfigureAwait(false);
                break;
            case "NetworkDriver.AllocateNetwork":
                return Json(await _runtime().Swarm.AllocateNetwork(Read(body, json.AllocateNetworkRequest)).ConfigureAwait(false), json.AllocateNetworkResponse);
            case "NetworkDriver.FreeNetwork":
                await _runtime().Swarm.FreeNetwork(Read(body, json.NetworkRequest)).ConfigureAwait(false);
                break;
            case "NetworkDriver.CreateNetwork":
                await _runtime().Driver.CreateNetwork(Read(body, json.CreateNetworkRequest), _scope).ConfigureAwait(false);
                break;
            case "NetworkDriver.DeleteNetwork":
                await _runtime().Driver.DeleteNetwork(Read(body, json.NetworkRequest)).ConfigureAwait(false);
                break;
            case "NetworkDriver.CreateEndpoint":
                return Json(await _runtime().Driver.CreateEndpoint(Read(body, json.CreateEndpointRequest)).ConfigureAwait(false), json.CreateEndpointResponse);
            case "NetworkDriver.Join":
                return Json(await _runtime().Driver.Join(Read(body, json.JoinEndpointRequest)).ConfigureAwait(false), json.JoinEndpointResponse);
            case "NetworkDriver.Leave":
                await _runtime().Driver.Leave(Read(body, json.EndpointRequest)).ConfigureAwait(false);
                break;
            case "NetworkDriver.DeleteEndpoint":
                await _runtime().Driver.DeleteEndpoint(Read(body, json.EndpointRequest)).ConfigureAwait(false);
                break;
            case "NetworkDriver.EndpointOperInfo":
                return Json(_runtime().Driver.OperInfo(Read(body, json.EndpointRequest)), json.OperInfoResponse);
            // Nothing to be done: a pool lives as long as its network, ports published by Docker are Docker's, and other
            // nodes are known from the registry.
            case "IpamDriver.GetCapabilities":
            case "IpamDriver.ReleasePool":
            case "NetworkDriver.ProgramExternalConnectivity":
            case "NetworkDriver.RevokeExternalConnectivity":
            case "NetworkDriver.DiscoverNew":
            case "NetworkDriver.DiscoverDelete":
                break;
            default:
                throw Refuse.Invalid("unknown-method", "method", method, "this driver does not have it", "use Docker Engine 20.10 or newer");
        }
        return Json(new EmptyResponse(), json.EmptyResponse);
    }

    private static T Read<T>(byte[] body, JsonTypeInfo<T> type) =>
        JsonSerializer.Deserialize(body, type) ?? throw new JsonException("it is null");

    private static byte[] Json<T>(T answer, JsonTypeInfo<T> type) => JsonSerializer.SerializeToUtf8Bytes(answer, type);

    private static Task Fail(HttpContext context, string message) =>
        Write(context, StatusCodes.Status500InternalServerError, Json(new ErrorResponse(message), PluginJson.Default.ErrorResponse));

    private static async Task Write(HttpContext context, int status, byte[] body)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "application/vnd.docker.plugins.v1.2+json";
        context.Response.ContentLength = body.Length;
        await context.Response.Body.WriteAsync(body, context.RequestAborted).ConfigureAwait(false);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Debug, "docker: {Method}")]
        public static partial void Answered(ILogger logger, string method);

        [LoggerMessage(2, LogLevel.Warning, "docker: {Method} refused: {Reason}")]
        public static partial void Refused(ILogger logger, string method, string reason);

        [LoggerMessage(3, LogLevel.Error, "docker: {Method} failed")]
        public static partial void Failed(ILogger logger, Exception exception, string method);
    }
}
