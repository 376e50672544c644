using System.Net.Sockets;
using System.Security.Cryptography;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>A real server that has left the configuration and still has connections.</summary>
/// <param name="NetworkId">Null when an earlier process removed it: the tables keep no names.</param>
internal sealed record Departed(uint Backend, string? NetworkId, string? ServiceId, string? EndpointId);

/// <summary>
/// The configuration's half of the tables: frontends, services, real servers, slots. Keeps a mirror of what the kernel
/// holds, finds its own again by identity after a restart, and writes only what differs. Order of a change: what is
/// new is filled in, then one update of the frontend makes programs use it, then what is old is let go; an index is not
/// given out again for a while, so that a program that still holds it meets what it expected. Not thread-safe.
/// </summary>
internal sealed class SocketServices
{
    private static readonly TimeSpan reuseAfter = TimeSpan.FromSeconds(1);

    private readonly TimeProvider time;
    private readonly Action<SocketMaps> installed;
    private readonly RangeAllocator serviceIndices, backendIndices, slotIndices;
    private readonly Queue<(long Since, RangeAllocator Allocator, int Start, int Length)> resting = new();
    private readonly Dictionary<(string Network, string Service), Served> services = [];
    private readonly Dictionary<ulong, uint> serviceByIdentity = [];
    private readonly Dictionary<ulong, uint> backendByIdentity = [];
    private readonly Dictionary<FrontendKey, Frontend> frontends = [];
    private readonly Dictionary<FrontendKey, Frontend> set = [];
    private readonly List<FrontendKey> remove = [];
    private readonly Dictionary<uint, Departed> departed = [];
    private readonly Dictionary<uint, Departed> draining = [];
    private readonly List<(int Start, int Length)> letGo = [];
    private readonly HashSet<uint> unclaimedServices = [];
    private readonly HashSet<uint> unclaimedBackends = [];
    private readonly HashSet<(int Start, int Length)> unclaimedSlots = [];
    private bool adopting = true;
    private int pass;

    /// <param name="installed">Called with larger maps when these must grow: has to put programs that use them in place.</param>
    internal SocketServices(SocketMaps maps, TimeProvider time, Action<SocketMaps> installed)
    {
        this.time = time;
        this.installed = installed;
        Maps = maps;
        // Index 0 stands for "none".
        serviceIndices = new RangeAllocator(1, maps.Services.Length);
        backendIndices = new RangeAllocator(1, maps.Backends.Length);
        slotIndices = new RangeAllocator(1, maps.Slots.Length);
        Adopt();
    }

    internal SocketMaps Maps { get; private set; }

    /// <summary>Those whose sockets may still speak to them.</summary>
    internal IReadOnlyCollection<Departed> Departed => departed.Values;

    internal bool Empty => services.Count == 0 && departed.Count == 0 && !adopting;

    /// <summary>Makes the tables hold exactly the services of these networks.</summary>
    /// <param name="write">False: only says what would change.</param>
    internal void Apply(IReadOnlyList<VipNetwork> networks, bool write, List<VipChange> changes)
    {
        pass++;
        foreach (var network in networks)
        {
            foreach (var service in network.Services)
            {
                if (services.TryGetValue((network.Id, service.Id), out var served) && served.Vni == (uint)network.Vni && Same(served.Service, service))
                    served.Pass = pass;
                else
                    Reconcile(network, service, served, write, changes);
            }
        }
        foreach (var (key, served) in services.Where(entry => entry.Value.Pass != pass).ToArray())
        {
            changes.Add(Change(served.NetworkName, $"service {served.Service.Name} removed"));
            if (write)
                RemoveService(key, served);
        }
        if (adopting)
            RemoveUnclaimed(write, changes);
        if (!write)
            return;
        adopting = false;
        Commit();
    }

