using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Fence;

/// <summary>
/// The gate in BPF at both directions of the VIP's interfaces, with its deadline on the boot-time clock in mapped memory:
/// a step of the wall clock does not move it and a renewal costs no system call. Pinned, so it outlives the process, shut.
/// It stands before everything the wire brings and takes; local clients and other interfaces are <see cref="NftGate"/>'s part.
/// </summary>
public sealed class BpfGate : IFenceGate
{
    /// <summary>Not below the balancer's pins, which are swept when no container uses them.</summary>
    public const string PinRoot = $"{BpfFileSystem.Root}/overlaynet-vip";

    private readonly string _pins;
    private readonly BpfMap _map;
    private readonly BpfMappedArray<ulong> _deadline;
    private readonly List<BpfObject> _objects = [];

    /// <summary>Builds the gate, shut, in the calling thread's network namespace; one of that name goes when this one is in place.</summary>
    /// <exception cref="KernelException">The kernel refused: no TCX (before Linux 6.6), no CAP_BPF, no such interface.</exception>
    public BpfGate(FenceGateConfig config)
    {
        _pins = $"{PinRoot}/{config.Name}";
        _map = BpfMap.Create(new BpfMapShape(BpfMapType.Array, "on.vip.deadline", sizeof(uint), sizeof(ulong), 1, BpfMapFlags.Mappable));
        try
        {
            _deadline = new BpfMappedArray<ulong>(_map);
            BpfFileSystem.CreateDirectory(_pins);
            using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
            var links = new RouteLinks(route);
            foreach (var name in config.Interfaces.Distinct())
            {
                var link = links.Require(name);
                Attach(config, link.Index, BpfAttachType.TcxIngress, $"in-{name.Replace('.', '_')}");
                Attach(config, link.Index, BpfAttachType.TcxEgress, $"out-{name.Replace('.', '_')}");
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string Name => "bpf boot time";

    public void SetDeadline(TimeSpan bootTime) =>
        Volatile.Write(ref _deadline[0], bootTime == TimeSpan.MaxValue ? ulong.MaxValue : (ulong)Math.Max(0, bootTime.Ticks) * 100);

    public void Remove()
    {
        foreach (var link in _objects.OfType<BpfLink>())
            link.Detach();
        BpfFileSystem.RemoveDirectory(_pins);
    }

    /// <summary>Takes away the gate that an earlier process left under a name; none is fine.</summary>
    public static void Remove(string name) => BpfFileSystem.RemoveDirectory($"{PinRoot}/{name}");

    public void Dispose()
    {
        _deadline?.Dispose();
        _map.Dispose();
        foreach (var item in _objects)
            item.Dispose();
    }

    private void Attach(FenceGateConfig config, int interfaceIndex, BpfAttachType type, string pin)
    {
        var program = BpfProgram.Load(BpfProgramType.SchedulerClassifier, "on.vip.gate", BpfGateProgram.Build(config, _map, type), type);
        _objects.Add(program);
        var link = BpfLink.AttachTcx(program, interfaceIndex, type, first: true);
        _objects.Add(link);
        BpfFileSystem.Pin(link, $"{_pins}/{pin}");
    }
}
