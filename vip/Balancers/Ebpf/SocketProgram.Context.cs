using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.Vip.Balancers.Ebpf;

/// <content>Beginning and end, look-ups, and the address in the context.</content>
internal sealed partial class SocketProgram
{
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
}
