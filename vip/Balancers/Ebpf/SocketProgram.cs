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
internal sealed class SocketProgram(SocketMapFds maps, bool six)
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

    private void Begin() => b.Move(R6, R1);

    private BpfInstruction[] End()
    {
        b.Mark(pass);
        b.Move(R0, 1);
        b.Exit();
        // Only programs that choose a real server can refuse; the verifier does not take unreachable code.
        if (canRefuse)
        {
            b.Mark(refuse);
            b.Load(BpfSize.Word, R1, R8, Frontend.ServiceAt);
            b.Store(BpfSize.Word, Frame, Index, R1);
            Lookup(maps.Services, Index);
            var uncounted = new BpfLabel("uncounted");
            b.JumpIf(BpfCondition.Equal, R0, 0, uncounted);
            b.Move(R1, 1);
            b.AtomicAdd(BpfSize.Double, R0, ServiceRecord.RefusedAt, R1);
            b.Mark(uncounted);
            b.Move(R1, ConnectionRefused);
            b.Call(BpfHelper.SetReturnValue);
            b.Move(R0, 0);
            b.Exit();
        }
        return b.Assemble();
    }

    private void Lookup(int map, int key)
    {
        b.LoadMap(R1, map);
        b.Move(R2, Frame);
        b.Alu(BpfArithmetic.Add, R2, key);
        b.Call(BpfHelper.MapLookup);
    }

    private void Update(int map, int key, int value)
    {
        b.LoadMap(R1, map);
        b.Move(R2, Frame);
        b.Alu(BpfArithmetic.Add, R2, key);
        b.Move(R3, Frame);
        b.Alu(BpfArithmetic.Add, R3, value);
        b.Move(R4, 0);
        b.Call(BpfHelper.MapUpdate);
    }

    /// <summary>r0 = what is remembered with the socket, or null.</summary>
    private void GetStorage(bool create)
    {
        b.Load(BpfSize.Double, R2, R6, SocketPointer);
        b.LoadMap(R1, maps.Sockets);
        b.Move(R3, 0);
        b.Move(R4, create ? CreateStorage : 0);
        b.Call(BpfHelper.SocketStorageGet);
    }

    private void ReadClock()
    {
        b.Call(BpfHelper.KtimeGetCoarseNs);
        b.Store(BpfSize.Double, Frame, Now, R0);
    }

    /// <summary>r7 = the networks of the socket's network namespace.</summary>
    private void FindNetns(BpfLabel none)
    {
        b.Move(R1, R6);
        b.Call(BpfHelper.GetNetnsCookie);
        b.Store(BpfSize.Double, Frame, Netns, R0);
        Lookup(maps.Netns, Netns);
        b.JumpIf(BpfCondition.Equal, R0, 0, none);
        b.Move(R7, R0);
    }

    /// <summary>The context's address and port into the frontend key and r9.</summary>
    private void ReadDestination()
    {
        if (six)
        {
            for (var word = 0; word < 16; word += 4)
            {
                b.Load(BpfSize.Word, R1, R6, UserAddress6 + word);
                b.Store(BpfSize.Word, Frame, Key + word, R1);
            }
        }
        else
        {
            b.Store(BpfSize.Double, Frame, Key, 0);
            b.Store(BpfSize.Word, Frame, Key + 8, unchecked((int)0xffff0000)); // ::ffff: in memory order
            b.Load(BpfSize.Word, R1, R6, UserAddress4);
            b.Store(BpfSize.Word, Frame, Key + 12, R1);
        }
        b.Load(BpfSize.Word, R9, R6, UserPort);
    }

    /// <summary>The frame's real (or virtual) address into the context.</summary>
    private void WriteDestination()
    {
        for (var word = six ? 0 : 12; word < 16; word += 4)
        {
            b.Load(BpfSize.Word, R1, Frame, Real + word);
            b.Store(BpfSize.Word, R6, six ? UserAddress6 + word : UserAddress4, R1);
        }
        b.Load(BpfSize.Half, R1, Frame, RealPort);
        b.Store(BpfSize.Word, R6, UserPort, R1);
    }

    /// <summary>r8 = how the destination is answered on one of the networks at r7.</summary>
    /// <param name="protocol">The hook's only protocol; null: the context says.</param>
    private void FindFrontend(BpfLabel none, byte? protocol)
    {
        BpfLabel found = new("found"), ready = new("ready"), known = new("known");
        if (protocol is null)
        {
            b.Load(BpfSize.Word, R1, R6, Protocol);
            b.JumpIf(BpfCondition.Equal, R1, VipPort.Tcp, known);
            b.JumpIf(BpfCondition.NotEqual, R1, VipPort.Udp, none);
            b.Mark(known);
        }
        b.Store(BpfSize.Word, Frame, Key + FrontendKey.PortAt, 0);
        for (var i = 0; i < SocketTables.MaxNetworks; i++)
        {
            b.Load(BpfSize.Word, R1, R7, NetnsNetworks.CountAt);
            b.JumpIf(BpfCondition.LessOrEqual, R1, i, none);
            b.Load(BpfSize.Word, R1, R7, NetnsNetworks.NetworkAt + 4 * i);
            b.Store(BpfSize.Word, Frame, Key + FrontendKey.NetworkAt, R1);
            Lookup(maps.Frontends, Key);
            b.JumpIf(BpfCondition.NotEqual, R0, 0, found);
        }
        b.Jump(none);

        b.Mark(found);
        b.Load(BpfSize.Byte, R1, R0, Frontend.FlagsAt);
        b.Alu(BpfArithmetic.And, R1, (int)FrontendFlags.PortsOnly);
        b.JumpIf(BpfCondition.Equal, R1, 0, ready);
        b.Store(BpfSize.Half, Frame, Key + FrontendKey.PortAt, R9);
        if (protocol is { } fixedProtocol)
        {
            b.Store(BpfSize.Byte, Frame, Key + FrontendKey.ProtocolAt, fixedProtocol);
        }
        else
        {
            b.Load(BpfSize.Word, R1, R6, Protocol);
            b.Store(BpfSize.Byte, Frame, Key + FrontendKey.ProtocolAt, R1);
        }
        Lookup(maps.Frontends, Key);
        b.JumpIf(BpfCondition.Equal, R0, 0, none);
        b.Mark(ready);
        b.Move(R8, R0);
    }

    /// <summary>r7 = a real server for the frontend at r8; its index and generation in the frame.</summary>
    private void Select(BpfLabel none)
    {
        BpfLabel fresh = new("fresh"), turn = new("turn"), weighted = new("weighted"), slot = new("slot"), first = new("first"),
            server = new("server"), chosen = new("chosen"), counted = new("counted");
        canRefuse = true;
        b.Load(BpfSize.Word, R1, R8, Frontend.SlotCountAt);
        b.JumpIf(BpfCondition.Equal, R1, 0, refuse);

        b.Load(BpfSize.Word, R1, R8, Frontend.AffinityAt);
        b.JumpIf(BpfCondition.Equal, R1, 0, fresh);
        b.Load(BpfSize.Double, R1, Frame, Netns);
        b.Store(BpfSize.Double, Frame, AffinityKeyAt + AffinityKey.NetnsAt, R1);
        b.Load(BpfSize.Word, R1, R8, Frontend.ServiceAt);
        b.Store(BpfSize.Word, Frame, AffinityKeyAt + AffinityKey.ServiceAt, R1);
        // A real server may lack one family's address: each family has its own favourite.
        b.Load(BpfSize.Byte, R1, R8, Frontend.FlagsAt);
        b.Alu(BpfArithmetic.And, R1, (int)FrontendFlags.Six);
        b.Store(BpfSize.Word, Frame, AffinityKeyAt + AffinityKey.FamilyAt, R1);
        Lookup(maps.Affinity, AffinityKeyAt);
        b.JumpIf(BpfCondition.Equal, R0, 0, fresh);
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Load(BpfSize.Double, R2, R0, Affinity.LastAt);
        b.Alu(BpfArithmetic.Subtract, R1, R2);
        b.Load(BpfSize.Word, R2, R8, Frontend.AffinityAt);
        b.MoveLong(R3, 1_000_000_000);
        b.Alu(BpfArithmetic.Multiply, R2, R3);
        b.JumpIf(BpfCondition.SignedGreater, R1, R2, fresh);
        b.Load(BpfSize.Word, R1, R0, Affinity.BackendAt);
        b.Store(BpfSize.Word, Frame, Backend, R1);
        b.Load(BpfSize.Word, R1, R0, Affinity.GenerationAt);
        b.Store(BpfSize.Word, Frame, Generation, R1);
        b.Move(R7, R0);
        Lookup(maps.Backends, Backend);
        b.JumpIf(BpfCondition.Equal, R0, 0, fresh);
        b.Load(BpfSize.Word, R1, Frame, Generation);
        b.Load(BpfSize.Word, R2, R0, BackendRecord.GenerationAt);
        b.JumpIf(BpfCondition.NotEqual, R1, R2, fresh);
        b.Load(BpfSize.Word, R1, R0, BackendRecord.FlagsAt);
        b.Alu(BpfArithmetic.And, R1, (int)BackendFlags.Accepts);
        b.JumpIf(BpfCondition.Equal, R1, 0, fresh);
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Store(BpfSize.Double, R7, Affinity.LastAt, R1);
        b.Move(R7, R0);
        b.Jump(chosen);

        b.Mark(fresh);
        b.Load(BpfSize.Word, R1, R8, Frontend.ServiceAt);
        b.Store(BpfSize.Word, Frame, Index, R1);
        Lookup(maps.Services, Index);
        b.JumpIf(BpfCondition.Equal, R0, 0, none);
        b.Load(BpfSize.Byte, R3, R8, Frontend.FlagsAt);
        b.Load(BpfSize.Word, R4, R8, Frontend.SlotCountAt);
        b.Move(R5, 0);
        b.JumpIf(BpfCondition.AnyBit, R3, (int)FrontendFlags.ByClient, turn);
        b.Move(R2, 1);
        b.AtomicFetchAdd(BpfSize.Double, R0, ServiceRecord.TurnAt, R2);
        b.JumpIf(BpfCondition.AnyBit, R3, (int)FrontendFlags.Even, counted);
        b.Jump(weighted);
        b.Mark(turn);
        b.Load(BpfSize.Double, R2, Frame, Netns);
        // Turns times the golden ratio spread evenly at every length (a Weyl sequence): weights are met exactly over few
        // connections, which chance would need thousands for.
        b.Mark(weighted);
        b.MoveLong(R1, 0x9e3779b97f4a7c15);
        b.Alu(BpfArithmetic.Multiply, R2, R1);
        b.Alu(BpfArithmetic.ShiftRight, R2, 32);
        b.Alu(BpfArithmetic.Multiply, R2, R4);
        b.Alu32(BpfArithmetic.Move, R5, R2);
        b.Alu(BpfArithmetic.ShiftRight, R2, 32);
        b.Jump(slot);
        b.Mark(counted);
        b.Alu(BpfArithmetic.Modulo, R2, R4);
        b.Mark(slot);
        b.Store(BpfSize.Double, Frame, Fraction, R5);
        b.Load(BpfSize.Word, R1, R8, Frontend.SlotBaseAt);
        b.Alu(BpfArithmetic.Add, R2, R1);
        b.Store(BpfSize.Word, Frame, Index, R2);
        Lookup(maps.Slots, Index);
        b.JumpIf(BpfCondition.Equal, R0, 0, none);
        b.Load(BpfSize.Double, R1, Frame, Fraction);
        b.Load(BpfSize.Word, R2, R0, Slot.ThresholdAt);
        b.Load(BpfSize.Word, R3, R0, Slot.FirstAt);
        b.JumpIf(BpfCondition.Less, R1, R2, first);
        b.Load(BpfSize.Word, R3, R0, Slot.SecondAt);
        b.Mark(first);
        b.Store(BpfSize.Word, Frame, Backend, R3);
        Lookup(maps.Backends, Backend);
        b.JumpIf(BpfCondition.Equal, R0, 0, none);
        b.Move(R7, R0);
        b.Load(BpfSize.Word, R1, R7, BackendRecord.GenerationAt);
        b.Store(BpfSize.Word, Frame, Generation, R1);
        b.Load(BpfSize.Word, R1, R8, Frontend.AffinityAt);
        b.JumpIf(BpfCondition.Equal, R1, 0, chosen);
        b.Load(BpfSize.Word, R1, Frame, Backend);
        b.Store(BpfSize.Word, Frame, AffinityAt + Affinity.BackendAt, R1);
        b.Load(BpfSize.Word, R1, Frame, Generation);
        b.Store(BpfSize.Word, Frame, AffinityAt + Affinity.GenerationAt, R1);
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Store(BpfSize.Double, Frame, AffinityAt + Affinity.LastAt, R1);
        Update(maps.Affinity, AffinityKeyAt, AffinityAt);
        b.Mark(chosen);
    }

    /// <summary>Address and port of the real server at r7, for the frontend at r8, into the frame.</summary>
    private void ReadReal()
    {
        BpfLabel four = new("four"), port = new("port"), same = new("same");
        b.Load(BpfSize.Byte, R1, R8, Frontend.FlagsAt);
        b.Alu(BpfArithmetic.And, R1, (int)FrontendFlags.Six);
        b.JumpIf(BpfCondition.Equal, R1, 0, four);
        CopyAddress(R7, BackendRecord.Address6At);
        b.Jump(port);
        b.Mark(four);
        b.Store(BpfSize.Double, Frame, Real, 0);
        b.Store(BpfSize.Word, Frame, Real + 8, unchecked((int)0xffff0000));
        b.Load(BpfSize.Word, R1, R7, BackendRecord.Address4At);
        b.Store(BpfSize.Word, Frame, Real + 12, R1);
        b.Mark(port);
        b.Load(BpfSize.Half, R1, R8, Frontend.TargetAt);
        b.JumpIf(BpfCondition.NotEqual, R1, 0, same);
        b.Move(R1, R9);
        b.Mark(same);
        b.Store(BpfSize.Half, Frame, RealPort, R1);
    }

    /// <summary>Remembers the choice with the socket and counts it; a choice it made before counts no longer.</summary>
    private void BindConnected()
    {
        BpfLabel unbound = new("unbound"), uncounted = new("uncounted");
        GetStorage(create: true);
        b.JumpIf(BpfCondition.Equal, R0, 0, unbound);
        b.Move(R8, R0);
        ReleaseBinding();
        FillBinding((int)SocketBinding.Connected);
        Lookup(maps.Counters, Backend);
        b.JumpIf(BpfCondition.Equal, R0, 0, uncounted);
        b.Move(R1, 1);
        b.AtomicAdd(BpfSize.Double, R0, BackendCounters.ConnectionsAt, R1);
        b.Move(R1, 1);
        b.AtomicAdd(BpfSize.Double, R0, BackendCounters.LiveAt, R1);
        b.Mark(uncounted);
        b.Mark(unbound);
    }

    /// <summary>
    /// The socket diagnosis shows socket storage for TCP only: what a connected datagram socket is bound to is found
    /// by its cookie, when the real server goes and the socket with it.
    /// </summary>
    private void RememberDatagramPeer()
    {
        var stream = new BpfLabel("stream");
        b.Load(BpfSize.Word, R1, R6, Protocol);
        b.JumpIf(BpfCondition.NotEqual, R1, VipPort.Udp, stream);
        ReadSocketCookie();
        RememberVip();
        b.Mark(stream);
    }

    private void ReadSocketCookie()
    {
        b.Move(R1, R6);
        b.Call(BpfHelper.GetSocketCookie);
        b.Store(BpfSize.Double, Frame, SocketCookie, R0);
    }

    /// <summary>From the real server's address back to the VIP, for this socket.</summary>
    private void RememberVip()
    {
        b.Load(BpfSize.Half, R1, Frame, RealPort);
        WriteFlowKey(Real, R1, FlowKey.ToVip);
        b.Store(BpfSize.Half, Frame, Index, R9);
        WriteFlow(Key, Index);
        UpdateFlow();
    }

    /// <summary>The binding at r8, if it counted, counts no longer.</summary>
    private void ReleaseBinding()
    {
        BpfLabel done = new("released");
        b.Load(BpfSize.Word, R1, R8, SocketBinding.FlagsAt);
        b.JumpIf(BpfCondition.Equal, R1, 0, done);
        b.Store(BpfSize.Word, R8, SocketBinding.FlagsAt, 0);
        b.Load(BpfSize.Word, R1, R8, SocketBinding.BackendAt);
        b.Store(BpfSize.Word, Frame, Index, R1);
        Lookup(maps.Backends, Index);
        b.JumpIf(BpfCondition.Equal, R0, 0, done);
        // The index may have a new owner by now.
        b.Load(BpfSize.Word, R1, R0, BackendRecord.GenerationAt);
        b.Load(BpfSize.Word, R2, R8, SocketBinding.GenerationAt);
        b.JumpIf(BpfCondition.NotEqual, R1, R2, done);
        Lookup(maps.Counters, Index);
        b.JumpIf(BpfCondition.Equal, R0, 0, done);
        b.Move(R1, -1);
        b.AtomicAdd(BpfSize.Double, R0, BackendCounters.LiveAt, R1);
        b.Mark(done);
    }

    private void FillBinding(int flags)
    {
        b.Load(BpfSize.Double, R1, Frame, Key);
        b.Store(BpfSize.Double, R8, SocketBinding.VipAt, R1);
        b.Load(BpfSize.Double, R1, Frame, Key + 8);
        b.Store(BpfSize.Double, R8, SocketBinding.VipAt + 8, R1);
        b.Store(BpfSize.Half, R8, SocketBinding.VipPortAt, R9);
        for (var word = 0; word < 16; word += 4)
        {
            b.Load(BpfSize.Word, R1, Frame, Real + word);
            b.Store(BpfSize.Word, R8, SocketBinding.RealAt + word, R1);
        }
        b.Load(BpfSize.Half, R1, Frame, RealPort);
        b.Store(BpfSize.Half, R8, SocketBinding.RealPortAt, R1);
        b.Load(BpfSize.Word, R1, Frame, Backend);
        b.Store(BpfSize.Word, R8, SocketBinding.BackendAt, R1);
        b.Load(BpfSize.Word, R1, Frame, Generation);
        b.Store(BpfSize.Word, R8, SocketBinding.GenerationAt, R1);
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Store(BpfSize.Double, R8, SocketBinding.LastAt, R1);
        b.Store(BpfSize.Word, R8, SocketBinding.FlagsAt, flags);
    }

    /// <summary>Goes on when the remembered choice is still good, and then makes it the frame's and, unless it is only looked at, dates it now.</summary>
    /// <param name="keep">Only looks.</param>
    /// <param name="flagsAt">Where the binding says whether it is a connected socket's, for which there is no idle time.</param>
    private void CheckBinding(BpfRegister binding, int backendAt, int generationAt, int lastAt, BpfLabel invalid, bool keep = false, int? flagsAt = null)
    {
        var recent = new BpfLabel("recent");
        if (flagsAt is { } flags)
        {
            // What connect(2) bound stays bound: the kernel drops what others answer.
            b.Load(BpfSize.Word, R1, binding, flags);
            b.JumpIf(BpfCondition.AnyBit, R1, (int)SocketBinding.Connected, recent);
        }
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Load(BpfSize.Double, R2, binding, lastAt);
        b.Alu(BpfArithmetic.Subtract, R1, R2);
        b.MoveLong(R2, IdleNs);
        b.JumpIf(BpfCondition.SignedGreater, R1, R2, invalid);
        b.Mark(recent);
        b.Load(BpfSize.Word, R1, binding, backendAt);
        b.Store(BpfSize.Word, Frame, keep ? Index : Backend, R1);
        Lookup(maps.Backends, keep ? Index : Backend);
        b.JumpIf(BpfCondition.Equal, R0, 0, invalid);
        b.Load(BpfSize.Word, R1, R0, BackendRecord.GenerationAt);
        b.Load(BpfSize.Word, R2, binding, generationAt);
        b.JumpIf(BpfCondition.NotEqual, R1, R2, invalid);
        b.Load(BpfSize.Word, R2, R0, BackendRecord.FlagsAt);
        b.JumpIf(BpfCondition.AnyBit, R2, (int)BackendFlags.Removed, invalid);
        if (keep)
            return;
        b.Store(BpfSize.Word, Frame, Generation, R1);
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Store(BpfSize.Double, binding, lastAt, R1);
    }

    /// <summary>When the context's address is the real server of the binding at r7: writes the VIP there and ends.</summary>
    private void ShowVipIfReal(BpfLabel other)
    {
        JumpUnlessAddress(R7, SocketBinding.RealAt, Key, other);
        b.Load(BpfSize.Half, R1, R7, SocketBinding.RealPortAt);
        b.JumpIf(BpfCondition.NotEqual, R1, R9, other);
        CopyAddress(R7, SocketBinding.VipAt);
        b.Load(BpfSize.Half, R1, R7, SocketBinding.VipPortAt);
        b.Store(BpfSize.Half, Frame, RealPort, R1);
        WriteDestination();
        b.Jump(pass);
    }

    private void JumpUnlessAddress(BpfRegister left, int leftAt, int frameAt, BpfLabel different)
    {
        for (var word = 0; word < 16; word += 4)
        {
            b.Load(BpfSize.Word, R1, left, leftAt + word);
            b.Load(BpfSize.Word, R2, Frame, frameAt + word);
            b.JumpIf(BpfCondition.NotEqual, R1, R2, different);
        }
    }

    /// <summary>An address into the frame's real one, by words: it is written and read in those.</summary>
    private void CopyAddress(BpfRegister from, int at)
    {
        for (var word = 0; word < 16; word += 4)
        {
            b.Load(BpfSize.Word, R1, from, at + word);
            b.Store(BpfSize.Word, Frame, Real + word, R1);
        }
    }

    private void WriteFlowKey(int address, BpfRegister port, short direction)
    {
        b.Store(BpfSize.Half, Frame, FlowKeyAt + FlowKey.PortAt, port);
        b.Store(BpfSize.Half, Frame, FlowKeyAt + FlowKey.DirectionAt, direction);
        b.Store(BpfSize.Word, Frame, FlowKeyAt + FlowKey.DirectionAt + 2, 0);
        b.Load(BpfSize.Double, R1, Frame, SocketCookie);
        b.Store(BpfSize.Double, Frame, FlowKeyAt + FlowKey.SocketAt, R1);
        for (var word = 0; word < 16; word += 4)
        {
            b.Load(BpfSize.Word, R1, Frame, address + word);
            b.Store(BpfSize.Word, Frame, FlowKeyAt + FlowKey.AddressAt + word, R1);
        }
    }

    private void WriteFlow(int address, int port)
    {
        for (var word = 0; word < 16; word += 4)
        {
            b.Load(BpfSize.Word, R1, Frame, address + word);
            b.Store(BpfSize.Word, Frame, FlowAt + Flow.AddressAt + word, R1);
        }
        b.Load(BpfSize.Half, R1, Frame, port);
        b.Store(BpfSize.Word, Frame, FlowAt + Flow.PortAt, R1);
        b.Load(BpfSize.Word, R1, Frame, Backend);
        b.Store(BpfSize.Word, Frame, FlowAt + Flow.BackendAt, R1);
        b.Load(BpfSize.Word, R1, Frame, Generation);
        b.Store(BpfSize.Word, Frame, FlowAt + Flow.GenerationAt, R1);
        b.Store(BpfSize.Word, Frame, FlowAt + Flow.GenerationAt + 4, 0);
        b.Load(BpfSize.Double, R1, Frame, Now);
        b.Store(BpfSize.Double, Frame, FlowAt + Flow.LastAt, R1);
    }

    private void UpdateFlow() => Update(maps.Flows, FlowKeyAt, FlowAt);
}
