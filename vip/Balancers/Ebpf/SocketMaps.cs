using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>Room in the tables that grow with the configuration.</summary>
internal readonly record struct SocketCapacity(int Frontends, int Services, int Backends, int Slots)
{
    internal static SocketCapacity Least { get; } = new(2048, 512, 2048, 4096);

    /// <summary>At least this, in powers of two.</summary>
    internal SocketCapacity Holding(SocketCapacity need) => new(
        Larger(Frontends, need.Frontends), Larger(Services, need.Services), Larger(Backends, need.Backends), Larger(Slots, need.Slots));

    private static int Larger(int have, int need)
    {
        while (have < need)
            have *= 2;
        return have;
    }
}

/// <summary>
/// The maps of one daemon. Those with sockets' and clients' state last; those that hold the configuration are replaced
/// by larger ones when they must be. The names are those of the pins.
/// </summary>
internal sealed class SocketMaps : IDisposable
{
    private const int Containers = 8192, FlowEntries = 65536, Clients = 65536;
    private static readonly string[] names = ["netns", "frontends", "services", "backends", "counters", "slots", "sockets", "flows", "affinity"];
    private readonly Dictionary<string, BpfMap> maps;

    /// <summary>Pins of one daemon's maps.</summary>
    internal static int Count => names.Length;

    private SocketMaps(Dictionary<string, BpfMap> maps)
    {
        this.maps = maps;
        Services = new BpfMappedArray<ServiceRecord>(maps["services"]);
        Backends = new BpfMappedArray<BackendRecord>(maps["backends"]);
        Counters = new BpfMappedArray<BackendCounters>(maps["counters"]);
        Slots = new BpfMappedArray<Slot>(maps["slots"]);
    }

    internal BpfMap Netns => maps["netns"];
    internal BpfMap Frontends => maps["frontends"];
    internal BpfMap Sockets => maps["sockets"];
    internal BpfMap Flows => maps["flows"];
    internal BpfMappedArray<ServiceRecord> Services { get; }
    internal BpfMappedArray<BackendRecord> Backends { get; }
    internal BpfMappedArray<BackendCounters> Counters { get; }
    internal BpfMappedArray<Slot> Slots { get; }

    internal SocketCapacity Capacity => new(Frontends.Shape.MaxEntries, Services.Length, Backends.Length, Slots.Length);

    internal SocketMapFds Fds => new(maps["netns"].Fd, maps["frontends"].Fd, maps["services"].Fd, maps["backends"].Fd, maps["counters"].Fd,
        maps["slots"].Fd, maps["sockets"].Fd, maps["flows"].Fd, maps["affinity"].Fd);

    /// <summary>New maps, all or only those of the configuration.</summary>
    /// <param name="keep">Where sockets' and clients' state is; null: nowhere yet.</param>
    /// <exception cref="OverlayNet.Kernel.KernelException">The kernel refused.</exception>
    internal static SocketMaps Create(SocketCapacity capacity, SocketMaps? keep = null)
    {
        var made = new Dictionary<string, BpfMap>();
        try
        {
            foreach (var name in names)
                made[name] = keep is not null && Lasts(name) ? keep.maps[name] : BpfMap.Create(Shape(name, capacity));
            var maps = new SocketMaps(made);
            maps.Services[0].Identity = SocketTables.Version;
            return maps;
        }
        catch
        {
            foreach (var (name, map) in made)
            {
                if (keep is null || !Lasts(name))
                    map.Dispose();
            }
            throw;
        }
    }

    /// <summary>What an earlier process pinned; null when it is not all there, or of another version.</summary>
    internal static SocketMaps? Adopt(string directory)
    {
        var found = new Dictionary<string, BpfMap>();
        foreach (var name in names)
        {
            if (BpfFileSystem.OpenMap($"{directory}/{name}") is { } map)
                found[name] = map;
        }
        if (found.Count == names.Length)
        {
            var capacity = new SocketCapacity(found["frontends"].Shape.MaxEntries, found["services"].Shape.MaxEntries,
                found["backends"].Shape.MaxEntries, found["slots"].Shape.MaxEntries);
            if (names.All(name => SameShape(found[name].Shape, Shape(name, capacity))))
            {
                var maps = new SocketMaps(found);
                if (maps.Services[0].Identity == SocketTables.Version)
                    return maps;
                maps.Dispose();
                return null;
            }
        }
        foreach (var map in found.Values)
            map.Dispose();
        return null;
    }

    internal void Pin(string directory)
    {
        foreach (var (name, map) in maps)
            BpfFileSystem.Pin(map, $"{directory}/{name}");
    }

    /// <summary>Closes the maps of the configuration only: their successor uses the others.</summary>
    internal void DisposeReplaced()
    {
        foreach (var name in names.Where(Lasts))
            maps.Remove(name);
        Dispose();
    }

    public void Dispose()
    {
        Services.Dispose();
        Backends.Dispose();
        Counters.Dispose();
        Slots.Dispose();
        foreach (var map in maps.Values)
            map.Dispose();
    }

    private static bool Lasts(string name) => name is "netns" or "sockets" or "flows" or "affinity";

    // LRU maps evict one by one and some types round sizes up: what an earlier process made need not be equal in room.
    private static bool SameShape(BpfMapShape found, BpfMapShape wanted) =>
        (found.Type, found.KeySize, found.ValueSize) == (wanted.Type, wanted.KeySize, wanted.ValueSize);

    private static BpfMapShape Shape(string name, SocketCapacity capacity)
    {
        var label = "on_" + name;
        return name switch
        {
            "netns" => new(BpfMapType.Hash, label, sizeof(ulong), NetnsNetworks.Size, Containers, BpfMapFlags.NoPreallocation),
            "frontends" => new(BpfMapType.Hash, label, FrontendKey.Size, Frontend.Size, capacity.Frontends, BpfMapFlags.NoPreallocation),
            "services" => new(BpfMapType.Array, label, sizeof(uint), ServiceRecord.Size, capacity.Services, BpfMapFlags.Mappable),
            "backends" => new(BpfMapType.Array, label, sizeof(uint), BackendRecord.Size, capacity.Backends, BpfMapFlags.Mappable),
            "counters" => new(BpfMapType.Array, label, sizeof(uint), BackendCounters.Size, capacity.Backends, BpfMapFlags.Mappable),
            "slots" => new(BpfMapType.Array, label, sizeof(uint), Slot.Size, capacity.Slots, BpfMapFlags.Mappable),
            "sockets" => new(BpfMapType.SocketStorage, label, sizeof(int), SocketBinding.Size, 0, BpfMapFlags.NoPreallocation),
            "flows" => new(BpfMapType.LruHash, label, FlowKey.Size, Flow.Size, FlowEntries),
            "affinity" => new(BpfMapType.LruHash, label, AffinityKey.Size, Affinity.Size, Clients),
            _ => throw new ArgumentOutOfRangeException(nameof(name), name, "no such map"),
        };
    }
}
