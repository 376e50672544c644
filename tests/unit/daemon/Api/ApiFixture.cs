using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Security;

namespace OverlayNet.UnitTests.Daemon.Api;

/// <summary>A manager's API as a daemon serves it: on a unix socket, and over TLS on a port of the loopback.</summary>
public sealed class ApiFixture : IAsyncDisposable
{
    private ApiFixture(
        TempDirectory directory, SqliteStore store, ClusterRegistry registry, NodeIdentity identity, EventLog events, WebApplication app)
    {
        (Directory, Store, Registry, Identity, Events, App) = (directory, store, registry, identity, events, app);
        Local = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancel) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), cancel);
                return new NetworkStream(socket, ownsSocket: true);
            },
        })
        {
            BaseAddress = new Uri("http://localhost"),
        };
    }

    public TempDirectory Directory { get; }
    public SqliteStore Store { get; }
    public ClusterRegistry Registry { get; }
    public NodeIdentity Identity { get; }
    public EventLog Events { get; }
    public WebApplication App { get; }

    /// <summary>Why certificates were not taken.</summary>
    public System.Collections.Concurrent.ConcurrentQueue<string> RefusedCertificates { get; init; } = new();

    /// <summary>A client on the unix socket.</summary>
    public HttpClient Local { get; }
    public string SocketPath => Directory.File("api.sock");
    public Uri Tls => new(App.Urls.Single(u => u.StartsWith("https", StringComparison.Ordinal)));
    public string Host => $"127.0.0.1:{Tls.Port}";

    public static async Task<ApiFixture> StartAsync(int feedRevisions = 4096)
    {
        var directory = new TempDirectory();
        var store = SqliteStore.Open(new SqliteStoreOptions { Path = directory.File("registry.db") });
        var identity = await ClusterInit.RunAsync(
            store, directory.Path, new InitRequest { Address = IPAddress.Parse("192.0.2.1") }, "manager");
        var events = EventLog.Open(directory.Path, "manager");
        var registry = await ClusterRegistry.StartAsync(
            store, new ClusterRegistryOptions { Events = events, FeedRevisions = feedRevisions });
        var secrets = new ClusterSecrets(store, TimeProvider.System);
        var refused = new System.Collections.Concurrent.ConcurrentQueue<string>();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Services.Configure<SocketTransportOptions>(LocalSocket.Configure);
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(options =>
        {
            // A test holds a watcher still for as long as its writes take; what is tested is not when Kestrel gives it up.
            options.Limits.MinResponseDataRate = null;
            options.ListenLocal(directory.File("api.sock"));
            options.Listen(IPAddress.Loopback, 0, listen => listen.UseHttps(ClusterTls.CreateServer(new IdentityHolder(identity), (_, why) => refused.Enqueue(why))));
        });
        var app = builder.Build();
        ManagerApi.Map(app, new ManagerApiServices(registry, secrets, new JoinService(registry, secrets, events)));
        await app.StartAsync();
        return new ApiFixture(directory, store, registry, identity, events, app) { RefusedCertificates = refused };
    }

    /// <summary>A client over TLS with a node's certificate; null: without one.</summary>
    public HttpClient Node(NodeIdentity? identity) => new(
        identity is null ? ClusterTls.CreateHandler(Identity.Authorities[0]) : ClusterTls.CreateHandler(identity))
    { BaseAddress = Tls };

    public async Task<NodeIdentity> JoinAsync(string name, byte address, string? token = null)
    {
        token ??= (await new ClusterSecrets(Store, TimeProvider.System).TokensAsync()).Worker;
        var state = System.IO.Directory.CreateDirectory(Directory.File(name)).FullName;
        return await JoinClient.JoinAsync(state, token, Host, new JoinDetails
        {
            NodeName = name,
            Address = new IPAddress([192, 0, 2, address]),
        });
    }

    public static async Task<(HttpStatusCode Status, T? Value, ErrorBody? Error)> SendAsync<T>(
        HttpClient http, HttpMethod method, string path, string? body, JsonTypeInfo<T> type)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
            request.Content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await http.SendAsync(request);
        var text = await response.Content.ReadAsByteArrayAsync();
        Assert.Equal("1", Assert.Single(response.Headers.GetValues(Protocol.Header)));
        return response.IsSuccessStatusCode
            ? (response.StatusCode, JsonSerializer.Deserialize(text, type), null)
            : (response.StatusCode, default, JsonSerializer.Deserialize(text, OverlayNetJson.Default.ErrorBody));
    }

    public async ValueTask DisposeAsync()
    {
        Local.Dispose();
        await App.StopAsync();
        await App.DisposeAsync();
        await Registry.DisposeAsync();
        await Store.DisposeAsync();
        Identity.Dispose();
        Events.Dispose();
        Directory.Dispose();
    }
}
