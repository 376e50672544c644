using System.Net;
using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent.FloatingVips;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Diagnosis;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Keeper;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using OverlayNet.Daemon.Tracing;
using OverlayNet.Dns;
using OverlayNet.Dns.InKernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;
using OverlayNet.Vip.Balancers;

namespace OverlayNet.Daemon.Agent;

/// <summary>Everything a member node runs, manager or not: follows the registry and makes this host reflect it.</summary>
internal sealed partial class NodeAgent : IAsyncDisposable
{
    private const string CookieSecretFile = "dns-cookie-secret";
    private const int CookieSecretLength = 16;
    private static readonly TimeSpan ManagersWord = TimeSpan.FromSeconds(2);
    private readonly CancellationTokenSource _stop = new();
    private readonly OverlayMonitor _monitor;
    private readonly KeeperClient _keeper;
    private readonly BalancerSet _balancers;
    private readonly Overlay.Overlay _overlay = new();
    private readonly List<Task> _running = [];
    private readonly TimeProvider _time;
    private readonly DaemonOptions _options;
    private readonly ILogger _logger;
    private readonly PromisePeers? _promises;
    private readonly CutOff _cutOff;
    private readonly KernelAnswers? _kernelAnswers;
    private volatile HostState _host;
    private long _hostReadAt;

    public NodeAgent(DaemonOptions options, Membership membership, RegistryClient registry, EventLog events, TimeProvider time, ILoggerFactory loggers, IdentityHolder? identity = null)
    {
        _options = options;
        _time = time;
        _logger = loggers.CreateLogger<NodeAgent>();
        Membership = membership;
        Events = events;
        _host = ReadHost();
        Follower = new SnapshotFollower(
            registry, new SnapshotFile(options.State), time, loggers.CreateLogger<SnapshotFollower>(), new Reassertion(membership.NodeId, registry, events).Assert);
        var traces = new AppliedTraces();
        Follower.Traced += message => traces.Heard(message, membership.NodeId);
        Follower.Load();
        var (kernelAnswers, inKernel) = MakeKernelAnswers(options, time);
        _kernelAnswers = kernelAnswers;
        Dns = new DnsServer(new DnsServerOptions { CookieSecret = CookieSecret(options.State), LogEvery = options.DnsLogEvery, DnstapFile = options.DnstapFile, DnstapEvery = options.DnstapEvery, Identity = options.NodeName }, loggers.CreateLogger<DnsServer>(), time, _kernelAnswers);
        _keeper = KeeperClient.Start(Path.Combine(options.State, "keeper.sock"));
        _balancers = BalancerFactory.Make(membership, options, time, loggers);
        Plane = new DataPlane(
            _overlay,
            _balancers,
            Dns,
            new DnsListeners(Dns, _keeper, loggers.CreateLogger<DnsListeners>()),
            new AnsweringDevices(_kernelAnswers, _keeper, loggers.CreateLogger<AnsweringDevices>()),
            new DnsPlanner(membership.NodeId, Forwarding(options), options.ResolverAddresses),
            () => new NodeFacts(membership.NodeId, membership.Address, _host.Mtu, options.VxlanPort, options.ResolverAddresses),
            config => _monitor!.Watch(config),
            new HostResolverAddresses(options.ResolverAddresses),
            events,
            traces,
            time,
            loggers.CreateLogger<DataPlane>());
        if (Follower.Synced)
            Plane.Resume(Follower.Current);
        Features = [.. KernelFeatures.Probe(), .. inKernel];
        SayFeatures();
        Reconciler = new Reconciler(Follower, Plane, options.ResyncInterval, time, loggers.CreateLogger<Reconciler>());
        void Tell(string kind, string action, string name, string message, long revision) => events.Append(kind, action, name, message, revision);
        Withdrawals = new Withdrawals(registry, Follower, Reconciler, Tell, time, loggers.CreateLogger<Withdrawals>());
        _monitor = new OverlayMonitor(null, Heard);
        Attachments = new Attachments(membership.NodeId, registry, Follower, Reconciler, () => DefaultMtu, loggers.CreateLogger<Attachments>());
        Health = new HealthAgent(
            membership.NodeId, registry, Follower, Reconciler, () => Plane.Draining,
            Tell, time, loggers);
        Heartbeat = new Heartbeat(registry, options.HeartbeatInterval, Compose, time, loggers.CreateLogger<Heartbeat>());
        _cutOff = new CutOff(
            options.State, Follower, Reconciler, Heartbeat, Tell, time);
        Registry = registry;
        _promises = identity is null ? null : new PromisePeers(identity, Follower, loggers);
        FloatingVips = new FloatingVipRunner(membership.NodeId, options.State, registry, Follower, Tell, time, loggers, _promises, options.WatchdogDevice);
    }

