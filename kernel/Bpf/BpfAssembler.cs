namespace OverlayNet.Kernel.Bpf;

/// <summary>
/// Builds a program instruction by instruction, in the order they run. Encodings: linux/bpf.h, linux/bpf_common.h
/// and the kernel's Documentation/bpf/standardization/instruction-set.rst. Jumps go to labels, which may be marked
/// before or after; <see cref="Assemble"/> fills in the distances. What a program may do is the verifier's to say.
/// </summary>
public sealed class BpfAssembler
{
    private const byte ClassLoad = 0, ClassLoadRegister = 1, ClassStore = 2, ClassStoreRegister = 3,
        ClassAlu32 = 4, ClassJump = 5, ClassJump32 = 6, ClassAlu64 = 7;
    private const byte ModeMemory = 0x60, ModeAtomic = 0xc0, SourceRegister = 0x08, ToBigEndian = 0x08;
    private const byte OperationCall = 0x80, OperationExit = 0x90, OperationEndian = 0xd0;
    private const byte PseudoMapFd = 1, PseudoMapValue = 2;
    private const int AtomicFetch = 1;

    private readonly List<BpfInstruction> instructions = [];
    private readonly List<(int Instruction, BpfLabel Target)> jumps = [];

    /// <summary>Instructions written so far; a 64-bit immediate counts as two.</summary>
    public int Count => instructions.Count;

    /// <summary>Marks this place as the label's.</summary>
    /// <exception cref="InvalidOperationException">The label is marked already.</exception>
    public void Mark(BpfLabel label)
    {
        if (label.Position >= 0)
            throw new InvalidOperationException($"label {label.Name} is marked twice");
        label.Position = instructions.Count;
    }

    /// <summary>destination = source.</summary>
    public void Move(BpfRegister destination, BpfRegister source) => Alu(BpfArithmetic.Move, destination, source);

    /// <summary>destination = value, sign-extended to 64 bits.</summary>
    public void Move(BpfRegister destination, int value) => Alu(BpfArithmetic.Move, destination, value);

    /// <summary>destination = value, in two instructions' room.</summary>
    public void MoveLong(BpfRegister destination, ulong value) => Wide(destination, 0, (int)(uint)value, (int)(value >> 32));

    /// <summary>destination = a map, for helpers that take one. The map must be open until the program is loaded.</summary>
    public void LoadMap(BpfRegister destination, int mapFd) => Wide(destination, PseudoMapFd, mapFd, 0);

    /// <summary>destination = the address of an octet in the first value of an array map: no look-up, no null check.</summary>
    public void LoadMapValue(BpfRegister destination, int mapFd, int offset) => Wide(destination, PseudoMapValue, mapFd, offset);

    /// <summary>64-bit arithmetic between registers.</summary>
    public void Alu(BpfArithmetic operation, BpfRegister destination, BpfRegister source) =>
        Emit((byte)((byte)operation | SourceRegister | ClassAlu64), destination, source, 0, 0);

    /// <summary>64-bit arithmetic with a sign-extended constant.</summary>
    public void Alu(BpfArithmetic operation, BpfRegister destination, int value) =>
        Emit((byte)((byte)operation | ClassAlu64), destination, 0, 0, value);

    /// <summary>32-bit arithmetic between registers; the upper half of the destination becomes 0.</summary>
    public void Alu32(BpfArithmetic operation, BpfRegister destination, BpfRegister source) =>
        Emit((byte)((byte)operation | SourceRegister | ClassAlu32), destination, source, 0, 0);

    /// <summary>32-bit arithmetic with a constant; the upper half of the destination becomes 0.</summary>
    public void Alu32(BpfArithmetic operation, BpfRegister destination, int value) =>
        Emit((byte)((byte)operation | ClassAlu32), destination, 0, 0, value);

    /// <summary>Converts the low 16, 32 or 64 bits between host and network byte order; what lies above becomes 0.</summary>
    public void NetworkOrder(BpfRegister register, int bits) =>
        Emit(OperationEndian | ToBigEndian | ClassAlu32, register, 0, 0, bits);

    /// <summary>destination = memory at source + offset, zero-extended.</summary>
    public void Load(BpfSize size, BpfRegister destination, BpfRegister source, int offset) =>
        Emit((byte)(ClassLoadRegister | ModeMemory | (byte)size), destination, source, checked((short)offset), 0);