    /// <summary>Entries that do not hold what was written, because somebody else changed them; mends them.</summary>
    internal int Audit(bool write)
    {
        var found = Maps.Frontends.Entries<FrontendKey, Frontend>();
        var wrong = found.Count(entry => !frontends.TryGetValue(entry.Key, out var mine) || mine != entry.Value);
        var missing = frontends.Count - (found.Count - found.Count(entry => !frontends.ContainsKey(entry.Key)));
        if (write && wrong + missing > 0)
        {
            Maps.Frontends.SetAll<FrontendKey, Frontend>(frontends.Keys.ToArray(), frontends.Values.ToArray());
            Maps.Frontends.RemoveAll<FrontendKey>(found.Where(entry => !frontends.ContainsKey(entry.Key)).Select(entry => entry.Key).ToArray());
        }
        return wrong + missing;
    }

    /// <summary>Those of <see cref="Departed"/> whose last connection ended, or whose time is over.</summary>
    internal List<Departed> Due() =>
        [.. departed.Values.Where(real => Maps.Backends[(int)real.Backend].Deadline <= Now || Live(real.Backend) <= 0)];

    /// <summary>Real servers of weight 0 whose deadline is over and that still have connections. They stay in the tables.</summary>
    internal List<Departed> Overdue()
    {
        var over = draining.Values.Where(real => Maps.Backends[(int)real.Backend].Deadline <= Now).ToList();
        foreach (var real in over.Where(real => Live(real.Backend) <= 0))
            draining.Remove(real.Backend);
        return [.. over.Where(real => draining.ContainsKey(real.Backend))];
    }

    /// <summary>What was left of its connections at the deadline has been ended.</summary>
    internal void Cut(Departed real) => draining.Remove(real.Backend);

    /// <summary>How long until the first of <see cref="Departed"/> or of those at weight 0 is due; null: there are none.</summary>
    internal TimeSpan? NextDue => departed.Count + draining.Count == 0 ? null
        : TimeSpan.FromTicks(Math.Max(0, departed.Keys.Concat(draining.Keys).Min(backend => Maps.Backends[(int)backend].Deadline) - Now) / 100);

    /// <summary>Lets a departed real server's record go; bindings of sockets to it are void from now on.</summary>
    internal void Forget(Departed real)
    {
        departed.Remove(real.Backend);
        FreeBackend(real.Backend);
    }

    internal long Live(uint backend) => Volatile.Read(ref Maps.Counters[(int)backend].Live);

    /// <summary>The generation of a real server that bindings of sockets must have.</summary>
    internal uint Generation(uint backend) => Maps.Backends[(int)backend].Generation;

    internal IEnumerable<RealServerStatistics> Statistics()
    {
        foreach (var ((network, service), served) in services)
        {
            foreach (var (endpoint, backend) in served.Backends)
                yield return Row(network, service, endpoint, backend);
        }
        foreach (var real in departed.Values)
        {
            if (real is { NetworkId: not null, ServiceId: not null, EndpointId: not null })
                yield return Row(real.NetworkId, real.ServiceId, real.EndpointId, real.Backend);
        }
    }

    private long Now => (long)(time.GetTimestamp() * (1e9 / time.TimestampFrequency));

    private RealServerStatistics Row(string network, string service, string endpoint, uint backend)
    {
        ref var counters = ref Maps.Counters[(int)backend];
        return new RealServerStatistics(BalancerNames.Ebpf, network, service, endpoint, Math.Max(0, counters.Live), counters.Connections, Packets: null);
    }

    private static VipChange Change(string network, string what, bool mended = false) => new(BalancerNames.Ebpf, network, "sockets", what, mended);

    private static bool Same(VipService a, VipService b) => ReferenceEquals(a, b)
        || (a.Scheduler == b.Scheduler && a.AffinitySeconds == b.AffinitySeconds && a.DrainSeconds == b.DrainSeconds && a.Name == b.Name
            && a.Addresses.SequenceEqual(b.Addresses) && a.Ports.SequenceEqual(b.Ports) && a.RealServers.SequenceEqual(b.RealServers));

