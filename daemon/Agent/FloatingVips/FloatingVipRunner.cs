using System.Collections.Concurrent;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Kernel.Watchdog;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>
/// Runs this node's floating VIPs on a loop of its own: starts and ends instances as the registry says, looks at what is tracked,
/// and cleans up after an earlier process. The instances' threads need none of this to keep or lose a VIP.
/// </summary>
internal sealed partial class FloatingVipRunner : IDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(200), RetryAfter = TimeSpan.FromSeconds(2);
    private readonly string _nodeId;
    private readonly SnapshotFollower _follower;
    private readonly RegistryLeaseStore _store;
    private readonly VipNotifier _notifier;
    private readonly VipJournal _journal;
    private readonly Action<string, string, string, string, long> _events;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly ConcurrentDictionary<string, FloatingVipInstance> _instances = new();
    private readonly ConcurrentDictionary<string, (string Fingerprint, string Reason, long At)> _refused = new();
    private readonly AutoResetEvent _wake = new(false);
    private readonly CancellationTokenSource _stop = new();
    private readonly PromisePeers? _peers;
    private readonly FenceWatchdog? _watchdog;
    private NetlinkMonitor? _monitor;
    private Thread? _thread;
    private Task _following = Task.CompletedTask;
    private Snapshot? _planned;
    private IReadOnlyList<FloatingVipPlan> _plans = [];
    private volatile bool _stopping;

    /// <param name="events">Kind, action, object, message, revision.</param>
    /// <param name="watchdog">Device that stands behind the fences; null: none.</param>
    public FloatingVipRunner(
        string nodeId, string stateDirectory, RegistryClient client, SnapshotFollower follower, Action<string, string, string, string, long> events, TimeProvider time, ILoggerFactory loggers,
        PromisePeers? peers = null, string? watchdog = null)
    {
        (_nodeId, _follower, _events, _time, _peers) = (nodeId, follower, events, time, peers);
        _logger = loggers.CreateLogger<FloatingVipRunner>();
        _journal = new VipJournal(stateDirectory);
        _store = new RegistryLeaseStore(client, nodeId, loggers.CreateLogger<RegistryLeaseStore>());
        _notifier = new VipNotifier(loggers.CreateLogger<VipNotifier>());
        if (watchdog is not null)
            _watchdog = new FenceWatchdog(() => new WatchdogDevice(watchdog, FenceWatchdog.Timeout), () => BootClock.Now, time, text => Log.Watchdog(_logger, text));
    }

    /// <summary>The instance of a set; null: not on this node, or refused.</summary>
    public FloatingVipInstance? Instance(string set) => _instances.GetValueOrDefault(set);

    /// <summary>Why a set does not run although this node takes part in it; null: it does.</summary>
    public string? Refusal(string set) => _refused.TryGetValue(set, out var refused) ? refused.Reason : null;

    /// <summary>The highest epoch of a set this node has seen.</summary>
    public LeaseVersion Seen(string set)
    {
        lock (_journal)
            return _journal.Seen(set);
    }

    public int Count => _instances.Count + _refused.Count;

    public IEnumerable<FloatingVipInstance> Instances => _instances.Values;

    public void Start()
    {
        RemoveStaleAddresses();
        _monitor = new NetlinkMonitor(null, RouteGroups.Links | RouteGroups.Routes, _ => _wake.Set(), () => _wake.Set());
        _notifier.Start();
        _following = Task.Run(() => _store.Run(_stop.Token));
        _ = WakeAtChanges();
        _thread = new Thread(Loop) { IsBackground = true, Name = "floating vips" };
        _thread.Start();
    }

    /// <summary>Hands every VIP over and ends; the gates stay, shut. Needs the registry to be reachable still.</summary>
    public void Dispose()
    {
        if (_stopping)
            return;
        _stopping = true;
        _wake.Set();
        _thread?.Join();
        _monitor?.Dispose();
        // Together: each waits for its own release.
        Parallel.ForEach(_instances.Values, instance => instance.Dispose());
        _watchdog?.Dispose();
        _stop.Cancel();
        _following.Wait();
        _notifier.Dispose();
        _stop.Dispose();
        _wake.Dispose();
    }

    /// <summary>Takes everything of the VIPs out of the kernel, after <see cref="Dispose"/>: the node has left the cluster.</summary>
    public void Remove()
    {
        foreach (var entry in _journal.Entries.ToList())
            Clean(entry);
    }

    private async Task WakeAtChanges()
    {
        while (!_stopping)
        {
            var changed = _follower.Changed;
            _wake.Set();
            await changed.WaitAsync(_stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void Loop()
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        while (!_stopping)
        {
            try
            {
                Pass(socket);
            }
            catch (Exception e)
            {
                // What is tracked must be looked at again whatever went wrong with one look.
                Log.PassFailed(_logger, e);
            }
            // A node of a cluster without floating VIPs is woken by what changes that.
            _wake.WaitOne(Idle(_follower.Current) ? Timeout.InfiniteTimeSpan : Look);
        }
    }

    private bool Idle(Snapshot snapshot) => !_follower.Synced || (snapshot.Vips.IsEmpty && _instances.IsEmpty && _journal.Entries.Count == 0);

    private void Pass(NetlinkSocket socket)
    {
        var snapshot = _follower.Current;
        if (Idle(snapshot))
            return;
        var host = HostView.Read(socket);
        if (!ReferenceEquals(snapshot, _planned))
        {
            _plans = FloatingVipPlanner.Plan(snapshot, _nodeId);
            SeeEpochs(snapshot);
            End(_plans);
            _planned = snapshot;
        }
        foreach (var plan in _plans)
            Keep(plan, snapshot, host, socket);
    }

    /// <summary>A holder record with a lower epoch than one seen before is stale news: nothing acts on it.</summary>
    private void SeeEpochs(Snapshot snapshot)
    {
        foreach (var holder in snapshot.VipHolders.Values)
        {
            bool newest;
            lock (_journal)
                newest = _journal.See(holder.Set, new LeaseVersion(holder.Incarnation, holder.Epoch));
            if (!newest)
                Log.StaleEpoch(_logger, holder.Set, $"{holder.Incarnation}.{holder.Epoch}", Seen(holder.Set).ToString(), snapshot.Revision);
        }
    }

    // What is no longer wanted goes; what is wanted otherwise is ended, which hands it over, and started anew.
    private void End(IReadOnlyList<FloatingVipPlan> plans)
    {
        foreach (var (set, instance) in _instances)
        {
            var plan = plans.FirstOrDefault(plan => plan.Set == set);
            if (plan is not null && plan.Fingerprint == instance.Plan.Fingerprint)
            {
                instance.Update(plan);
                continue;
            }
            instance.Dispose();
            _instances.TryRemove(set, out _);
        }
        foreach (var set in _refused.Keys.Where(set => plans.All(plan => plan.Set != set)).ToList())
            _refused.TryRemove(set, out _);
        foreach (var entry in _journal.Entries.Where(entry => !_instances.ContainsKey(entry.Set) && plans.All(plan => plan.Set != entry.Set)).ToList())
            Clean(entry);
    }

    private void Keep(FloatingVipPlan plan, Snapshot snapshot, HostView host, NetlinkSocket socket)
    {
        if (_instances.TryGetValue(plan.Set, out var instance))
        {
            if (instance.Failure is null && instance.Observe(host))
            {
                instance.JudgePeers(Legitimate(plan, snapshot));
                return;
            }
            Log.Restarted(_logger, plan.Set, instance.Failure?.Message ?? "its interface was made anew", snapshot.Revision);
            instance.Dispose();
            _instances.TryRemove(plan.Set, out _);
        }
        if (_refused.TryGetValue(plan.Set, out var before) && before.Fingerprint == plan.Fingerprint && _time.GetElapsedTime(before.At) < RetryAfter)
            return;
        try
        {
            RefuseOwnAddresses(plan, socket);
            lock (_journal)
                _journal.Write(Entry(plan, _journal.Entries.FirstOrDefault(entry => entry.Set == plan.Set)));
            MakeMacvlans(plan, socket);
            if (plan.First.StoreLoss == StoreLoss.HoldAll)
                _peers?.Listen(set => Instance(set)?.Fenced);
            if (!plan.Fenced)
                RemoveGates(plan.Gate.Name);
            instance = new FloatingVipInstance(plan, _nodeId, _store.For, _notifier, host, Record, _time, _logger, _peers, _watchdog);
            _instances[plan.Set] = instance;
            _refused.TryRemove(plan.Set, out _);
            instance.Observe(host);
        }
        catch (Exception e) when (e is KernelException or ArgumentException or IOException)
        {
            if (before.Reason != e.Message)
            {
                Log.Refused(_logger, plan.Set, snapshot.Revision, e.Message);
                foreach (var vip in plan.Vips)
                    _events("vip", "refused", vip.Name, e.Message, snapshot.Revision);
            }
            _refused[plan.Set] = (plan.Fingerprint, e.Message, _time.GetTimestamp());
        }
    }

    // An address that is there and that no earlier life of ours put there is the node's own: it must stay as it is.
    private void RefuseOwnAddresses(FloatingVipPlan plan, NetlinkSocket socket)
    {
        var left = _journal.Entries.SelectMany(entry => entry.Addresses.Values).SelectMany(list => list).Select(text => VirtualAddress.Parse(text).Address).ToHashSet();
        var there = new RouteAddresses(socket).Dump().Select(address => address.Address).ToHashSet();
        if (plan.Gate.Addresses.FirstOrDefault(address => there.Contains(address) && !left.Contains(address)) is { } own)
            throw new ArgumentException($"addresses: {own} is this node's own address; choose a free address of the segment");
    }

    // Who may advertise: in fenced mode the holder, in plain VRRP the nodes that take part.
    private HashSet<IPAddress> Legitimate(FloatingVipPlan plan, Snapshot snapshot) => plan.Fenced
        ? [.. snapshot.VipHolders.GetValueOrDefault(plan.Set)?.Sources ?? []]
        : [.. plan.Peers.Select(peer => snapshot.Nodes.GetValueOrDefault(peer)?.Address).OfType<IPAddress>()];

    private void Record(FloatingVipInstance instance, string action, string message)
    {
        var revision = _follower.Current.Revision;
        var level = action == "alarm" ? LogLevel.Warning : LogLevel.Information;
        foreach (var vip in instance.Plan.Vips)
        {
            Log.Happened(_logger, level, vip.Name, vip.Id, action, message, revision);
            // Off the routers' thread: an event goes to a file.
            ThreadPool.UnsafeQueueUserWorkItem(_ => _events("vip", action, vip.Name, message, revision), null);
        }
    }

    private static JournalEntry Entry(FloatingVipPlan plan, JournalEntry? before)
    {
        var addresses = plan.Members.GroupBy(member => member.AddressInterface ?? member.Interface)
            .ToDictionary(group => group.Key, group => (IReadOnlyList<string>)[.. group.SelectMany(member => member.Config.Addresses).Select(address => address.ToString())]);
        foreach (var (link, list) in before?.Addresses ?? new Dictionary<string, IReadOnlyList<string>>())
            addresses[link] = [.. addresses.GetValueOrDefault(link, []).Union(list)];
        return new JournalEntry
        {
            Set = plan.Set,
            Gate = plan.Gate.Name,
            Addresses = addresses,
            Macvlans = [.. plan.Macvlans.Select(macvlan => macvlan.Name).Union(before?.Macvlans ?? [])],
        };
    }

    private static void MakeMacvlans(FloatingVipPlan plan, NetlinkSocket socket)
    {
        var links = new RouteLinks(socket);
        foreach (var macvlan in plan.Macvlans.Where(macvlan => links.Get(macvlan.Name) is null))
        {
            var parent = links.Require(macvlan.Parent);
            links.Add(new MacvlanSpec { Name = macvlan.Name, Parent = parent.Index, Mac = new MacAddress(macvlan.Mac) });
            links.Set(macvlan.Name, new LinkChange { Alias = $"overlaynet:vip:{plan.Set}" });
            // The parent would answer ARP for the macvlan's addresses with its own MAC address (as keepalived sets it for use_vmac).
            Sysctl.Write($"net/ipv4/conf/{macvlan.Parent}/arp_ignore", "1");
            Sysctl.Write($"net/ipv4/conf/{macvlan.Name}/rp_filter", "0");
        }
    }

    private void RemoveStaleAddresses()
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        foreach (var entry in _journal.Entries)
            RemoveAddresses(entry, socket);
    }

    private void Clean(JournalEntry entry)
    {
        try
        {
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
            RemoveAddresses(entry, socket);
            var links = new RouteLinks(socket);
            foreach (var macvlan in entry.Macvlans.Where(macvlan => links.Get(macvlan) is not null))
                links.Delete(macvlan);
            // Only now, without addresses, may the gate go.
            RemoveGates(entry.Gate);
            lock (_journal)
                _journal.Forget(entry.Set);
        }
        catch (KernelException e)
        {
            Log.NotCleaned(_logger, entry.Set, e.Message);
        }
    }

    private static void RemoveGates(string name)
    {
        NftGate.Remove(name);
        BpfGate.Remove(name);
    }

    private static void RemoveAddresses(JournalEntry entry, NetlinkSocket socket)
    {
        var (links, addresses) = (new RouteLinks(socket), new RouteAddresses(socket));
        foreach (var (name, list) in entry.Addresses)
        {
            if (links.Get(name) is not { } link)
                continue;
            var ours = list.Select(text => VirtualAddress.Parse(text).Address).ToHashSet();
            foreach (var address in addresses.Dump().Where(address => address.Interface == link.Index && ours.Contains(address.Address)))
                addresses.DeleteIfThere(address);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Error, "floating VIPs: a pass failed")]
        public static partial void PassFailed(ILogger logger, Exception exception);

        [LoggerMessage(2, LogLevel.Error, "floating VIPs {Set}: refused at revision {Revision}: {Reason}")]
        public static partial void Refused(ILogger logger, string set, long revision, string reason);

        [LoggerMessage(3, LogLevel.Warning, "floating VIPs {Set}: started anew at revision {Revision}: {Reason}")]
        public static partial void Restarted(ILogger logger, string set, string reason, long revision);

        [LoggerMessage(4, LogLevel.Warning, "floating VIPs {Set}: epoch {Epoch} at revision {Revision} is lower than {Seen}, which was seen before; it is not acted on")]
        public static partial void StaleEpoch(ILogger logger, string set, string epoch, string seen, long revision);

        [LoggerMessage(5, LogLevel.Error, "floating VIPs {Set}: what it left in the kernel could not be removed: {Reason}")]
        public static partial void NotCleaned(ILogger logger, string set, string reason);

        [LoggerMessage(7, LogLevel.Critical, "floating VIPs: {Text}")]
        public static partial void Watchdog(ILogger logger, string text);

        [LoggerMessage(EventId = 6, Message = "VIP {Name} ({Id}): {Action}: {Message} (revision {Revision})")]
        public static partial void Happened(ILogger logger, LogLevel level, string name, string id, string action, string message, long revision);
    }
}
