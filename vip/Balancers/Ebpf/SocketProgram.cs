using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <summary>The maps the programs use, by descriptor.</summary>
internal readonly record struct SocketMapFds(int Netns, int Frontends, int Services, int Backends, int Counters, int Slots, int Sockets, int Flows, int Affinity);

/// <summary>
/// What the programs of the socket layer have in common, as pieces of assembly. r6 is the context throughout; r9 the
/// port asked for, in network order; the frame holds keys and values by the offsets below. Fields of struct
/// bpf_sock_addr and which hook may read or write them: linux/bpf.h and net/core/filter.c (sock_addr_is_valid_access).
/// </summary>
internal sealed partial class SocketProgram(SocketMapFds maps, bool six)
{
    private const int UserAddress4 = 4, UserAddress6 = 8, UserPort = 24, Protocol = 36, SocketPointer = 64;
    private const int ConnectionRefused = -111, CreateStorage = 1;

    // The frame, downwards from r10.
    private const int Netns = -8, Key = -32, FlowKeyAt = -64, FlowAt = -104, AffinityKeyAt = -120, AffinityAt = -136,
        Real = -152, RealPort = -160, Backend = -164, Generation = -168, Index = -172, Now = -184, Fraction = -192, SocketCookie = -200;

    /// <summary>Datagram flows are forgotten after so long without a datagram, like conntrack's streams (nf_conntrack_udp_timeout_stream).</summary>
    private const ulong IdleNs = 120_000_000_000;

    private readonly BpfAssembler b = new();
    private readonly BpfLabel pass = new("pass");
    private readonly BpfLabel refuse = new("refuse");
    private bool canRefuse;

    /// <summary>connect4, connect6: a stream, or a datagram socket that picks a peer.</summary>
    internal static BpfInstruction[] Connect(SocketMapFds maps, bool six)
    {
        var p = new SocketProgram(maps, six);
        var (b, elsewhere) = (p.b, new BpfLabel("elsewhere"));
        p.Begin();
        p.FindNetns(p.pass);
        p.ReadDestination();
        p.FindFrontend(elsewhere, null);
        p.ReadClock();
        p.Select(elsewhere);
        p.ReadReal();
        p.BindConnected();
        p.RememberDatagramPeer();
        p.WriteDestination();
        b.Jump(p.pass);

        // A socket that now goes elsewhere forgets the VIP it was bound to before.
        b.Mark(elsewhere);
        p.GetStorage(create: false);
        b.JumpIf(BpfCondition.Equal, R0, 0, p.pass);
        b.Move(R8, R0);
        p.ReleaseBinding();
        b.LoadMap(R1, maps.Sockets);
        b.Load(BpfSize.Double, R2, R6, SocketPointer);
        b.Call(BpfHelper.SocketStorageDelete);
        return p.End();
    }