    private void Adopt()
    {
        for (var i = 1; i < Maps.Services.Length; i++)
        {
            if (Maps.Services[i].Identity is var identity and not 0 && serviceIndices.TakeAt(i, 1))
            {
                serviceByIdentity[identity] = (uint)i;
                unclaimedServices.Add((uint)i);
            }
        }
        for (var i = 1; i < Maps.Backends.Length; i++)
        {
            if (Maps.Backends[i] is { Identity: var identity and not 0, Generation: not 0 } && backendIndices.TakeAt(i, 1))
            {
                backendByIdentity[identity] = (uint)i;
                unclaimedBackends.Add((uint)i);
            }
        }
        foreach (var (key, value) in Maps.Frontends.Entries<FrontendKey, Frontend>())
        {
            frontends[key] = value;
            var range = ((int)value.SlotBase, (int)value.SlotCount);
            if (value.SlotCount > 0 && unclaimedSlots.Add(range) && !slotIndices.TakeAt(range.Item1, range.Item2))
                unclaimedSlots.Remove(range);
        }
    }

    private void Reconcile(VipNetwork network, VipService service, Served? served, bool write, List<VipChange> changes)
    {
        var identity = Identity(network.Id, service.Id, "");
        var known = serviceByIdentity.TryGetValue(identity, out var index);
        if (!known)
        {
            changes.Add(Change(network.Name, $"service {service.Name} added"));
            if (!write)
                return;
            index = (uint)Take(serviceIndices, 1);
            Maps.Services[(int)index] = new ServiceRecord { Identity = identity, Turn = RandomTurn(), Turn6 = RandomTurn() };
            serviceByIdentity[identity] = index;
        }
        unclaimedServices.Remove(index);
        var next = new Served { Service = service, NetworkName = network.Name, Vni = (uint)network.Vni, Index = index, Pass = pass };
        if (served is not null && !write)
            served.Pass = pass;

        var said = changes.Count;
        foreach (var real in service.RealServers)
        {
            if (ReconcileBackend(network, service, real, index, write, said: known ? changes : null) is { } backend)
                next.Backends[real.EndpointId] = backend;
        }
        foreach (var (endpoint, backend) in served?.Backends ?? [])
        {
            if (next.Backends.ContainsKey(endpoint))
                continue;
            changes.Add(Change(network.Name, $"service {service.Name}: real server {endpoint} removed"));
            if (write)
                Depart(new Departed(backend, network.Id, service.Id, endpoint), service.DrainSeconds);
        }
        ReconcileFrontends(network, service, served, next, write, changed: known && changes.Count == said ? changes : null);
        if (write)
            services[(network.Id, service.Id)] = next;
    }

    private uint? ReconcileBackend(VipNetwork network, VipService service, RealServer real, uint index, bool write, List<VipChange>? said)
    {
        var identity = Identity(network.Id, service.Id, real.EndpointId);
        var wanted = new BackendRecord
        {
            Identity = identity,
            Flags = real.Weight > 0 ? BackendFlags.Accepts : BackendFlags.None,
            Address4 = NetworkOrder.Address4(real.Address4),
            Address6 = real.Address6 is null ? default : Address16.From(real.Address6),
            Service = index,
        };
        if (backendByIdentity.TryGetValue(identity, out var backend))
        {
            ref var record = ref Maps.Backends[(int)backend];
            // With another address it is another real server to the sockets that are bound to it.
            if (record.Address4 == wanted.Address4 && record.Address6 == wanted.Address6)
            {
                unclaimedBackends.Remove(backend);
                // After a restart its drain goes on where it was: the deadline is in the tables.
                if (write && real.Weight <= 0 && record.Deadline != 0 && record.Flags == wanted.Flags)
                    draining.TryAdd(backend, new Departed(backend, network.Id, service.Id, real.EndpointId));
                if (record.Flags == wanted.Flags && (record.Deadline != 0) == (real.Weight <= 0) && record.Service == index)
                    return backend;
                said?.Add(Change(network.Name, $"service {service.Name}: real server {real.EndpointId} {(real.Weight > 0 ? "takes" : "takes no")} new connections"));
                if (write)
                {
                    record.Service = index;
                    record.Flags = wanted.Flags;
                    departed.Remove(backend);
                    Drain(ref record, new Departed(backend, network.Id, service.Id, real.EndpointId), real.Weight, service.DrainSeconds);
                }
                return backend;
            }
            if (write)
            {
                unclaimedBackends.Remove(backend);
                Depart(new Departed(backend, network.Id, service.Id, real.EndpointId), 0);
            }
        }
        said?.Add(Change(network.Name, $"service {service.Name}: real server {real.EndpointId} added"));
        if (!write)
            return null;
        backend = (uint)Take(backendIndices, 1);
        wanted.Generation = NextGeneration();
        Maps.Counters[(int)backend] = default;
        Drain(ref wanted, new Departed(backend, network.Id, service.Id, real.EndpointId), real.Weight, service.DrainSeconds);
        Maps.Backends[(int)backend] = wanted;
        backendByIdentity[identity] = backend;
        return backend;
    }

