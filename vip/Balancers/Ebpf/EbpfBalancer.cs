using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>
/// VIPs translated where a program calls connect(2), sendmsg(2) and their like, by BPF programs at the root of the
/// cgroup2 hierarchy: no packet is ever rewritten, the source address stays, and a connection costs what a direct one
/// does. Sockets are told apart by their network namespace's cookie, so networks may share addresses and several
/// daemons one kernel. Everything is pinned under <c>/sys/fs/bpf/overlaynet/NODE</c> and goes on without the daemon.
/// What has no socket of the ordinary kind (ping, raw sockets, namespaces within containers) is for the writer behind.
/// </summary>
public sealed class EbpfBalancer : IBalancer
{
    /// <summary>Each daemon's pins are in a directory of its own below.</summary>
    public const string PinRoot = BpfFileSystem.Root + "/overlaynet";

    private static readonly TimeSpan probeAgainAfter = TimeSpan.FromSeconds(60), auditAfter = TimeSpan.FromSeconds(5), moveAgainAfter = TimeSpan.FromSeconds(1),
        orphanedAfter = TimeSpan.FromMinutes(10);

    private readonly string directory;
    private readonly string? wantedCgroup;
    private readonly TimeProvider time;
    private readonly ContainerCookies cookies = new();
    private readonly Dictionary<ulong, NetnsNetworks> netns = [];
    private readonly HashSet<(uint Backend, uint Generation)> moved = [];
    private readonly HashSet<(uint Backend, uint Generation)> waiting = [];
    private BalancerAvailability? availability;
    private long probedAt, auditedAt, movedAt;
    private string cgroup = "";
    private SocketServices? tables;
    private SocketHooks hooks = new();
    private bool attached, swept;

    /// <param name="node">The node's short id: names the pins.</param>
    /// <param name="cgroup">The cgroup2 mount; null: look for it.</param>
    public EbpfBalancer(string node, TimeProvider? time = null, string? cgroup = null)
    {
        if (node.Length == 0 || !node.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_'))
            throw new ArgumentException($"'{node}' cannot name a directory of pins: letters, digits, '-' and '_' only", nameof(node));
        directory = $"{PinRoot}/{node}";
        this.time = time ?? TimeProvider.System;
        wantedCgroup = cgroup;
    }

    public string Name => BalancerNames.Ebpf;

    /// <inheritdoc/>
    public BalancerAvailability Availability
    {
        get
        {
            if (availability is { Usable: true } || (availability is not null && time.GetElapsedTime(probedAt) < probeAgainAfter))
                return availability;
            (var found, availability) = SocketProbe.Look(wantedCgroup);
            probedAt = time.GetTimestamp();
            cgroup = found ?? "";
            return availability;
        }
    }

    /// <inheritdoc/>
    public string? Refuses(VipService service) => PathSelection.CountsConnections(service.Scheduler)
        ? $"scheduler {service.Scheduler} counts the connections of all clients"
        : null;

    /// <inheritdoc/>
    public BalancerReport Apply(VipConfig config)
    {
        if (!Availability.Usable)
            return BalancerReport.Nothing with { Errors = [Error("all", Availability.Reason!)] };
        var networks = config.Networks.Where(network => network.Services.Count > 0).ToArray();
        try
        {
            return Apply(networks, config.Networks);
        }
        catch
        {
            // What was written is in the kernel; what was remembered of it may be wrong. The next call adopts afresh.
            Close();
            throw;
        }
    }

    /// <inheritdoc/>
    public BalancerReport Observe(VipConfig config)
    {
        var networks = config.Networks.Where(network => network.Services.Count > 0).ToArray();
        var changes = new List<VipChange>();
        if (tables is null)
        {
            using var pinned = SocketMaps.Adopt(directory);
            if (pinned is null)
            {
                changes.AddRange(networks.SelectMany(network => network.Services.Select(service => Change(network.Name, $"service {service.Name} added"))));
                return new BalancerReport { Changes = changes };
            }
            new SocketServices(pinned, time, _ => { }).Apply(networks, write: false, changes);
            return new BalancerReport { Changes = changes };
        }
        tables.Apply(networks, write: false, changes);
        var errors = new List<VipError>();
        var wanted = ReadCookies(networks, errors);
        if (Gone(wanted).Length + Changed(wanted).Length is var containers and > 0)
            changes.Add(Change("all", $"{containers} containers learnt or forgotten"));
        Audit(changes, write: false);
        return new BalancerReport { Changes = changes, Errors = errors, NextDue = NextDue };
    }

    /// <inheritdoc/>
    public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config) => tables is null ? [] : [.. tables.Statistics()];

    /// <summary>Closes what this process holds. The pins, and with them the VIPs, stay.</summary>
    public void Dispose() => Close();

    private DateTimeOffset? NextDue => tables?.NextDue is not { } wait ? null
        : time.GetUtcNow() + (waiting.Count > 0 && wait > moveAgainAfter ? moveAgainAfter : wait);

