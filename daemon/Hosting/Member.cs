using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Managers;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Hosting;

/// <summary>What runs while this node is a member: everywhere the agent; on a manager the registry and the listener for other nodes, which come and go with its role.</summary>
internal sealed partial class Member : IAsyncDisposable
{
    private static readonly TimeSpan RoleRetry = TimeSpan.FromSeconds(1);
    private readonly DaemonOptions _options;
    private readonly IdentityHolder _identity;
    private readonly EventLog _events;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly HttpClient _http;
    private readonly ManagerApiServices _copy;
    private readonly CancellationTokenSource _stop = new();
    private WebApplication? _remote;
    private ManagerPart? _manager;
    private Task _followRole = Task.CompletedTask;

    private Member(DaemonOptions options, NodeIdentity identity, EventLog events, TimeProvider time, ILoggerFactory loggers)
    {
        _options = options;
        _identity = new IdentityHolder(identity);
        _events = events;
        _time = time;
        _loggers = loggers;
        _http = new HttpClient(ClusterTls.CreateHandler(() => _identity.Current)) { Timeout = Timeout.InfiniteTimeSpan };
        var selector = new ManagerSelector(Managers, identity.Membership.NodeId, Own, time);
        Agent = new NodeAgent(options, identity.Membership, new RegistryClient(_http, selector, time), events, time, loggers, identity);
        _copy = new ManagerApiServices(null, null, null)
        {
            ReadFrom = () => Agent.Follower.Current,
            CopyIsStale = () => Agent.Follower.Stale || !(Agent.Follower.SinceContact < TimeSpan.FromSeconds(5)),
            Flows = Agent.Plane.ReadFlows,
            HealthViews = Agent.Health,
            Starting = () => _manager?.Store.Trouble is { Length: > 0 } trouble ? trouble : "its store is being opened",
            Time = time,
            Logger = loggers.CreateLogger<ManagerApiServices>(),
        };
    }

    /// <summary>Null on a worker, and on a manager whose store is not open.</summary>
    public ClusterRegistry? Registry => _manager?.Registry;

    /// <summary>Null on a worker.</summary>
    public ManagerPart? Manager => _manager;

    /// <summary>What the registry's routes work on: the registry itself, or the agent's copy.</summary>
    public ManagerApiServices Services => _manager is null ? _copy with { Starting = null } : _manager.Services ?? _copy;

    public NodeAgent Agent { get; }

    /// <summary>Null when Docker is not served.</summary>
    public DockerRuntime? Docker { get; private set; }

    /// <param name="store">An SQLite store that is open already.</param>
    public static async Task<Member> Start(
        DaemonOptions options, NodeIdentity identity, SqliteStore? store, EventLog events, TimeProvider time, ILoggerFactory loggers)
    {
        var member = new Member(options, identity, events, time, loggers);
        try
        {
            if (identity.Membership.Role == NodeRole.Manager)
                await member.StartManager(store).ConfigureAwait(false);
            member.Agent.Start();
            member.Docker = options.DockerPluginSocket is null ? null : DockerRuntime.Start(options, member.Agent, time, loggers);
            member._followRole = Task.Run(member.FollowRole);
            return member;
        }
        catch
        {
            await member.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>This node's own part of the store ends; the others go on without it.</summary>
    public async Task RemoveManager()
    {
        if (Interlocked.Exchange(ref _manager, null) is { } manager)
            await manager.RemoveAsync().ConfigureAwait(false);
        await StopListener().ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _followRole.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (Docker is not null)
            await Docker.DisposeAsync().ConfigureAwait(false);
        await Agent.DisposeAsync().ConfigureAwait(false);
        _http.Dispose();
        await StopListener().ConfigureAwait(false);
        if (_manager is not null)
            await _manager.DisposeAsync().ConfigureAwait(false);
        _identity.Dispose();
        _stop.Dispose();
    }

    private Uri? Own() => _manager?.Registry is null ? null : new HostPort(_identity.Current.Membership.Address.ToString(), _options.ApiPort).ToUri();

    /// <summary>The managers as the newest known registry says; at the beginning those of the join.</summary>
    private IReadOnlyList<Uri> Managers()
    {
        var known = Agent.Follower.Current.Nodes.Values.Where(node => node.Role == NodeRole.Manager)
            .Select(node => new HostPort(node.Address.ToString(), node.ApiPort).ToUri()).ToList();
        return known.Count > 0 ? known : [.. _identity.Current.Membership.Managers.Select(manager => HostPort.Parse(manager)!.ToUri())];
    }

    private async Task StartManager(SqliteStore? store)
    {
        var manager = new ManagerPart(_options, _identity, Agent, _events, _time, _loggers);
        _manager = manager;
        await manager.StartAsync(store).ConfigureAwait(false);
        _remote = WebHost.Build(_loggers, kestrel => kestrel.Listen(
            _identity.Current.Membership.Address, _options.ApiPort, listen => listen.UseHttps(https => ClusterTls.ConfigureServer(https, _identity))));
        ManagerApi.Map(_remote, () => Services);
        await _remote.StartAsync().ConfigureAwait(false);
    }

    private async Task StopListener()
    {
        if (Interlocked.Exchange(ref _remote, null) is not { } remote)
            return;
        await remote.StopAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
        await remote.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>The registry decides what this node is: promoted, it gets a certificate and a place in the store; demoted, it gives both up.</summary>
    private async Task FollowRole()
    {
        while (!_stop.IsCancellationRequested)
        {
            var changed = Agent.Follower.Changed;
            try
            {
                var membership = _identity.Current.Membership;
                // What an earlier run had on disk may be from before the last change of the role.
                if (Agent.Follower.SinceContact is not null && !Agent.Follower.Stale && Agent.Follower.Current.Nodes.TryGetValue(membership.NodeId, out var self) && self.Role != membership.Role)
                    await TakeRole(self.Role).ConfigureAwait(false);
                await changed.WaitAsync(_stop.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is RegistryException or IOException or HttpRequestException or CryptographicException)
            {
                Log.RoleNotTaken(_loggers.CreateLogger<Member>(), e.Message);
                await Task.Delay(RoleRetry, _time, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task TakeRole(NodeRole role)
    {
        var membership = _identity.Current.Membership;
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var answer = await Agent.Registry.Certificate(membership.NodeId, NodeKeys.CreateRequest(key, membership.NodeName), _stop.Token).ConfigureAwait(false);
        if (answer.Role != role)
            return;
        if (role == NodeRole.Worker)
            await RemoveManager().ConfigureAwait(false);
        _identity.Replace(NodeIdentity.Replace(_options.State, membership with { Role = role }, answer.Certificate, key));
        Agent.Membership = _identity.Current.Membership;
        Log.Role(_loggers.CreateLogger<Member>(), role);
        _events.Append("node", role == NodeRole.Manager ? "promote" : "demote", membership.NodeName, "its daemon follows");
        if (role == NodeRole.Manager)
            await StartManager(null).ConfigureAwait(false);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "this node is a {Role} now")]
        public static partial void Role(ILogger logger, NodeRole role);

        [LoggerMessage(2, LogLevel.Warning, "the node's new role is not taken yet: {Reason}")]
        public static partial void RoleNotTaken(ILogger logger, string reason);
    }
}
