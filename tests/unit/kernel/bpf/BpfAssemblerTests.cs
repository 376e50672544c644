using System.Runtime.InteropServices;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Kernel.Bpf;
using static OverlayNet.Kernel.Bpf.BpfRegister;

namespace OverlayNet.UnitTests.Kernel.Bpf;

/// <summary>Encodings against linux/bpf.h and the instruction set document, written out by hand.</summary>
public class BpfAssemblerTests
{
    public static TheoryData<string, Action<BpfAssembler>, string> Encodings => new()
    {
        { "r0 = 7", b => b.Move(R0, 7), "b700000007000000" },
        { "r6 = r1", b => b.Move(R6, R1), "bf16000000000000" },
        { "r2 += -8", b => b.Alu(BpfArithmetic.Add, R2, -8), "07020000f8ffffff" },
        { "r3 *= r4", b => b.Alu(BpfArithmetic.Multiply, R3, R4), "2f43000000000000" },
        { "w5 = w6", b => b.Alu32(BpfArithmetic.Move, R5, R6), "bc65000000000000" },
        { "w7 %= 3", b => b.Alu32(BpfArithmetic.Modulo, R7, 3), "9407000003000000" },
        { "r8 >>= 32", b => b.Alu(BpfArithmetic.ShiftRight, R8, 32), "7708000020000000" },
        { "r2 = be16 r2", b => b.NetworkOrder(R2, 16), "dc02000010000000" },
        { "r1 = *(u32 *)(r6 + 24)", b => b.Load(BpfSize.Word, R1, R6, 24), "6161180000000000" },
        { "r1 = *(u8 *)(r10 - 1)", b => b.Load(BpfSize.Byte, R1, Frame, -1), "71a1ffff00000000" },
        { "*(u64 *)(r10 - 16) = r9", b => b.Store(BpfSize.Double, Frame, -16, R9), "7b9af0ff00000000" },
        { "*(u16 *)(r10 - 2) = 5", b => b.Store(BpfSize.Half, Frame, -2, 5), "6a0afeff05000000" },
        { "lock *(u64 *)(r1 + 8) += r2", b => b.AtomicAdd(BpfSize.Double, R1, 8, R2), "db21080000000000" },
        { "r2 = fetch_add((u32 *)(r1 + 8), r2)", b => b.AtomicFetchAdd(BpfSize.Word, R1, 8, R2), "c321080001000000" },
        { "r1 = 0x1122334455667788", b => b.MoveLong(R1, 0x1122334455667788), "18010000887766550000000044332211" },
        { "r1 = map 9", b => b.LoadMap(R1, 9), "18110000090000000000000000000000" },
        { "r1 = value of map 9, octet 16", b => b.LoadMapValue(R1, 9, 16), "18210000090000000000000010000000" },
        { "call bpf_map_lookup_elem", b => b.Call(BpfHelper.MapLookup), "8500000001000000" },
        { "exit", b => b.Exit(), "9500000000000000" },
    };

    [Theory]
    [MemberData(nameof(Encodings))]
    public void Encodes(string meaning, Action<BpfAssembler> emit, string expected)
    {
        var assembler = new BpfAssembler();
        emit(assembler);
        Assert.True(expected == Convert.ToHexStringLower(MemoryMarshal.AsBytes<BpfInstruction>(assembler.Assemble())), meaning);
    }

    [Fact]
    public void JumpsCountInstructionsAndALongImmediateIsTwo()
    {
        var b = new BpfAssembler();
        var back = new BpfLabel("back");
        var end = new BpfLabel("end");
        b.Mark(back);
        b.JumpIf(BpfCondition.Equal, R1, 0, end);
        b.MoveLong(R2, ulong.MaxValue);
        b.JumpIf32(BpfCondition.Less, R2, 5, back);
        b.Jump(back);
        b.Mark(end);
        b.Exit();
        var program = b.Assemble();
        Assert.Equal(4, program[0].Offset);
        Assert.Equal(-4, program[3].Offset);
        Assert.Equal(-5, program[4].Offset);
        Assert.Equal((0x15, 0xa6, 0x05), (program[0].Code, program[3].Code, program[4].Code));
    }

    [Fact]
    public void ALabelIsMarkedOnceAndOnly()
    {
        var b = new BpfAssembler();
        var label = new BpfLabel("nowhere");
        b.Jump(label);
        Assert.Contains("nowhere", Assert.Throws<InvalidOperationException>(b.Assemble).Message);
        b.Mark(label);
        Assert.Throws<InvalidOperationException>(() => b.Mark(label));
    }

    [Fact]
    public void AJumpTooFarIsRefused()
    {
        var b = new BpfAssembler();
        var far = new BpfLabel("far");
        b.Jump(far);
        for (var i = 0; i <= short.MaxValue; i++)
            b.Move(R0, 0);
        b.Mark(far);
        b.Exit();
        Assert.Contains("far", Assert.Throws<InvalidOperationException>(b.Assemble).Message);
    }

    [Fact]
    public void EveryJumpLandsOnItsLabel() => Check.One(Config.QuickThrowOnFailure.WithReplay(20, 21), Prop.ForAll(
        Gen.Choose(0, 40).ListOf(60).ToArbitrary(),
        targets =>
        {
            var b = new BpfAssembler();
            var labels = Enumerable.Range(0, 41).Select(i => new BpfLabel($"l{i}")).ToArray();
            var next = 0;
            foreach (var (target, i) in targets.Select((target, i) => (target, i)))
            {
                if (i % 3 == 0 && next < labels.Length)
                    b.Mark(labels[next++]);
                if (i % 2 == 0)
                    b.MoveLong(R1, (ulong)i);
                b.JumpIf(BpfCondition.NotEqual, R1, R2, labels[target]);
            }
            while (next < labels.Length)
                b.Mark(labels[next++]);
            var program = b.Assemble();
            var jumps = program.Select((instruction, at) => (instruction, at)).Where(entry => entry.instruction.Code == 0x5d).ToArray();
            return jumps.Length == targets.Count
                && jumps.Zip(targets).All(pair => pair.First.at + 1 + pair.First.instruction.Offset == labels[pair.Second].Position);
        }));
}
