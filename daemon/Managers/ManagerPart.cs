using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Api;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Daemon.Security;
using OverlayNet.Vip.Ingress;

namespace OverlayNet.Daemon.Managers;

/// <summary>What a node runs because it is a manager: the store, the registry over it, the listener's services, the talk with the others.</summary>
internal sealed partial class ManagerPart : IAsyncDisposable
{
    private static readonly TimeSpan SupervisePeriod = TimeSpan.FromSeconds(1);
    private readonly DaemonOptions _options;
    private readonly IdentityHolder _identity;
    private readonly NodeAgent _agent;
    private readonly EventLog _events, _audit;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly HttpClient _http;
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<Task> _running = [];
    private ManagerApiServices? _services;
    private Registry.Store.Etcd.Wire.StatusResponse? _status;

    public ManagerPart(DaemonOptions options, IdentityHolder identity, NodeAgent agent, EventLog events, TimeProvider time, ILoggerFactory loggers)
    {
        _options = options;
        _identity = identity;
        _agent = agent;
        _events = events;
        _audit = EventLog.Open(options.State, identity.Current.Membership.NodeName, time, fileName: EventLog.AuditFileName);
        _time = time;
        _loggers = loggers;
        _http = new HttpClient(ClusterTls.CreateHandler(() => identity.Current)) { Timeout = Timeout.InfiniteTimeSpan };
        Store = new ManagerStore(options, identity, agent.Registry.Over(_http).JoinStore, time, loggers) { IsSuperseded = IsSuperseded };
        Health = new HealthSharing(() => Snapshot, NodeId, _http, time, _stop.Token);
        Peers = new ManagerPeers(() => Snapshot, Report, beats => Registry?.HeardElsewhere(beats), _http, time);
    }

    public ManagerStore Store { get; }

    public EventLog Events => _events;

    public ManagerPeers Peers { get; }

    /// <summary>Passes health reports on to the other managers.</summary>
    public HealthSharing Health { get; }

    /// <summary>Null until the store is open.</summary>
    public ClusterRegistry? Registry { get; private set; }

    /// <summary>Null until the store is open.</summary>
    public ManagerApiServices? Services => Volatile.Read(ref _services);

    /// <summary>Completes when the registry is up.</summary>
    public Task Ready => _ready.Task;

    private string NodeId => _identity.Current.Membership.NodeId;

    private Snapshot Snapshot => Registry?.Current ?? _agent.Follower.Current;

    /// <summary>Opens an embedded store before it returns; one of several managers comes up in the background, and the node serves its last snapshot meanwhile.</summary>
    /// <param name="embedded">An SQLite store that is open already.</param>
    public async Task StartAsync(SqliteStore? embedded)
    {
        if (embedded is not null || Store.IsEmbedded)
        {
            await Store.OpenEmbeddedAsync(embedded).ConfigureAwait(false);
            await OpenRegistryAsync().ConfigureAwait(false);
        }
        else
        {
            _running.Add(Task.Run(async () =>
            {
                await Store.OpenAsync(_stop.Token).ConfigureAwait(false);
                await OpenRegistryAsync().ConfigureAwait(false);
            }));
        }
        _running.Add(Task.Run(() => Peers.RunAsync(NodeId, _stop.Token)));
        _running.Add(Task.Run(SuperviseAsync));
        _running.Add(Task.Run(BackupsAsync));
    }