    /// <summary>memory at destination + offset = source.</summary>
    public void Store(BpfSize size, BpfRegister destination, int offset, BpfRegister source) =>
        Emit((byte)(ClassStoreRegister | ModeMemory | (byte)size), destination, source, checked((short)offset), 0);

    /// <summary>memory at destination + offset = value.</summary>
    public void Store(BpfSize size, BpfRegister destination, int offset, int value) =>
        Emit((byte)(ClassStore | ModeMemory | (byte)size), destination, 0, checked((short)offset), value);

    /// <summary>Adds source to memory at destination + offset, atomically.</summary>
    /// <param name="size">Word or Double.</param>
    public void AtomicAdd(BpfSize size, BpfRegister destination, int offset, BpfRegister source) =>
        Emit((byte)(ClassStoreRegister | ModeAtomic | (byte)size), destination, source, checked((short)offset), 0);

    /// <summary>As <see cref="AtomicAdd"/>, and source becomes what was there before (Linux 5.12).</summary>
    public void AtomicFetchAdd(BpfSize size, BpfRegister destination, int offset, BpfRegister source) =>
        Emit((byte)(ClassStoreRegister | ModeAtomic | (byte)size), destination, source, checked((short)offset), AtomicFetch);

    public void Jump(BpfLabel target)
    {
        jumps.Add((instructions.Count, target));
        Emit(ClassJump, 0, 0, 0, 0);
    }

    /// <summary>Jumps when the 64-bit registers compare so.</summary>
    public void JumpIf(BpfCondition condition, BpfRegister left, BpfRegister right, BpfLabel target)
    {
        jumps.Add((instructions.Count, target));
        Emit((byte)((byte)condition | SourceRegister | ClassJump), left, right, 0, 0);
    }

    /// <summary>Jumps when the 64-bit register compares so with a sign-extended constant.</summary>
    public void JumpIf(BpfCondition condition, BpfRegister left, int right, BpfLabel target)
    {
        jumps.Add((instructions.Count, target));
        Emit((byte)((byte)condition | ClassJump), left, 0, 0, right);
    }

    /// <summary>Jumps when the low 32 bits of the register compare so with a constant (Linux 5.1).</summary>
    public void JumpIf32(BpfCondition condition, BpfRegister left, int right, BpfLabel target)
    {
        jumps.Add((instructions.Count, target));
        Emit((byte)((byte)condition | ClassJump32), left, 0, 0, right);
    }

    /// <summary>Calls a function of the kernel: arguments in r1-r5 (lost), the result in r0.</summary>
    public void Call(BpfHelper helper) => Emit(OperationCall | ClassJump, 0, 0, 0, (int)helper);

    /// <summary>Ends the program; r0 is its verdict.</summary>
    public void Exit() => Emit(OperationExit | ClassJump, 0, 0, 0, 0);

    /// <summary>The program with every jump's distance filled in.</summary>
    /// <exception cref="InvalidOperationException">A jump goes to a label that was never marked, or too far (32,767 instructions).</exception>
    public BpfInstruction[] Assemble()
    {
        var program = instructions.ToArray();
        foreach (var (instruction, target) in jumps)
        {
            if (target.Position < 0)
                throw new InvalidOperationException($"label {target.Name} is never marked");
            var distance = target.Position - instruction - 1;
            if (distance is < short.MinValue or > short.MaxValue)
                throw new InvalidOperationException($"label {target.Name} is {distance} instructions away");
            program[instruction] = program[instruction] with { Offset = (short)distance };
        }
        return program;
    }

    private void Wide(BpfRegister destination, byte pseudo, int low, int high)
    {
        Emit(ClassLoad | (byte)BpfSize.Double, destination, (BpfRegister)pseudo, 0, low);
        Emit(0, 0, 0, 0, high);
    }

    private void Emit(byte code, BpfRegister destination, BpfRegister source, short offset, int immediate) =>
        instructions.Add(new BpfInstruction(code, (byte)((byte)destination | (byte)source << 4), offset, immediate));
}

/// <summary>A place in a program under construction, to jump to.</summary>
/// <param name="name">For errors.</param>
public sealed class BpfLabel(string name)
{
    public string Name { get; } = name;

    internal int Position { get; set; } = -1;
}