    /// <param name="networks">Those with services.</param>
    /// <param name="all">Containers of the others may still have sockets to what was removed.</param>
    private BalancerReport Apply(VipNetwork[] networks, IReadOnlyList<VipNetwork> all)
    {
        var changes = new List<VipChange>();
        var errors = new List<VipError>();
        if (tables is null && !Open(networks, changes))
            return new BalancerReport { Changes = changes };
        // A container learns of a network after the network's services are there, and forgets it before they go.
        var wanted = ReadCookies(networks, errors);
        ForgetNetns(wanted, changes);
        tables!.Apply(networks, write: true, changes);
        if (!attached)
        {
            Install(tables.Maps);
            attached = true;
        }
        LearnNetns(wanted, changes);
        Reap(all, changes, errors);
        // Last, so that no change waits for it.
        if (time.GetElapsedTime(auditedAt) >= auditAfter)
        {
            Audit(changes, write: true);
            auditedAt = time.GetTimestamp();
        }
        if (tables.Empty)
        {
            Remove();
            changes.Add(Change("all", "programs and tables removed"));
        }
        return new BalancerReport { Changes = changes, Errors = errors, NextDue = NextDue };
    }

    /// <returns>False when there is nothing to do: nothing is wanted and nothing is there.</returns>
    private bool Open(VipNetwork[] networks, List<VipChange> changes)
    {
        if (!swept)
        {
            var others = BpfFileSystem.List(PinRoot).Where(node => $"{PinRoot}/{node}" != directory);
            foreach (var node in OrphanedPins.Sweep(others, time.GetUtcNow() - orphanedAfter))
                changes.Add(Change("all", $"programs and tables of node {node}, none of whose containers exists any more, removed"));
        }
        var maps = SocketMaps.Adopt(directory);
        if (maps is null)
        {
            if (networks.Length == 0)
            {
                if (!swept)
                    BpfFileSystem.RemoveDirectory(directory);
                swept = true;
                return false;
            }
            maps = SocketMaps.Create(SocketCapacity.Least.Holding(Estimate(networks)));
        }
        swept = true;
        netns.Clear();
        foreach (var (cookie, value) in maps.Netns.Entries<ulong, NetnsNetworks>())
            netns[cookie] = value;
        tables = new SocketServices(maps, time, Install);
        attached = false;
        auditedAt = time.GetTimestamp();
        return true;
    }

    private static SocketCapacity Estimate(VipNetwork[] networks)
    {
        int frontends = 0, services = 1, slots = 1, backends = 1;
        foreach (var service in networks.SelectMany(network => network.Services))
        {
            services++;
            frontends += service.Addresses.Count * (1 + service.Ports.Count);
            backends += service.RealServers.Count;
            slots += service.Addresses.Count * service.RealServers.Count;
        }
        return new SocketCapacity(frontends + frontends / 4, services + services / 4, backends + backends / 4, slots + slots / 4);
    }

    private void Install(SocketMaps maps)
    {
        BpfFileSystem.CreateDirectory(directory);
        maps.Pin(directory);
        hooks.Install(maps.Fds, cgroup, directory);
    }

    private void Audit(List<VipChange> changes, bool write)
    {
        if (!attached)
            return;
        var lost = hooks.Lost();
        if (lost.Count > 0)
            changes.Add(Change("all", $"programs attached again at {string.Join(", ", lost)}", mended: true));
        var pins = BpfFileSystem.List(directory).Count;
        if (pins < SocketMaps.Count + SocketHooks.Count)
            changes.Add(Change("all", $"{SocketMaps.Count + SocketHooks.Count - pins} pins made again", mended: true));
        if (write && (lost.Count > 0 || pins < SocketMaps.Count + SocketHooks.Count))
            Install(tables!.Maps);
        if (tables!.Audit(write) is var entries and > 0)
            changes.Add(Change("all", $"{entries} frontends written again", mended: true));
        var found = tables.Maps.Netns.Entries<ulong, NetnsNetworks>().ToDictionary();
        var containers = netns.Count(entry => !found.TryGetValue(entry.Key, out var value) || !value.Equals(entry.Value)) + found.Keys.Count(cookie => !netns.ContainsKey(cookie));
        if (containers == 0)
            return;
        changes.Add(Change("all", $"{containers} containers' networks written again", mended: true));
        if (write)
        {
            tables.Maps.Netns.RemoveAll<ulong>(found.Keys.Where(cookie => !netns.ContainsKey(cookie)).ToArray());
            tables.Maps.Netns.SetAll<ulong, NetnsNetworks>(netns.Keys.ToArray(), netns.Values.ToArray());
        }
    }

    private Dictionary<ulong, NetnsNetworks> ReadCookies(VipNetwork[] networks, List<VipError> errors)
    {
        var networksOf = new Dictionary<ulong, List<uint>>();
        foreach (var network in networks)
        {
            foreach (var task in network.Tasks)
            {
                try
                {
                    var cookie = cookies.Get(task.NetnsPath);
                    if (!networksOf.TryGetValue(cookie, out var list))
                        networksOf[cookie] = list = [];
                    list.Add((uint)network.Vni);
                }
                catch (KernelException e)
                {
                    errors.Add(Error(network.Name, e.Message, task.NetnsPath, gone: !File.Exists(task.NetnsPath)));
                }
            }
        }
        cookies.Sweep();
        return networksOf.ToDictionary(entry => entry.Key, entry => NetnsNetworks.From(entry.Value));
    }

