using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <content>What is remembered with the socket and in the table of datagram flows.</content>
internal sealed partial class SocketProgram
{
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