    /// <summary>sendmsg4, sendmsg6: one datagram with a destination of its own.</summary>
    internal static BpfInstruction[] SendMessage(SocketMapFds maps, bool six)
    {
        var p = new SocketProgram(maps, six);
        var b = p.b;
        BpfLabel slow = new("slow"), chosen = new("chosen"), remembered = new("remembered"), rewrite = new("rewrite"), fill = new("fill"), stale = new("stale");
        p.Begin();
        p.ReadDestination();

        // Most sockets speak to one VIP: what is remembered with the socket answers without any look-up by key.
        p.GetStorage(create: false);
        b.JumpIf(BpfCondition.Equal, R0, 0, slow);
        b.Move(R7, R0);
        p.JumpUnlessAddress(R7, SocketBinding.VipAt, Key, slow);
        b.Load(BpfSize.Half, R1, R7, SocketBinding.VipPortAt);
        b.JumpIf(BpfCondition.NotEqual, R1, R9, slow);
        p.ReadClock();
        p.CheckBinding(R7, SocketBinding.BackendAt, SocketBinding.GenerationAt, SocketBinding.LastAt, slow, flagsAt: SocketBinding.FlagsAt);
        p.CopyAddress(R7, SocketBinding.RealAt);
        b.Load(BpfSize.Half, R1, R7, SocketBinding.RealPortAt);
        b.Store(BpfSize.Half, Frame, RealPort, R1);
        b.Jump(rewrite);

        b.Mark(slow);
        p.FindNetns(p.pass);
        p.FindFrontend(p.pass, 17);
        p.ReadClock();
        p.ReadSocketCookie();
        p.WriteFlowKey(Key, R9, FlowKey.ToReal);
        p.Lookup(maps.Flows, FlowKeyAt);
        b.JumpIf(BpfCondition.Equal, R0, 0, stale);
        b.Move(R7, R0);
        p.CheckBinding(R7, Flow.BackendAt, Flow.GenerationAt, Flow.LastAt, stale);
        p.CopyAddress(R7, Flow.AddressAt);
        b.Load(BpfSize.Half, R1, R7, Flow.PortAt);
        b.Store(BpfSize.Half, Frame, RealPort, R1);
        b.Jump(chosen);

        b.Mark(stale);
        p.Select(p.pass);
        p.ReadReal();
        p.WriteFlow(Real, RealPort);
        p.UpdateFlow();
        b.Mark(chosen);
        p.RememberVip();

        // A connected socket keeps what connect(2) bound; so does one whose binding is alive, or another thread of the
        // socket could send to half of an old and half of a new one.
        p.GetStorage(create: true);
        b.JumpIf(BpfCondition.Equal, R0, 0, rewrite);
        b.Move(R8, R0);
        b.Load(BpfSize.Word, R1, R8, SocketBinding.FlagsAt);
        b.JumpIf(BpfCondition.AnyBit, R1, (int)SocketBinding.Connected, rewrite);
        b.Load(BpfSize.Word, R1, R8, SocketBinding.GenerationAt);
        b.JumpIf(BpfCondition.Equal, R1, 0, fill);
        p.CheckBinding(R8, SocketBinding.BackendAt, SocketBinding.GenerationAt, SocketBinding.LastAt, fill, keep: true);
        b.Jump(rewrite);
        b.Mark(fill);
        p.FillBinding(flags: 0);

        b.Mark(rewrite);
        p.Lookup(maps.Counters, Backend);
        b.JumpIf(BpfCondition.Equal, R0, 0, remembered);
        b.Move(R1, 1);
        b.AtomicAdd(BpfSize.Double, R0, BackendCounters.DatagramsAt, R1);
        b.Mark(remembered);
        p.WriteDestination();
        return p.End();
    }

    /// <summary>recvmsg4, recvmsg6: the sender's address of a datagram, on its way to the program that asked for it.</summary>
    internal static BpfInstruction[] ReceiveMessage(SocketMapFds maps, bool six)
    {
        var p = new SocketProgram(maps, six);
        var b = p.b;
        var other = new BpfLabel("other");
        p.Begin();
        p.GetStorage(create: false);
        b.JumpIf(BpfCondition.Equal, R0, 0, p.pass);
        b.Move(R7, R0);
        p.ReadDestination();
        p.ShowVipIfReal(other);

        b.Mark(other);
        p.ReadSocketCookie();
        p.WriteFlowKey(Key, R9, FlowKey.ToVip);
        p.Lookup(maps.Flows, FlowKeyAt);
        b.JumpIf(BpfCondition.Equal, R0, 0, p.pass);
        p.CopyAddress(R0, Flow.AddressAt);
        b.Load(BpfSize.Half, R1, R0, Flow.PortAt);
        b.Store(BpfSize.Half, Frame, RealPort, R1);
        p.WriteDestination();
        return p.End();
    }

    /// <summary>getpeername4, getpeername6: a program that asks sees the VIP it connected to.</summary>
    internal static BpfInstruction[] GetPeerName(SocketMapFds maps, bool six)
    {
        var p = new SocketProgram(maps, six);
        p.Begin();
        p.GetStorage(create: false);
        p.b.JumpIf(BpfCondition.Equal, R0, 0, p.pass);
        p.b.Move(R7, R0);
        p.ReadDestination();
        p.ShowVipIfReal(p.pass);
        return p.End();
    }

    /// <summary>sock_release: a connected socket is closed.</summary>
    internal static BpfInstruction[] Release(SocketMapFds maps)
    {
        var p = new SocketProgram(maps, six: false);
        var b = p.b;
        p.Begin();
        b.LoadMap(R1, maps.Sockets);
        b.Move(R2, R6);
        b.Move(R3, 0);
        b.Move(R4, 0);
        b.Call(BpfHelper.SocketStorageGet);
        b.JumpIf(BpfCondition.Equal, R0, 0, p.pass);
        b.Move(R8, R0);
        p.ReleaseBinding();
        return p.End();
    }
}
