using System.Runtime.InteropServices;

namespace OverlayNet.Kernel.Bpf;

/// <summary>One instruction as the kernel reads it: struct bpf_insn (linux/bpf.h), on little-endian machines.</summary>
/// <param name="Code">Class, operation or size, source or mode.</param>
/// <param name="Registers">Destination in the low four bits, source in the high four.</param>
/// <param name="Offset">Of memory from a register in octets, or of a jump in instructions after the next.</param>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public readonly record struct BpfInstruction(byte Code, byte Registers, short Offset, int Immediate)
{
    public BpfRegister Destination => (BpfRegister)(Registers & 15);
    public BpfRegister Source => (BpfRegister)(Registers >> 4);
}