    /// <summary>Replaced when the node's role changes; id, name and address stay.</summary>
    public Membership Membership { get; set; }
    /// <summary>What to say of this node's certificate and the CAs it trusts; null: nothing.</summary>
    public Func<NodeTrust>? Trust { get; set; }
    public EventLog Events { get; }
    public RegistryClient Registry { get; }
    public SnapshotFollower Follower { get; }
    public Reconciler Reconciler { get; }
    public DataPlane Plane { get; }
    public Attachments Attachments { get; }
    public Withdrawals Withdrawals { get; }
    public Heartbeat Heartbeat { get; }
    public FloatingVipRunner FloatingVips { get; }
    public HealthAgent Health { get; }
    public DnsServer Dns { get; }
    public IReadOnlyList<KernelFeature> Features { get; }

    /// <summary>MTU of networks that do not set one, in bytes.</summary>
    public int DefaultMtu => OverlayMtu.Of(Membership.Address, _host.Mtu);

    public void Start()
    {
        Reconciler.Applied += AfterApply;
        _cutOff.Resume();
        _running.Add(_cutOff.Run(_stop.Token));
        _running.Add(Follower.Run(_stop.Token));
        _running.Add(Withdrawals.Run(_stop.Token));
        _running.Add(FinishStarted(_stop.Token));
        _running.AddRange(Health.Start(_stop.Token));
        _running.Add(StartReconciler(_stop.Token));
        Heartbeat.Start();
        FloatingVips.Start();
    }

    /// <summary>Hands over this node's floating VIPs, while the registry can still be told: the first thing of a stop.</summary>
    public void ReleaseVips() => FloatingVips.Dispose();

    /// <summary>Stops without touching the kernel: what is there goes on, and the successor adopts it.</summary>
    public async ValueTask DisposeAsync()
    {
        await Stop().ConfigureAwait(false);
        if (_promises is not null)
            await _promises.DisposeAsync().ConfigureAwait(false);
        Dns.Dispose();
        _kernelAnswers?.Dispose();
        _balancers.Dispose();
        _overlay.Dispose();
        _keeper.Dispose();
        _stop.Dispose();
    }

    /// <summary>Takes everything of this node out of the kernel, the node having left the cluster. Dispose it afterwards.</summary>
    public async Task Remove()
    {
        await Stop().ConfigureAwait(false);
        FloatingVips.Remove();
        Plane.Clear(Follower.Current);
        _keeper.Quit();
    }

    private async Task Stop()
    {
        if (_stop.IsCancellationRequested)
            return;
        ReleaseVips();
        await _stop.CancelAsync().ConfigureAwait(false);
        Heartbeat.Dispose();
        _monitor.Dispose();
        Reconciler.Dispose();
        foreach (var task in _running)
            await task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        Health.Dispose();
    }

    /// <summary>
    /// The snapshot on disk is a moment older than the kernel: an endpoint that was attached right before a kill would be taken away and
    /// made anew. So the kernel stays as it is until a manager has spoken, or for a while where none does.
    /// </summary>
    private async Task StartReconciler(CancellationToken cancellation)
    {
        await Follower.Confirmed.WaitAsync(ManagersWord, _time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!cancellation.IsCancellationRequested)
            Reconciler.Start(cancellation);
    }

    private void Heard(OverlayEvent what)
    {
        if (what is EndpointVanished vanished)
            Withdrawals.Withdraw(vanished.EndpointId, "its network namespace is gone");
        else
            Reconciler.Mend();
    }

    private void AfterApply(ApplyOutcome outcome)
    {
        foreach (var id in outcome.Gone)
            Withdrawals.Withdraw(id, "its network namespace is gone");
        Heartbeat.Wake();
    }