    private void ForgetNetns(Dictionary<ulong, NetnsNetworks> wanted, List<VipChange> changes)
    {
        var gone = Gone(wanted);
        if (gone.Length == 0)
            return;
        tables!.Maps.Netns.RemoveAll<ulong>(gone);
        foreach (var cookie in gone)
            netns.Remove(cookie);
        changes.Add(Change("all", $"{gone.Length} containers forgotten"));
    }

    private void LearnNetns(Dictionary<ulong, NetnsNetworks> wanted, List<VipChange> changes)
    {
        var changed = Changed(wanted);
        if (changed.Length == 0)
            return;
        tables!.Maps.Netns.SetAll<ulong, NetnsNetworks>(changed.Select(entry => entry.Key).ToArray(), changed.Select(entry => entry.Value).ToArray());
        foreach (var (cookie, value) in changed)
            netns[cookie] = value;
        changes.Add(Change("all", $"{changed.Length} containers learnt"));
    }

    private ulong[] Gone(Dictionary<ulong, NetnsNetworks> wanted) => [.. netns.Keys.Where(cookie => !wanted.ContainsKey(cookie))];

    private KeyValuePair<ulong, NetnsNetworks>[] Changed(Dictionary<ulong, NetnsNetworks> wanted) =>
        [.. wanted.Where(entry => !netns.TryGetValue(entry.Key, out var have) || !have.Equals(entry.Value))];

    /// <summary>
    /// Departed real servers: connected datagram sockets move on at once (nothing would tell their owners that nobody
    /// listens), streams end at the deadline. At weight 0 both end then.
    /// </summary>
    private void Reap(IReadOnlyList<VipNetwork> networks, List<VipChange> changes, List<VipError> errors)
    {
        if (tables!.Overdue() is { Count: > 0 } overdue)
        {
            var reaper = Reaper([.. overdue]);
            var (some, destroyed, _) = reaper.MoveDatagrams();
            Say(some, "moved to other real servers");
            Say(destroyed + reaper.Destroy(), "of drained real servers destroyed");
            Fail(reaper);
            if (reaper.Errors.Count == 0)
                overdue.ForEach(tables.Cut);
        }
        if (tables.Departed.Count == 0)
            return;
        var bound = tables.Departed.Where(real => tables.Live(real.Backend) > 0 && !moved.Contains(Binding(real))).ToArray();
        if (bound.Length > 0 && (time.GetElapsedTime(movedAt) >= moveAgainAfter || bound.Any(real => !waiting.Contains(Binding(real)))))
        {
            movedAt = time.GetTimestamp();
            var reaper = Reaper(bound);
            var (some, destroyed, left) = reaper.MoveDatagrams();
            (left > 0 ? waiting : moved).UnionWith(bound.Select(Binding));
            Say(some, "moved to other real servers");
            Say(destroyed, "of removed real servers destroyed");
            Fail(reaper);
        }
        var due = tables.Due();
        var doomed = due.Where(real => tables.Live(real.Backend) > 0).ToArray();
        if (doomed.Length > 0)
        {
            var reaper = Reaper(doomed);
            Say(reaper.Destroy(), "of removed real servers destroyed");
            Fail(reaper);
        }
        foreach (var real in due)
        {
            moved.Remove(Binding(real));
            waiting.Remove(Binding(real));
            tables.Forget(real);
        }

        (uint, uint) Binding(Departed real) => (real.Backend, tables.Generation(real.Backend));

        SocketReaper Reaper(Departed[] reals)
        {
            var bindings = reals.Select(Binding).ToHashSet();
            string[] paths =
            [
                .. networks.Where(network => reals.Any(real => real.NetworkId is null || real.NetworkId == network.Id))
                    .SelectMany(network => network.Tasks).Select(task => task.NetnsPath).Distinct(),
            ];
            return new SocketReaper(tables.Maps, paths, (backend, generation) => bindings.Contains((backend, generation)));
        }

        void Say(int sockets, string what)
        {
            if (sockets > 0)
                changes.Add(Change("all", $"{sockets} sockets {what}"));
        }

        void Fail(SocketReaper reaper) =>
            errors.AddRange(reaper.Errors.Select(failure => Error("all", failure.Error.Message, failure.Path, gone: !File.Exists(failure.Path))));
    }

    private void Remove()
    {
        hooks.Remove();
        Close();
        BpfFileSystem.RemoveDirectory(directory);
    }

    private void Close()
    {
        tables?.Maps.Dispose();
        tables = null;
        hooks.Dispose();
        hooks = new SocketHooks();
        attached = false;
        netns.Clear();
        moved.Clear();
        waiting.Clear();
    }

    private static VipChange Change(string network, string what, bool mended = false) => new(BalancerNames.Ebpf, network, "sockets", what, mended);

    private static VipError Error(string network, string message, string where = "this node", bool gone = false) =>
        new(BalancerNames.Ebpf, network, null, where, message, gone);
}