    /// <summary>This node is no manager any more.</summary>
    public async Task RemoveAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await Store.RemoveAsync().ConfigureAwait(false);
        _http.Dispose();
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await Store.DisposeAsync().ConfigureAwait(false);
        _http.Dispose();
    }

    /// <summary>The managers and the store's members as they are now.</summary>
    public async Task<ManagersReport> ReportAsync(CancellationToken cancel)
    {
        var snapshot = Snapshot;
        var self = Report();
        var nodes = snapshot.Nodes.Values.Where(n => n.Role == NodeRole.Manager).OrderBy(n => n.Name, StringComparer.Ordinal).ToList();
        IReadOnlyList<MemberState> members = [];
        if (Store.Etcd is { } etcd)
        {
            try
            {
                members = await ManagerStore.MembersAsync(etcd, cancel).ConfigureAwait(false);
            }
            catch (RegistryStoreException)
            {
                // Then none is reachable, and that is what is shown.
            }
        }
        var leader = members.FirstOrDefault(m => m.Status is { } s && s.Leader == s.Header.MemberId && members.Count(o => o.Reachable && o.Status!.Leader == s.Leader) * 2 > members.Count(o => o.Votes))?.Member.ID ?? 0;
        var managers = nodes.Select(node =>
        {
            var heard = node.Id == NodeId ? (self, TimeSpan.Zero) : Peers.Last(node.Id);
            var member = members.FirstOrDefault(m => m.Member.Name == node.Id);
            var embedded = Store.Etcd is null && node.Id == NodeId;
            return new ManagerStatus
            {
                NodeId = node.Id,
                Name = node.Name,
                Address = node.Address,
                Reachable = embedded || member is { Reachable: true } || (member is null && heard is { Item2: var age } && age < ManagerPeers.Fresh),
                Leader = embedded || (member is not null && member.Member.ID == leader),
                Member = embedded || member is { Votes: true } ? "voter" : member is not null ? "learner" : "none",
                Revision = heard?.Item1.Revision ?? 0,
                Lag = Math.Max(0, snapshot.Revision - (heard is { Item1: var r } && r.Incarnation == snapshot.Incarnation ? r.Revision : 0)),
                SecondsSinceHeard = heard?.Item2.TotalSeconds,
                Trouble = heard?.Item1.Trouble ?? "",
            };
        }).ToList();
        var voters = Store.Etcd is null ? 1 : members.Count(m => m.Votes);
        var reachable = Store.Etcd is null ? 1 : members.Count(m => m.Votes && m.Reachable);
        var quorum = (voters / 2) + 1;
        var writable = Store.Etcd is null || (leader != 0 && reachable >= quorum);
        return new ManagersReport
        {
            Store = self.Store,
            Node = _identity.Current.Membership.NodeName,
            Managers = managers,
            Voters = voters,
            Reachable = reachable,
            Quorum = quorum,
            CanLose = writable ? reachable - quorum : Math.Min(-1, reachable - quorum),
            Writable = writable,
            Summary = Summary(voters, reachable, quorum, writable),
        };
    }

    /// <exception cref="RegistryException">Without it no majority of the store's members would be left.</exception>
    public async Task CheckDemotionAsync(Node node, CancellationToken cancel)
    {
        if (Store.Etcd is not { } etcd || node.Role != NodeRole.Manager)
            return;
        IReadOnlyList<MemberState> members;
        try
        {
            members = await ManagerStore.MembersAsync(etcd, cancel).ConfigureAwait(false);
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
        if (members.FirstOrDefault(m => m.Member.Name == node.Id) is { } member && !ManagerStore.IsSafeWithout(members, member.Member.ID))
            throw Refuse.Conflict("no-quorum", "node", node.Name, "without it no majority of the managers would be left", "bring the other managers back first; see 'overlaynet node ls'");
    }

    private static string Summary(int voters, int reachable, int quorum, bool writable)
    {
        var of = $"{reachable} of {voters} managers reachable, {quorum} needed";
        return !writable ? $"{of}: writes are refused; names and VIPs go on. See 'overlaynet recover' if the others are destroyed"
            : reachable == quorum ? $"{of}: the loss of {(voters == 1 ? "it" : "one more")} stops writes{(voters == 2 ? "; two managers tolerate no loss, add a third" : "")}"
            : $"{of}: {reachable - quorum} more may be lost";
    }

    private async Task StopAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        foreach (var task in _running)
            await task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_services?.Desk is { } desk)
            await desk.DisposeAsync().ConfigureAwait(false);
        if (Registry is { } registry)
            await registry.DisposeAsync().ConfigureAwait(false);
        _audit.Dispose();
    }

    private async Task OpenRegistryAsync()
    {
        var store = Store.Switch!;
        Registry = await ClusterRegistry.StartAsync(store, new ClusterRegistryOptions
        {
            Time = _time,
            Logger = _loggers.CreateLogger<ClusterRegistry>(),
            Events = _events,
            NodeTimeout = _options.UnmanagedAfter,
        }, _stop.Token).ConfigureAwait(false);
        var secrets = new ClusterSecrets(store, _time, _options.CertificateLife);
        var logger = _loggers.CreateLogger<ManagerApiServices>();
        var desk = new HealthDesk(Registry, new HealthDeskOptions(), _events, _time, _loggers.CreateLogger<HealthDesk>());
        desk.Start();
        Volatile.Write(ref _services, new ManagerApiServices(Registry, secrets, new JoinService(Registry, secrets, _events, logger, acceptManagers: Store.IsExternal || EtcdProcess.Find() is not null, needsEtcd: !Store.IsExternal))
        {
            Part = this,
            Audit = _audit,
            Desk = desk,
            HealthViews = desk,
            Flows = _agent.Plane.ReadFlows,
            PortHolder = (protocol, port) => PortHolder.Find(protocol, port, beyondLoopback: true),
            Time = _time,
            Logger = logger,
        });
        _ready.TrySetResult();
    }

    private async Task SuperviseAsync()
    {
        using var timer = new PeriodicTimer(SupervisePeriod, _time);
        try
        {
            while (await timer.WaitForNextTickAsync(_stop.Token).ConfigureAwait(false))
            {
                if (Store.IsExternal && Registry is { } external)
                    await AdvanceAuthorityAsync(external).ConfigureAwait(false);
                if (Store.IsExternal || Store.Etcd is not { } etcd)
                    continue;
                try
                {
                    _status = await etcd.Client.StatusAsync(new Uri(Store.Place.ClientUrl), _stop.Token).ConfigureAwait(false);
                }
                catch (RegistryStoreException)
                {
                    _status = null;
                }
                var superseded = IsSuperseded(etcd.Identity.Incarnation);
                if (Registry is not { } registry)
                {
                    // A store that can only be read stale: it stays so, unless the others have gone on without it.
                    if (superseded)
                        await Store.SuperviseAsync([], superseded, () => false, _stop.Token).ConfigureAwait(false);
                    continue;
                }
                var managers = registry.Current.Nodes.Values.Where(n => n.Role == NodeRole.Manager)
                    .Select(n => $"https://{HostPort.Format(n.Address, _options.EtcdPeerPort)}").ToHashSet();
                await Store.SuperviseAsync(managers, superseded, IsTurn, _stop.Token).ConfigureAwait(false);
                await AdvanceAuthorityAsync(registry).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // The daemon stops.
        }
    }

    /// <summary>The managers before this one, by id, have restarted their members already.</summary>
    private bool IsTurn() => Registry is { } registry && registry.Current.Nodes.Values
        .Where(n => n.Role == NodeRole.Manager && string.CompareOrdinal(n.Id, NodeId) < 0)
        .All(n => registry.NodeTrusts().Any(t => t.Name == n.Name && t.Said?.Trust == _identity.Current.TrustHash));

    /// <summary>Goes on with the replacement of the CA when no node is waited for any more. Every manager does; the store lets one.</summary>
    private async Task AdvanceAuthorityAsync(ClusterRegistry registry)
    {
        if (Services?.Secrets is not { } secrets)
            return;
        try
        {
            var trust = await secrets.TrustAsync(_stop.Token).ConfigureAwait(false);
            if (trust.Phase == AuthorityPhase.Stable || AuthorityRotation.WaitsFor(trust.Phase, trust.Hash, trust.Signer, registry.NodeTrusts()).Count > 0)
                return;
            await secrets.AdvanceAuthorityAsync(trust.Phase, _stop.Token).ConfigureAwait(false);
            _events.Append("ca", trust.Phase == AuthorityPhase.Trusting ? "renewing" : "replaced", trust.Signer, trust.Phase == AuthorityPhase.Trusting
                ? "every node trusts the new CA: it signs from now on, and the join tokens are new"
                : "every node has a certificate of the new CA: the old one is not trusted any more");
        }
        catch (RegistryException)
        {
            // Without a majority, or another manager was faster: looked at again in a second.
        }
    }

    /// <summary>Whether a manager with a majority behind it serves this cluster's registry in a later incarnation.</summary>
    private bool IsSuperseded(long incarnation) => Peers.Reports.Any(r =>
        r.Store == "etcd" && r.ClusterId == _identity.Current.Membership.ClusterId && r.Incarnation > incarnation && r.ConfirmedMsAgo is >= 0 and < 3000);

    private ManagerReport Report()
    {
        var since = Store.Switch?.SinceConfirmed ?? TimeSpan.MaxValue;
        return new ManagerReport
        {
            NodeId = NodeId,
            Store = Store.Switch is null ? "none" : Store.Etcd is null ? "sqlite" : "etcd",
            ClusterId = Store.Switch?.Identity.ClusterId ?? "",
            Incarnation = Store.Switch?.Identity.Incarnation ?? 0,
            Revision = Registry?.Current.Revision ?? 0,
            MemberId = _status?.Header.MemberId ?? 0,
            LeaderId = _status?.Leader ?? 0,
            Learner = _status?.IsLearner ?? false,
            ConfirmedMsAgo = since == TimeSpan.MaxValue ? -1 : since.TotalMilliseconds,
            StoreBytes = _status?.DbSize ?? 0,
            Trouble = Store.Trouble.Length > 0 ? Store.Trouble : string.Join("; ", _status?.Errors ?? []),
            Beats = Registry?.OwnBeats() ?? [],
        };
    }
}
