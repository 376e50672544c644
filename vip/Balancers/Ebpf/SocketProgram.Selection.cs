using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <content>From the address asked for to a real server.</content>
internal sealed partial class SocketProgram
{
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
            chosen = new("chosen"), counted = new("counted"), ofSix = new("ofSix"), taken = new("taken");
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
        b.JumpIf(BpfCondition.AnyBit, R3, (int)FrontendFlags.Six, ofSix);
        b.AtomicFetchAdd(BpfSize.Double, R0, ServiceRecord.TurnAt, R2);
        b.Jump(taken);
        b.Mark(ofSix);
        b.AtomicFetchAdd(BpfSize.Double, R0, ServiceRecord.Turn6At, R2);
        b.Mark(taken);
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
}