    /// <summary>At weight 0 its connections have until the deadline; one that drained already keeps it.</summary>
    private void Drain(ref BackendRecord record, Departed real, int weight, int seconds)
    {
        if (weight > 0)
        {
            record.Deadline = 0;
            draining.Remove(real.Backend);
            return;
        }
        if (record.Deadline == 0)
            record.Deadline = DeadlineIn(seconds);
        draining[real.Backend] = real;
    }

    private long DeadlineIn(int seconds) => Now + Math.Max(0, seconds) * 1_000_000_000L;

    private void ReconcileFrontends(VipNetwork network, VipService service, Served? served, Served next, bool write, List<VipChange>? changed)
    {
        foreach (var address in service.Addresses)
        {
            var six = address.AddressFamily == AddressFamily.InterNetworkV6;
            var (slots, even) = AliasTable.Build(
            [
                .. service.RealServers
                    .Where(real => next.Backends.ContainsKey(real.EndpointId) && (six ? real.Address6 : real.Address4) is not null)
                    .Select(real => (next.Backends[real.EndpointId], real.Weight)),
            ]);
            var anywhere = new FrontendKey(Address16.From(address), (uint)network.Vni, 0, 0);
            var range = PlaceSlots(anywhere, slots, write);
            var byClient = service.Scheduler is "sh" or "mh";
            var value = new Frontend(
                (uint)range.Start, (uint)slots.Length, next.Index,
                byClient ? uint.MaxValue : (uint)Math.Max(0, service.AffinitySeconds), 0,
                (even ? FrontendFlags.Even : 0) | (byClient ? FrontendFlags.ByClient : 0) | (six ? FrontendFlags.Six : 0));
            if (range.Length > 0)
                next.Slots.Add(range);
            Want(anywhere, service.Ports.Count > 0 ? value with { Flags = value.Flags | FrontendFlags.PortsOnly } : value);
            foreach (var port in service.Ports)
                Want(anywhere with { Port = NetworkOrder.Port(port.Port), Protocol = port.Protocol }, value with { Target = NetworkOrder.Port(port.Target) });
        }
        foreach (var key in served?.Frontends.Except(next.Frontends) ?? [])
        {
            changed?.Add(Change(network.Name, $"service {service.Name}: a frontend removed"));
            changed = null;
            if (write)
                remove.Add(key);
        }
        if (write)
            letGo.AddRange(served?.Slots.Except(next.Slots) ?? []);

        void Want(FrontendKey key, Frontend value)
        {
            next.Frontends.Add(key);
            if (frontends.TryGetValue(key, out var have) && have == value)
                return;
            changed?.Add(Change(network.Name, $"service {service.Name}: frontend changed"));
            changed = null;
            if (write)
                set[key] = value;
        }
    }

