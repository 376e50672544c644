using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Managers;
using OverlayNet.Daemon.Peers;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Hosting;

/// <summary>What runs while this node is a member: everywhere the agent; the listener for other nodes; on a manager the registry too, which comes and goes with its role.</summary>
internal sealed partial class Member : IAsyncDisposable
{
    private static readonly TimeSpan RoleRetry = TimeSpan.FromSeconds(1), ListenRetry = TimeSpan.FromSeconds(5);
    private readonly DaemonOptions _options;
    private readonly IdentityHolder _identity;
    private readonly EventLog _events;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly HttpClient _http;
    private readonly HttpClient _nodeHttp;
    private readonly CaptureStream _captures;
    private readonly PathAnswers _paths = new();
    private readonly ManagerApiServices _copy;
    private readonly CancellationTokenSource _stop = new();
    private WebApplication? _remote;
    private string? _notListening;
    private ManagerPart? _manager;
    private Task _followRole = Task.CompletedTask;
    private Task _keepIdentity = Task.CompletedTask;
    private readonly SemaphoreSlim _identityGate = new(1, 1);
    private HeartbeatResponse? _told;
    private TaskCompletionSource _toldAnew = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Member(DaemonOptions options, NodeIdentity identity, EventLog events, TimeProvider time, ILoggerFactory loggers)
    {
        _options = options;
        _identity = new IdentityHolder(identity);
        _events = events;
        _time = time;
        _loggers = loggers;
        _http = new HttpClient(ClusterTls.CreateHandler(() => _identity.Current)) { Timeout = Timeout.InfiniteTimeSpan };
        _nodeHttp = new HttpClient(ClusterTls.CreatePeerHandler(_identity)) { Timeout = Timeout.InfiniteTimeSpan };
        _captures = new CaptureStream(options.Socket, options.State);
        var selector = new ManagerSelector(Managers, identity.Membership.NodeId, Own, time);
        Agent = new NodeAgent(options, identity.Membership, new RegistryClient(_http, selector, time), events, time, loggers, _identity);
        Agent.Follower.Twin = () => Registry?.Current;
        Agent.Trust = () => new NodeTrust(TrustInEffect, _identity.Current.Issuer);
        Agent.Heartbeat.Answered += answer =>
        {
            var before = Interlocked.Exchange(ref _told, answer);
            if (before?.Trust != answer.Trust || before?.Issuer != answer.Issuer)
                Interlocked.Exchange(ref _toldAnew, new(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
        };
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

    /// <summary>To managers, with this node's certificate of the moment.</summary>
    public HttpClient Http => _http;

    /// <summary>To any other node, with this node's certificate of the moment.</summary>
    public HttpClient NodeHttp => _nodeHttp;

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
            else
                await member.StartWorker().ConfigureAwait(false);
            member.Agent.Start();
            member.Docker = options.DockerPluginSocket is null ? null : DockerRuntime.Start(options, member.Agent, time, loggers);
            member._followRole = Task.Run(member.FollowRole);
            member._keepIdentity = Task.Run(member.KeepIdentity);
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
        await _keepIdentity.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (Docker is not null)
            await Docker.DisposeAsync().ConfigureAwait(false);
        await Agent.DisposeAsync().ConfigureAwait(false);
        _http.Dispose();
        _nodeHttp.Dispose();
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
            .Select(node => HostPort.Of(node).ToUri()).ToList();
        return known.Count > 0 ? known : [.. _identity.Current.Membership.Managers.Select(manager => HostPort.Parse(manager)!.ToUri())];
    }

    private async Task StartManager(SqliteStore? store)
    {
        var manager = new ManagerPart(_options, _identity, Agent, _events, _time, _loggers);
        _manager = manager;
        await manager.StartAsync(store).ConfigureAwait(false);
        await Listen(remote => ManagerApi.Map(remote, () => Services)).ConfigureAwait(false);
    }

    /// <summary>A worker answers other nodes about itself only; one that cannot is a worker all the same, and tries again (<see cref="FollowRole"/>).</summary>
    private async Task StartWorker()
    {
        try
        {
            await Listen(_ => { }).ConfigureAwait(false);
            if (_notListening is not null)
                Log.Listening(_loggers.CreateLogger<Member>(), _identity.Current.Membership.Address, _options.ApiPort);
            _notListening = null;
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            if (_notListening != e.Message)
                Log.NotListening(_loggers.CreateLogger<Member>(), _identity.Current.Membership.Address, _options.ApiPort, e.Message);
            _notListening = e.Message;
            await StopListener().ConfigureAwait(false);
        }
    }

    private async Task Listen(Action<WebApplication> map)
    {
        _remote = WebHost.Build(_loggers, kestrel => kestrel.Listen(
            _identity.Current.Membership.Address, _options.ApiPort, listen => listen.UseHttps(ClusterTls.CreateServer(_identity, RefusedCertificate))));
        map(_remote);
        PeerRoutes.Map(_remote, () => Services with { Starting = null }, Agent, _captures, _paths);
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
                else if (_remote is null && membership.Role == NodeRole.Worker)
                    await StartWorker().ConfigureAwait(false);
                if (_remote is not null)
                    await changed.WaitAsync(_stop.Token).ConfigureAwait(false);
                else
                    await Task.WhenAny(changed, Task.Delay(ListenRetry, _time, _stop.Token)).ConfigureAwait(false);
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
        await _identityGate.WaitAsync(_stop.Token).ConfigureAwait(false);
        try
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var answer = await Agent.Registry.Certificate(membership.NodeId, NodeKeys.CreateRequest(key, membership.NodeName), _stop.Token).ConfigureAwait(false);
            if (answer.Role != role)
                return;
            if (role == NodeRole.Worker)
                await RemoveManager().ConfigureAwait(false);
            _identity.Replace(NodeIdentity.Replace(_options.State, membership with { Role = role }, answer.Certificate, key));
        }
        finally
        {
            _identityGate.Release();
        }
        Agent.Membership = _identity.Current.Membership;
        Log.Role(_loggers.CreateLogger<Member>(), role);
        _events.Append("node", role == NodeRole.Manager ? "promote" : "demote", membership.NodeName, "its daemon follows");
        await StopListener().ConfigureAwait(false);
        if (role == NodeRole.Manager)
            await StartManager(null).ConfigureAwait(false);
        else
            await StartWorker().ConfigureAwait(false);
    }

    /// <summary>The CAs that all of this node trusts: its etcd has them from its start.</summary>
    private string TrustInEffect => _manager?.Store is { Record: not null, Process.Running: not null } store && store.Process.Trust != _identity.Current.TrustHash
        ? store.Process.Trust
        : _identity.Current.TrustHash;

    private void RefusedCertificate(System.Security.Cryptography.X509Certificates.X509Certificate2 certificate, string why)
    {
        Log.CertificateRefused(_loggers.CreateLogger<Member>(), certificate.Subject, why);
        _events.Append("node", "certificate-refused", CertificateSubject.Of(certificate)?.NodeId ?? certificate.Subject, why);
    }

    /// <summary>Trusts the CAs that managers say are to be trusted, and gets a certificate in time, of the CA that signs.</summary>
    private async Task KeepIdentity()
    {
        while (!_stop.IsCancellationRequested)
        {
            var toldAnew = Volatile.Read(ref _toldAnew).Task;
            var pause = TimeSpan.FromSeconds(Math.Clamp(CertificateAuthority.LifeOf(_identity.Current.Certificate).TotalSeconds / 30, 0.5, 60));
            try
            {
                await MendIdentity().ConfigureAwait(false);
            }
            catch (Exception e) when (e is RegistryException or IOException or HttpRequestException or CryptographicException)
            {
                Log.IdentityNotKept(_loggers.CreateLogger<Member>(), e.Message);
                pause = RoleRetry;
            }
            catch (OperationCanceledException)
            {
                return;
            }
            await Task.WhenAny(toldAnew, Task.Delay(pause, _time, _stop.Token)).ConfigureAwait(false);
        }
    }

    private async Task MendIdentity()
    {
        await _identityGate.WaitAsync(_stop.Token).ConfigureAwait(false);
        try
        {
            var told = Volatile.Read(ref _told);
            if (told?.Trust is { } trust && trust != _identity.Current.TrustHash)
            {
                using var response = await Agent.Registry.Forward(() => new HttpRequestMessage(HttpMethod.Get, "/v1/ca"), _stop.Token).ConfigureAwait(false);
                var pem = await response.EnsureSuccessStatusCode().Content.ReadAsStringAsync(_stop.Token).ConfigureAwait(false);
                if (TrustBundle.Hash(TrustBundle.Parse(pem)) != trust)
                    return;
                _identity.Replace(NodeIdentity.ReplaceAuthorities(_options.State, pem));
                Log.Trusts(_loggers.CreateLogger<Member>(), _identity.Current.Authorities.Count);
            }
            var identity = _identity.Current;
            // Of a new CA only once all trust it, which is when the managers say that it signs.
            var isOfAnother = told?.Issuer is { } issuer && told.Trust == identity.TrustHash && issuer != identity.Issuer;
            if (!isOfAnother && !CertificateAuthority.IsDueForRenewal(identity.Certificate, _time.GetUtcNow()))
                return;
            var membership = identity.Membership;
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var answer = await Agent.Registry.Certificate(membership.NodeId, NodeKeys.CreateRequest(key, membership.NodeName), _stop.Token).ConfigureAwait(false);
            // Another role comes with its own certificate.
            if (answer.Role != membership.Role)
                return;
            _identity.Replace(NodeIdentity.Replace(_options.State, membership, answer.Certificate, key));
            Log.Renewed(_loggers.CreateLogger<Member>(), _identity.Current.Certificate.NotAfter.ToUniversalTime());
            _events.Append("node", "certificate-renewed", membership.NodeName, $"valid until {_identity.Current.Certificate.NotAfter.ToUniversalTime():u}");
        }
        finally
        {
            _identityGate.Release();
        }
    }

    private static partial class Log
    {
        [LoggerMessage(3, LogLevel.Information, "certificate renewed, valid until {Until:u}")]
        public static partial void Renewed(ILogger logger, DateTime until);

        [LoggerMessage(4, LogLevel.Information, "the cluster's CA is being replaced: {Count} CAs are trusted now")]
        public static partial void Trusts(ILogger logger, int count);

        [LoggerMessage(5, LogLevel.Warning, "this node's certificate could not be looked after: {Reason}")]
        public static partial void IdentityNotKept(ILogger logger, string reason);

        [LoggerMessage(7, LogLevel.Warning, "other nodes cannot ask this one (captures, probes of the way): {Address} port {Port}: {Reason}")]
        public static partial void NotListening(ILogger logger, System.Net.IPAddress address, int port, string reason);

        [LoggerMessage(8, LogLevel.Information, "other nodes can ask this one again: {Address} port {Port}")]
        public static partial void Listening(ILogger logger, System.Net.IPAddress address, int port);

        [LoggerMessage(6, LogLevel.Warning, "certificate {Subject} refused: {Why}")]
        public static partial void CertificateRefused(ILogger logger, string subject, string why);

        [LoggerMessage(1, LogLevel.Information, "this node is a {Role} now")]
        public static partial void Role(ILogger logger, NodeRole role);

        [LoggerMessage(2, LogLevel.Warning, "the node's new role is not taken yet: {Reason}")]
        public static partial void RoleNotTaken(ILogger logger, string reason);
    }
}
