using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Consul;
using OverlayNet.Daemon.Diagnosis;
using OverlayNet.Daemon.Managers;
using OverlayNet.Daemon.Metrics;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Registry.Store.Etcd;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.Daemon.Security;
using OverlayNet.Daemon.Tracing;

namespace OverlayNet.Daemon.Hosting;

/// <summary>
/// The daemon's life: a socket that always answers; once the node is a member, its agent; on a manager, the registry
/// and the listener for other nodes.
/// </summary>
internal sealed partial class NodeDaemon(DaemonOptions options, TimeProvider time, ILoggerFactory loggers) : IAsyncDisposable
{
    private static readonly TimeSpan LongestRound = TimeSpan.FromSeconds(90);
    private static readonly TimeSpan ManagerPatience = TimeSpan.FromSeconds(45);
    private readonly ILogger _logger = loggers.CreateLogger<NodeDaemon>();
    private readonly SemaphoreSlim _membershipGate = new(1, 1);
    private readonly List<PluginServer> _dockerPlugins = [];
    private string? _dockerPluginError;
    private StateLock? _lock;
    private WebApplication? _local;
    private EventLog? _events;
    private readonly Liveness _liveness = new(time, LongestRound);
    private readonly MetricsPage _metrics = new(time);
    private IDisposable? _tracing;
    private WebApplication? _readable, _consul;
    private Member? _member;

    /// <summary>False: the daemon hangs and should be started anew.</summary>
    public bool Alive => _liveness.Alive;

    /// <summary>What this node is, in a few words.</summary>
    public string Summary => _member is { } member ? $"node {member.Agent.Membership.NodeName}" : "not a member of a cluster yet";

    /// <summary>Starts what the state directory says this node is.</summary>
    /// <exception cref="StateLockedException">Another daemon works on the state.</exception>
    public async Task Start()
    {
        Directory.CreateDirectory(options.State, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        _lock = StateLock.Acquire(options.State);
        _tracing = TraceExport.Start(options.OtlpEndpoint, options.NodeName);
        ThrowIfSocketAnswers();
        if (NodeIdentity.Load(options.State) is { } identity)
            await StartMember(identity, null).ConfigureAwait(false);
        Directory.CreateDirectory(Path.GetDirectoryName(options.Socket)!);
        _local = WebHost.Build(loggers, kestrel => kestrel.ListenLocal(options.Socket));
        LocalApi.Map(_local, this, () => _member ?? throw NotMember(), _logger);
        await ServeDocker(_local.Lifetime).ConfigureAwait(false);
        await _local.StartAsync().ConfigureAwait(false);
        _readable = await Serve(options.MetricsListen, "metrics.listen", app => ReadableRoutes.Map(app, this)).ConfigureAwait(false);
        _consul = await Serve(options.ConsulListen, "consul.listen", new ConsulApi(this, time, loggers.CreateLogger<ConsulApi>()).Map).ConfigureAwait(false);
        Log.Ready(_logger, options.Socket, Summary);
    }

    /// <summary>The page of <c>/metrics</c>.</summary>
    public string Metrics() => _metrics.Write(_member);

    /// <summary>The newest registry this node knows; null: it has never had one, which is not the same as an empty one.</summary>
    public Snapshot? Known => _member is { } member && (member.Registry is not null || member.Agent.Follower.Synced) ? member.Services.Current : null;

    /// <exception cref="RegistryException">409: this node is not a member.</exception>
    public NodeAgent RequireAgent() => _member?.Agent ?? throw NotMember();

    /// <summary>For requests to managers by name; 409 when this node is no member.</summary>
    public HttpClient PeerHttp => (_member ?? throw NotMember()).Http;

    /// <summary>For requests to any other node; 409 when this node is no member.</summary>
    public HttpClient NodeHttp => (_member ?? throw NotMember()).NodeHttp;

    public StatusReport Status() => _member is { } member
        ? StatusBuilder.Build(member.Agent, member.Registry?.NodeLags(), member.Docker?.Status(_dockerPluginError))
        : new StatusReport { Daemon = "running", Pid = Environment.ProcessId, Version = Protocol.Release };

    public DoctorReport Doctor() => new Doctor(RequireAgent(), _member?.Docker, _dockerPluginError).Examine();

    /// <summary>Makes this node the first of a new cluster.</summary>
    public async Task Init(InitRequest request, CancellationToken cancellation)
    {
        await _membershipGate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            ThrowIfMember();
            IRegistryStore store = ExternalStore.IsUsed(options)
                ? await CreateExternal(cancellation).ConfigureAwait(false)
                : SqliteStore.Open(SqliteOptions());
            NodeIdentity identity;
            try
            {
                identity = await ClusterInit.RunAsync(store, options.State, request with
                {
                    Address = request.Address ?? options.NodeAddress ?? HostFacts.DefaultAddress(),
                    Dc = request.Dc ?? options.Dc,
                    ClusterDomain = request.ClusterDomain ?? options.ClusterDomain,
                }, options.NodeName, null, time, cancellation, options.CertificateLife).ConfigureAwait(false);
            }
            catch
            {
                await store.DisposeAsync().ConfigureAwait(false);
                throw;
            }
            if (store is SqliteStore embedded)
            {
                await StartMember(identity, embedded).ConfigureAwait(false);
                return;
            }
            await store.DisposeAsync().ConfigureAwait(false);
            await StartMember(identity, null).ConfigureAwait(false);
            await _member!.Manager!.Ready.WaitAsync(ManagerPatience, time, cancellation).ConfigureAwait(false);
        }
        finally
        {
            _membershipGate.Release();
        }
    }

