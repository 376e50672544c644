using System.Net;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.UnitTests.Vip.Ebpf;

/// <summary>Programs and process agree on every offset; the verifier's opinion is for the cluster tests.</summary>
public class SocketProgramTests
{
    private static readonly SocketMapFds maps = new(11, 12, 13, 14, 15, 16, 17, 18, 19);

    [Fact]
    public void MemoryImagesHaveTheOffsetsTheProgramsUse()
    {
        Assert.Equal(FrontendKey.Size, Unsafe.SizeOf<FrontendKey>());
        var key = MemoryMarshal.AsBytes<FrontendKey>(new[] { new FrontendKey(new Address16(1, 2), 3, 4, 5) });
        Assert.Equal((1, 3, 4, 5), (key[FrontendKey.AddressAt], key[FrontendKey.NetworkAt], key[FrontendKey.PortAt], key[FrontendKey.ProtocolAt]));

        Assert.Equal(Frontend.Size, Unsafe.SizeOf<Frontend>());
        var value = MemoryMarshal.AsBytes<Frontend>(new[] { new Frontend(1, 2, 3, 4, 5, (FrontendFlags)6) });
        Assert.Equal((1, 2, 3, 4, 5, 6), (value[Frontend.SlotBaseAt], value[Frontend.SlotCountAt], value[Frontend.ServiceAt],
            value[Frontend.AffinityAt], value[Frontend.TargetAt], value[Frontend.FlagsAt]));

        Assert.Equal(Slot.Size, Unsafe.SizeOf<Slot>());
        var slot = MemoryMarshal.AsBytes<Slot>(new[] { new Slot(1, 2, 3) });
        Assert.Equal((1, 2, 3), (slot[Slot.ThresholdAt], slot[Slot.FirstAt], slot[Slot.SecondAt]));

        Assert.Equal((BackendRecord.Size, BackendCounters.Size, ServiceRecord.Size), (Unsafe.SizeOf<BackendRecord>(), Unsafe.SizeOf<BackendCounters>(), Unsafe.SizeOf<ServiceRecord>()));
        Assert.Equal((NetnsNetworks.Size, SocketBinding.Size), (Unsafe.SizeOf<NetnsNetworks>(), Unsafe.SizeOf<SocketBinding>()));
        Assert.Equal((FlowKey.Size, Flow.Size), (Unsafe.SizeOf<FlowKey>(), Unsafe.SizeOf<Flow>()));
        Assert.Equal((AffinityKey.Size, Affinity.Size), (Unsafe.SizeOf<AffinityKey>(), Unsafe.SizeOf<Affinity>()));
        Offsets<BackendRecord>((nameof(BackendRecord.Generation), BackendRecord.GenerationAt), (nameof(BackendRecord.Flags), BackendRecord.FlagsAt),
            (nameof(BackendRecord.Address4), BackendRecord.Address4At), (nameof(BackendRecord.Address6), BackendRecord.Address6At));
        Offsets<BackendCounters>((nameof(BackendCounters.Connections), BackendCounters.ConnectionsAt), (nameof(BackendCounters.Live), BackendCounters.LiveAt),
            (nameof(BackendCounters.Datagrams), BackendCounters.DatagramsAt));
        Offsets<ServiceRecord>((nameof(ServiceRecord.Turn), ServiceRecord.TurnAt), (nameof(ServiceRecord.Refused), ServiceRecord.RefusedAt), (nameof(ServiceRecord.Turn6), ServiceRecord.Turn6At));
        Offsets<SocketBinding>((nameof(SocketBinding.Vip), SocketBinding.VipAt), (nameof(SocketBinding.Real), SocketBinding.RealAt),
            (nameof(SocketBinding.VipPort), SocketBinding.VipPortAt), (nameof(SocketBinding.RealPort), SocketBinding.RealPortAt),
            (nameof(SocketBinding.Flags), SocketBinding.FlagsAt), (nameof(SocketBinding.Backend), SocketBinding.BackendAt),
            (nameof(SocketBinding.Generation), SocketBinding.GenerationAt), (nameof(SocketBinding.Last), SocketBinding.LastAt));
        Offsets<FlowKey>((nameof(FlowKey.Socket), FlowKey.SocketAt), (nameof(FlowKey.Address), FlowKey.AddressAt),
            (nameof(FlowKey.Port), FlowKey.PortAt), (nameof(FlowKey.Direction), FlowKey.DirectionAt));
        Offsets<Flow>((nameof(Flow.Address), Flow.AddressAt), (nameof(Flow.Port), Flow.PortAt), (nameof(Flow.Backend), Flow.BackendAt),
            (nameof(Flow.Generation), Flow.GenerationAt), (nameof(Flow.Last), Flow.LastAt));
        Offsets<AffinityKey>((nameof(AffinityKey.Netns), AffinityKey.NetnsAt), (nameof(AffinityKey.Service), AffinityKey.ServiceAt), (nameof(AffinityKey.Family), AffinityKey.FamilyAt));
        Offsets<Affinity>((nameof(Affinity.Backend), Affinity.BackendAt), (nameof(Affinity.Generation), Affinity.GenerationAt), (nameof(Affinity.Last), Affinity.LastAt));
    }

    [Fact]
    public void AddressesAreSixteenOctetsInNetworkOrder()
    {
        Assert.Equal(Address16.From(IPAddress.Parse("::ffff:10.1.2.3")), Address16.From(IPAddress.Parse("10.1.2.3")));
        Assert.Equal([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], MemoryMarshal.AsBytes<Address16>(new[] { Address16.From(IPAddress.Parse("2001:db8::7")) }).ToArray());
        Assert.Equal(0u, NetworkOrder.Address4(null));
        Assert.Equal([0x1f, 0x90], BitConverter.GetBytes(NetworkOrder.Port(8080)));
    }

    [Fact]
    public void ContainersNetworksAreSortedAndLimited()
    {
        Assert.Equal(NetnsNetworks.From([3, 1, 3, 2]), NetnsNetworks.From([1, 2, 3]));
        Assert.NotEqual(NetnsNetworks.From([1]), NetnsNetworks.From([1, 2]));
        Assert.Equal((uint)SocketTables.MaxNetworks, NetnsNetworks.From(Enumerable.Range(1, 20).Select(i => (uint)i)).Count);
    }

    [Fact]
    public void ProgramsEndAndUseTheFrameWithinItsLimit()
    {
        BpfInstruction[][] programs =
        [
            SocketProgram.Connect(maps, false), SocketProgram.Connect(maps, true), SocketProgram.SendMessage(maps, false), SocketProgram.SendMessage(maps, true),
            SocketProgram.ReceiveMessage(maps, false), SocketProgram.ReceiveMessage(maps, true), SocketProgram.GetPeerName(maps, false), SocketProgram.GetPeerName(maps, true),
            SocketProgram.Release(maps),
        ];
        Assert.All(programs, program =>
        {
            Assert.InRange(program.Length, 10, 1000);
            Assert.Equal(0x95, program[^1].Code);
            Assert.All(program, instruction => Assert.True((instruction.Code & 7) is not (2 or 3) || instruction.Destination != BpfRegister.Frame || instruction.Offset is >= -512 and < 0));
        });
    }

    private static void Offsets<T>(params (string Field, int At)[] fields) where T : struct
    {
        foreach (var (field, at) in fields)
            Assert.True(Marshal.OffsetOf<T>(field).ToInt32() == at, $"{typeof(T).Name}.{field} is at {Marshal.OffsetOf<T>(field)}, not {at}");
    }
}