    /// <summary>
    /// Endpoints that were being attached when the daemon before this one ended: their path is there now, so they are
    /// completed; those whose namespace has gone were withdrawn by the first application.
    /// </summary>
    private async Task FinishStarted(CancellationToken cancellation)
    {
        while (!Follower.Synced)
            await Follower.Changed.WaitAsync(cancellation).ConfigureAwait(false);
        var started = Follower.Current.Endpoints.Values
            .Where(endpoint => endpoint.NodeId == Membership.NodeId && endpoint is { Kind: EndpointKind.Container, State: EndpointState.Starting, Netns.Length: > 0 }
                && !RuntimeLabels.IsConfiguredByRuntime(endpoint))
            .ToList();
        if (started.Count == 0)
            return;
        var outcome = await Reconciler.ApplyThrough(Follower.Current.Revision).WaitAsync(cancellation).ConfigureAwait(false);
        foreach (var endpoint in started.Where(endpoint => !outcome.Gone.Contains(endpoint.Id) && !outcome.Errors.ContainsKey(endpoint.Id)))
        {
            try
            {
                await Registry.UpdateEndpoint(endpoint.Id, new EndpointUpdateRequest { State = EndpointState.Healthy }, cancellation).ConfigureAwait(false);
            }
            catch (RegistryException e)
            {
                Log.NotFinished(_logger, endpoint.Id, endpoint.Name, e.Message);
            }
        }
    }

    private HeartbeatRequest Compose()
    {
        // Beats also come with every application; the host need not be read again for each.
        if (_time.GetElapsedTime(_hostReadAt) >= _options.HeartbeatInterval)
            _host = ReadHost();
        return new HeartbeatRequest
        {
            NodeId = Membership.NodeId,
            AppliedRevision = Reconciler.AppliedRevision,
            HostRoutes = _host.Routes,
            UnderlayMtu = _host.Mtu,
            Features = [.. Features.Where(feature => feature.Present).Select(feature => feature.Name)],
            Version = Protocol.Release,
            ProtocolVersion = Protocol.Version,
            Trust = Trust?.Invoke().Trust ?? "",
            Issuer = Trust?.Invoke().Issuer ?? "",
        };
    }

    private HostState ReadHost()
    {
        _hostReadAt = _time.GetTimestamp();
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        return new HostState(HostFacts.MtuOf(socket, Membership.Address), HostFacts.Routes(socket));
    }

    private void SayFeatures()
    {
        foreach (var missing in Features.Where(feature => !feature.Present))
            Log.Missing(_logger, missing.Name, missing.Otherwise);
    }

    /// <returns>Null where it is not wanted or not possible, and the feature that makes it possible; none where it is not wanted.</returns>
    private static (KernelAnswers? Answers, KernelFeature[] Feature) MakeKernelAnswers(DaemonOptions options, TimeProvider time)
    {
        const string feature = "dns-in-kernel";
        // What is to be seen must come by the daemon.
        if (!options.DnsInKernel || options.DnsLogEvery > 0 || options.DnstapFile is not null)
            return (null, []);
        try
        {
            return (new KernelAnswers(new DnsServerOptions().ClientQueriesPerSecond, time), [new KernelFeature(feature, false, true, "")]);
        }
        catch (KernelException e)
        {
            return (null, [new KernelFeature(feature, false, false, $"the daemon answers every query itself ({e.Message}); Linux 6.6 can")]);
        }
    }

    private static DnsForwardConfig Forwarding(DaemonOptions options) => new()
    {
        Upstreams = options.Upstreams,
        ResolvConfPath = options.Upstreams.Count == 0 ? options.ResolvConf : null,
        Domains = options.DomainUpstreams,
    };

    /// <summary>Kept on disk, so that a client's cookie is good after a restart too.</summary>
    private static byte[] CookieSecret(string state)
    {
        var path = Path.Combine(state, CookieSecretFile);
        if (File.Exists(path) && File.ReadAllBytes(path) is { Length: CookieSecretLength } kept)
            return kept;
        var secret = RandomNumberGenerator.GetBytes(CookieSecretLength);
        using var file = new FileStream(path, new FileStreamOptions
        {
            Mode = FileMode.Create,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
        });
        file.Write(secret);
        return secret;
    }

    private sealed record HostState(int Mtu, IReadOnlyList<IPNetwork> Routes);

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "kernel: {Feature} is missing; {Otherwise}")]
        public static partial void Missing(ILogger logger, string feature, string otherwise);

        [LoggerMessage(2, LogLevel.Warning, "endpoint {Id} ({Name}): stays starting: {Reason}")]
        public static partial void NotFinished(ILogger logger, string id, string name, string reason);
    }
}