    private async Task<EtcdStore> CreateExternal(CancellationToken cancellation)
    {
        try
        {
            return await ExternalStore.CreateAsync(options, loggers.CreateLogger<EtcdStore>(), time, cancellation).ConfigureAwait(false);
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    /// <summary>Joins a cluster through one of its managers.</summary>
    public async Task Join(JoinClusterRequest request, CancellationToken cancellation)
    {
        await _membershipGate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            ThrowIfMember();
            var identity = await JoinClient.JoinAsync(options.State, request.Token, request.Host, new JoinDetails
            {
                NodeName = request.NodeName ?? options.NodeName,
                Address = request.Address ?? options.NodeAddress,
                ApiPort = options.ApiPort,
                Dc = options.Dc,
            }, cancellation).ConfigureAwait(false);
            await StartMember(identity, null).ConfigureAwait(false);
            if (_member?.Manager is { } manager)
                await manager.Ready.WaitAsync(ManagerPatience, time, cancellation).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw Refuse.Unavailable($"the node has joined as a manager, but its store is not open yet: {_member?.Manager?.Store.Trouble}");
        }
        finally
        {
            _membershipGate.Release();
        }
    }

    /// <summary>The manager of this node.</summary>
    /// <exception cref="RegistryException">409: it is none.</exception>
    public ManagerPart RequireManager() => _member is not { } member ? throw NotMember()
        : member.Manager ?? throw Refuse.Conflict("not-a-manager", "node", member.Agent.Membership.NodeName, "it is a worker", "run the command on a manager; see 'overlaynet node ls'");

    /// <summary>Puts a backup in the place of this manager's registry, or makes this machine, a member of nothing, the first manager of the cluster in the backup.</summary>
    public async Task<StepsReport> Restore(RestoreRequest request, CancellationToken cancellation)
    {
        if (_member is not null)
            return await RequireManager().RestoreAsync(request, cancellation).ConfigureAwait(false);
        await _membershipGate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            ThrowIfMember();
            var restored = await FirstRestore.RunAsync(options, request, SqliteOptions(), time, cancellation).ConfigureAwait(false);
            await StartMember(restored.Identity, restored.Store).ConfigureAwait(false);
            await _member!.Registry!.RegisterNodeAsync(restored.Node, "restore", cancellation).ConfigureAwait(false);
            return new StepsReport { Steps = restored.Steps, Incarnation = restored.Store.Identity.Incarnation, Revision = _member.Registry.Current.Revision };
        }
        finally
        {
            _membershipGate.Release();
        }
    }