    /// <returns>Where those slots are: at the frontend's present place when that holds them already, else a new one.</returns>
    private (int Start, int Length) PlaceSlots(FrontendKey anywhere, Slot[] slots, bool write)
    {
        if (slots.Length == 0)
            return (0, 0);
        if (frontends.TryGetValue(anywhere, out var have) && have.SlotCount == slots.Length)
        {
            var same = true;
            for (var i = 0; i < slots.Length && same; i++)
                same = Maps.Slots[(int)have.SlotBase + i] == slots[i];
            var range = ((int)have.SlotBase, slots.Length);
            if (same)
            {
                unclaimedSlots.Remove(range);
                return range;
            }
        }
        if (!write)
            return (-1, slots.Length);
        var start = Take(slotIndices, slots.Length);
        for (var i = 0; i < slots.Length; i++)
            Maps.Slots[start + i] = slots[i];
        return (start, slots.Length);
    }

    private void RemoveService((string Network, string Service) key, Served served)
    {
        services.Remove(key);
        remove.AddRange(served.Frontends);
        letGo.AddRange(served.Slots);
        foreach (var (endpoint, backend) in served.Backends)
            Depart(new Departed(backend, key.Network, key.Service, endpoint), served.Service.DrainSeconds);
        FreeService(served.Index);
    }

    /// <summary>What an earlier process left and the configuration no longer has.</summary>
    private void RemoveUnclaimed(bool write, List<VipChange> changes)
    {
        var wanted = services.Values.SelectMany(served => served.Frontends).ToHashSet();
        var stale = frontends.Keys.Where(key => !wanted.Contains(key)).ToArray();
        foreach (var service in unclaimedServices)
            changes.Add(Change("(left behind)", $"service with number {service} removed"));
        if (!write)
            return;
        remove.AddRange(stale);
        letGo.AddRange(unclaimedSlots);
        foreach (var backend in unclaimedBackends)
            Depart(new Departed(backend, null, null, null), new VipService { Id = "", Name = "", Addresses = [] }.DrainSeconds);
        foreach (var service in unclaimedServices)
            FreeService(service);
        unclaimedServices.Clear();
        unclaimedBackends.Clear();
        unclaimedSlots.Clear();
    }

    /// <summary>No new connections, datagrams go elsewhere at once, and from the deadline on nothing is left.</summary>
    private void Depart(Departed real, int drainSeconds)
    {
        ref var record = ref Maps.Backends[(int)real.Backend];
        // One that was leaving already keeps its deadline: a restarted daemon does not begin anew.
        if (record.Deadline == 0)
            record.Deadline = DeadlineIn(drainSeconds);
        record.Flags = BackendFlags.Removed;
        draining.Remove(real.Backend);
        departed[real.Backend] = real;
    }

    private void Commit()
    {
        foreach (var key in remove)
        {
            if (!set.ContainsKey(key))
                frontends.Remove(key);
        }
        var dead = remove.Where(key => !set.ContainsKey(key)).ToArray();
        if (set.Count > 0)
        {
            var room = frontends.Count + dead.Length + set.Keys.Count(key => !frontends.ContainsKey(key));
            if (room > Maps.Capacity.Frontends)
                Grow(new SocketCapacity(room + room / 4, 0, 0, 0));
            Maps.Frontends.SetAll<FrontendKey, Frontend>(set.Keys.ToArray(), set.Values.ToArray());
            foreach (var (key, value) in set)
                frontends[key] = value;
        }
        if (dead.Length > 0)
            Maps.Frontends.RemoveAll<FrontendKey>(dead);
        foreach (var (start, length) in letGo)
            Rest(slotIndices, start, length);
        set.Clear();
        remove.Clear();
        letGo.Clear();
    }

    private void FreeService(uint index)
    {
        serviceByIdentity.Remove(Maps.Services[(int)index].Identity);
        Maps.Services[(int)index].Identity = 0;
        Rest(serviceIndices, (int)index, 1);
    }

