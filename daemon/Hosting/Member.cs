using System.Net.Sockets;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.Daemon.Security;
using OverlayNet.Vip.Ingress;

namespace OverlayNet.Daemon.Hosting;

/// <summary>What runs while this node is a member: on a manager the registry and its listener, everywhere the agent.</summary>
internal sealed class Member : IAsyncDisposable
{
    private readonly NodeIdentity _identity;
    private readonly SqliteStore? _store;
    private readonly HttpClient _http;
    private readonly WebApplication? _remote;

    private Member(NodeIdentity identity, SqliteStore? store, ClusterRegistry? registry, ManagerApiServices services, HttpClient http, WebApplication? remote, NodeAgent agent, DockerRuntime? docker)
    {
        _identity = identity;
        _store = store;
        _http = http;
        _remote = remote;
        Registry = registry;
        Services = services;
        Agent = agent;
        Docker = docker;
    }

    /// <summary>Null on a worker.</summary>
    public ClusterRegistry? Registry { get; }

    /// <summary>What the registry's routes work on: the registry itself, or on a worker the agent's copy.</summary>
    public ManagerApiServices Services { get; }
    public NodeAgent Agent { get; }

    /// <summary>Null when Docker is not served.</summary>
    public DockerRuntime? Docker { get; }

    public static async Task<Member> Start(
        DaemonOptions options, NodeIdentity identity, SqliteStore? store, EventLog events, TimeProvider time, ILoggerFactory loggers)
    {
        var http = store is null ? new HttpClient(ClusterTls.CreateHandler(identity)) : new HttpClient(ToSocket(options.Socket));
        http.Timeout = Timeout.InfiniteTimeSpan;
        var managers = store is null
            ? identity.Membership.Managers.Select(manager => HostPort.Parse(manager)!.ToUri()).ToList()
            : [new Uri("http://localhost/")];
        // Before the registry: after a restart clients wait for the DNS that comes with it.
        var agent = new NodeAgent(options, identity.Membership, new RegistryClient(http, managers, time), events, time, loggers, identity);
        try
        {
            var (registry, services, remote) = store is null
                ? (null, new ManagerApiServices(null, null, null) { ReadFrom = () => agent.Follower.Current, HealthViews = agent.Health, Time = time, Logger = loggers.CreateLogger<ManagerApiServices>() }, null)
                : await StartManager(options, identity, store, events, time, loggers).ConfigureAwait(false);
            agent.Start();
            var docker = options.DockerPluginSocket is null ? null : DockerRuntime.Start(options, agent, time, loggers);
            return new Member(identity, store, registry, services with { Flows = agent.Plane.ReadFlows }, http, remote, agent, docker);
        }
        catch
        {
            await agent.DisposeAsync().ConfigureAwait(false);
            http.Dispose();
            throw;
        }
    }

    private static async Task<(ClusterRegistry? Registry, ManagerApiServices Services, WebApplication? Remote)> StartManager(
        DaemonOptions options, NodeIdentity identity, SqliteStore store, EventLog events, TimeProvider time, ILoggerFactory loggers)
    {
        var registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions
        {
            Time = time,
            Logger = loggers.CreateLogger<ClusterRegistry>(),
            Events = events,
            NodeTimeout = options.UnmanagedAfter,
        }).ConfigureAwait(false);
        var secrets = new ClusterSecrets(store, time);
        var logger = loggers.CreateLogger<ManagerApiServices>();
        var desk = new HealthDesk(registry, new HealthDeskOptions(), events, time, loggers.CreateLogger<HealthDesk>());
        desk.Start();
        var services = new ManagerApiServices(registry, secrets, new JoinService(registry, secrets, events, logger))
        {
            Desk = desk,
            HealthViews = desk,
            Time = time,
            Logger = logger,
            PortHolder = (protocol, port) => PortHolder.Find(protocol, port, beyondLoopback: true),
        };
        var remote = WebHost.Build(loggers, kestrel => kestrel.Listen(
            identity.Membership.Address, options.ApiPort, listen => listen.UseHttps(https => ClusterTls.ConfigureServer(https, identity))));
        ManagerApi.Map(remote, services);
        await remote.StartAsync().ConfigureAwait(false);
        return (registry, services, remote);
    }

    public async ValueTask DisposeAsync()
    {
        if (Docker is not null)
            await Docker.DisposeAsync().ConfigureAwait(false);
        await Agent.DisposeAsync().ConfigureAwait(false);
        _http.Dispose();
        if (_remote is not null)
        {
            await _remote.StopAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
            await _remote.DisposeAsync().ConfigureAwait(false);
        }
        if (Services.Desk is { } desk)
            await desk.DisposeAsync().ConfigureAwait(false);
        if (Registry is not null)
            await Registry.DisposeAsync().ConfigureAwait(false);
        if (_store is not null)
            await _store.DisposeAsync().ConfigureAwait(false);
        _identity.Dispose();
    }

    /// <summary>A manager's own agent asks the registry as every other does, only by the unix socket.</summary>
    private static SocketsHttpHandler ToSocket(string path) => new()
    {
        ConnectCallback = async (_, cancellation) =>
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation).ConfigureAwait(false);
                return new NetworkStream(socket, ownsSocket: true);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        },
    };
}