    /// <summary>Ends the membership and takes everything of it out of the kernel and off the disk.</summary>
    public async Task Leave(bool force, CancellationToken cancellation)
    {
        await _membershipGate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            var member = _member ?? throw NotMember();
            var nodeId = member.Agent.Membership.NodeId;
            var others = member.Agent.Follower.Current.Nodes.Values.Where(node => node.Id != nodeId).ToList();
            var isLast = member.Manager is not null && others.All(node => node.Role != NodeRole.Manager);
            if (isLast && others.Count > 0 && !force)
                throw Refuse.Conflict("last-manager", "node", member.Agent.Membership.NodeName, "it is the only manager, and other nodes depend on its registry", "let the other nodes leave first, or say --force to destroy the registry");
            if (!isLast)
                await RemoveFromRegistry(member.Agent, nodeId, force, cancellation).ConfigureAwait(false);
            await member.RemoveManager().ConfigureAwait(false);
            await member.Agent.Remove().ConfigureAwait(false);
            await member.DisposeAsync().ConfigureAwait(false);
            _member = null;
            _liveness.Rest();
            _events?.Dispose();
            _events = null;
            NodeIdentity.Delete(options.State);
            File.Delete(Path.Combine(options.State, "snapshot.json"));
            Log.Left(_logger, nodeId);
        }
        finally
        {
            _membershipGate.Release();
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var plugin in _dockerPlugins)
            await plugin.DisposeAsync().ConfigureAwait(false);
        await Close(_readable).ConfigureAwait(false);
        await Close(_consul).ConfigureAwait(false);
        // Before the sockets close: on a manager the agent reaches the registry by the local one.
        _member?.Agent.ReleaseVips();
        if (_local is not null)
            await _local.StopAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
        if (_member is not null)
            await _member.DisposeAsync().ConfigureAwait(false);
        _events?.Dispose();
        if (_local is not null)
        {
            await _local.DisposeAsync().ConfigureAwait(false);
            // Only our own: one that was refused the state must not take the socket from the daemon that has it.
            File.Delete(options.Socket);
        }
        _lock?.Dispose();
        _membershipGate.Dispose();
        _metrics.Dispose();
        _tracing?.Dispose();
    }

    /// <summary>A listener that an operator asked for. The node's work does not end when its address is taken: the log says so.</summary>
    /// <param name="address">Null: none.</param>
    private async Task<WebApplication?> Serve(System.Net.IPEndPoint? address, string key, Action<IEndpointRouteBuilder> map)
    {
        if (address is null)
            return null;
        var app = WebHost.Build(loggers, kestrel => kestrel.Listen(address));
        try
        {
            map(app);
            await app.StartAsync().ConfigureAwait(false);
            Log.Serving(_logger, key, address);
            return app;
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            Log.NotServed(_logger, key, address, e.Message);
            await app.DisposeAsync().ConfigureAwait(false);
            return null;
        }
    }

    private static async Task Close(WebApplication? app)
    {
        if (app is null)
            return;
        await app.StopAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
        await app.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>The daemon goes on without Docker when its socket cannot be served: status and doctor say so.</summary>
    private async Task ServeDocker(IHostApplicationLifetime lifetime)
    {
        if (options.DockerPluginSocket is not { } local)
            return;
        // Swarm mode takes global drivers from managed plugins only; tools/docker-plugin makes one that leads to this socket.
        var swarm = Path.Combine(Path.GetDirectoryName(options.Socket)!, "docker-swarm.sock");
        // The registry of a manager is asked through the API's socket, which comes last.
        var ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lifetime.ApplicationStarted.Register(ready.SetResult);
        foreach (var (path, scope) in new[] { (local, PluginScope.Local), (swarm, PluginScope.Global) })
        {
            try
            {
                _dockerPlugins.Add(await PluginServer.Start(path, scope, ready.Task, () => (_member ?? throw NotMember()).Docker!, loggers).ConfigureAwait(false));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or SocketException)
            {
                _dockerPluginError = e.Message;
                Log.DockerNotServed(_logger, path, e.Message);
            }
        }
    }

    private static async Task RemoveFromRegistry(NodeAgent agent, string nodeId, bool force, CancellationToken cancellation)
    {
        try
        {
            using var response = await agent.Registry.Forward(() => new HttpRequestMessage(HttpMethod.Delete, $"/v1/nodes/{nodeId}?force=true"), cancellation).ConfigureAwait(false);
            if (!response.IsSuccessStatusCode && !force)
                throw Refuse.Conflict("leave-refused", "node", nodeId, $"the manager answered {(int)response.StatusCode}", "say --force to leave without it, and remove the node on a manager");
        }
        catch (RegistryException) when (force)
        {
            // Said so: the record stays until 'overlaynet node rm'.
        }
    }

    private async Task StartMember(NodeIdentity identity, SqliteStore? store)
    {
        var membership = identity.Membership;
        _events ??= EventLog.Open(options.State, membership.NodeName, time);
        _member = await Member.Start(options, identity, store, _events, time, loggers).ConfigureAwait(false);
        _liveness.Follow(_member.Agent.Reconciler);
        _events.Append("daemon", "start", membership.NodeName, $"version {Protocol.Release}, pid {Environment.ProcessId}");
    }

    private SqliteStoreOptions SqliteOptions() => new()
    {
        Path = Path.Combine(options.State, ManagerStore.DatabaseFile),
        Time = time,
        Logger = loggers.CreateLogger<SqliteStore>(),
    };

    /// <summary>A socket file may be left over, or belong to a living daemon with another state directory: only asking tells.</summary>
    private void ThrowIfSocketAnswers()
    {
        using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            probe.Connect(new UnixDomainSocketEndPoint(options.Socket));
        }
        catch (SocketException)
        {
            return;
        }
        throw new IOException($"socket {options.Socket} is served by another daemon; stop it first, or give this daemon a socket of its own (--socket)");
    }

    private void ThrowIfMember()
    {
        if (_member is { } member)
            throw Refuse.Conflict("already-member", "node", member.Agent.Membership.NodeName, $"it is a member of cluster {member.Agent.Membership.ClusterId} already", "leave it first: overlaynet leave");
    }

    private static RegistryException NotMember() => Refuse.Conflict("not-a-member", "node", null, "this node is not a member of a cluster yet", "start one with 'overlaynet init', or join one with 'overlaynet join --token T HOST'");

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "ready on {Socket}: {What}")]
        public static partial void Ready(ILogger logger, string socket, string what);

        [LoggerMessage(3, LogLevel.Error, "docker: plugin socket {Path} is not served: {Reason}")]
        public static partial void DockerNotServed(ILogger logger, string path, string reason);

        [LoggerMessage(4, LogLevel.Information, "{Key}: serving on {Address}")]
        public static partial void Serving(ILogger logger, string key, System.Net.IPEndPoint address);

        [LoggerMessage(5, LogLevel.Error, "{Key}: {Address} is not served: {Reason}; free the address or set another, and restart the daemon")]
        public static partial void NotServed(ILogger logger, string key, System.Net.IPEndPoint address, string reason);

        [LoggerMessage(2, LogLevel.Information, "node {NodeId}: left the cluster")]
        public static partial void Left(ILogger logger, string nodeId);
    }
}