    private void FreeBackend(uint index)
    {
        ref var record = ref Maps.Backends[(int)index];
        Volatile.Write(ref record.Generation, 0);
        if (backendByIdentity.TryGetValue(record.Identity, out var current) && current == index)
            backendByIdentity.Remove(record.Identity);
        record.Identity = 0;
        record.Deadline = 0;
        Rest(backendIndices, (int)index, 1);
    }

    private void Rest(RangeAllocator allocator, int start, int length) => resting.Enqueue((time.GetTimestamp(), allocator, start, length));

    private int Take(RangeAllocator allocator, int length)
    {
        while (resting.TryPeek(out var rested) && time.GetElapsedTime(rested.Since) >= reuseAfter)
        {
            resting.Dequeue();
            rested.Allocator.Free(rested.Start, rested.Length);
        }
        int taken;
        while ((taken = allocator.Take(length)) < 0)
        {
            var more = allocator.Capacity + length + 1;
            Grow(new SocketCapacity(0, allocator == serviceIndices ? more : 0, allocator == backendIndices ? more : 0, allocator == slotIndices ? more : 0));
        }
        return taken;
    }

    private static ulong RandomTurn() => BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8));

    /// <summary>Numbers never come twice, also over restarts: the counter is kept with the (else unused) service 0.</summary>
    private uint NextGeneration() => (uint)++Maps.Services[0].Turn;

    /// <summary>Larger tables, with the same indices, put in place of the present ones without a gap.</summary>
    private void Grow(SocketCapacity need)
    {
        var old = Maps;
        var grown = SocketMaps.Create(old.Capacity.Holding(need), keep: old);
        for (var i = 0; i < old.Services.Length; i++)
            grown.Services[i] = old.Services[i];
        for (var i = 0; i < old.Slots.Length; i++)
            grown.Slots[i] = old.Slots[i];
        var before = new BackendCounters[old.Backends.Length];
        for (var i = 0; i < old.Backends.Length; i++)
        {
            grown.Backends[i] = old.Backends[i];
            grown.Counters[i] = before[i] = old.Counters[i];
        }
        grown.Frontends.SetAll<FrontendKey, Frontend>(frontends.Keys.ToArray(), frontends.Values.ToArray());
        Maps = grown;
        installed(grown);
        // What programs counted in the old tables between the copy and their replacement.
        for (var i = 0; i < before.Length; i++)
        {
            ref var late = ref old.Counters[i];
            ref var now = ref grown.Counters[i];
            Interlocked.Add(ref now.Connections, late.Connections - before[i].Connections);
            Interlocked.Add(ref now.Live, late.Live - before[i].Live);
            Interlocked.Add(ref now.Datagrams, late.Datagrams - before[i].Datagrams);
        }
        old.DisposeReplaced();
        foreach (var (allocator, capacity) in new[] { (serviceIndices, grown.Services.Length), (backendIndices, grown.Backends.Length), (slotIndices, grown.Slots.Length) })
        {
            if (capacity > allocator.Capacity)
                allocator.Grow(capacity);
        }
    }

    /// <summary>FNV-1a over the three names: 64 bits are plenty for the few hundred thousand objects of one node.</summary>
    private static ulong Identity(string network, string service, string endpoint)
    {
        var hash = 0xcbf29ce484222325;
        foreach (var name in (ReadOnlySpan<string>)[network, service, endpoint])
        {
            foreach (var character in name)
                hash = (hash ^ character) * 0x100000001b3;
            hash = (hash ^ 0xffff) * 0x100000001b3;
        }
        return hash == 0 ? 1 : hash;
    }

    private sealed class Served
    {
        internal required VipService Service { get; init; }
        internal required string NetworkName { get; init; }
        internal required uint Vni { get; init; }
        internal required uint Index { get; init; }
        internal int Pass { get; set; }
        internal Dictionary<string, uint> Backends { get; } = [];
        internal List<FrontendKey> Frontends { get; } = [];
        internal List<(int Start, int Length)> Slots { get; } = [];
    }
}
