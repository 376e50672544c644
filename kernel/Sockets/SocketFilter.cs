namespace OverlayNet.Kernel;

/// <summary>One instruction of a classic BPF socket filter (struct sock_filter, linux/filter.h).</summary>
public readonly record struct SocketFilterInstruction(ushort Code, byte IfTrue, byte IfFalse, uint Value);

/// <summary>The few classic BPF programs needed: they run on the IP header for IPv4 raw sockets, on the payload for IPv6.</summary>
public static class SocketFilter
{
    // BPF_LDX|BPF_MSH|BPF_B, BPF_LD|BPF_IND|BPF_B, BPF_LD|BPF_ABS|BPF_B, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K (linux/bpf_common.h).
    private const ushort LoadIpHeaderLength = 0xb1, LoadIndexed = 0x50, LoadAbsolute = 0x30, JumpEqual = 0x15, Return = 0x06;
    private const uint Whole = 0x40000;

    /// <summary>Passes nothing: for sockets that only send.</summary>
    public static SocketFilterInstruction[] Nothing { get; } = [new(Return, 0, 0, 0)];

    /// <summary>Passes datagrams whose payload has this byte at this offset.</summary>
    /// <param name="ip4">The socket is an IPv4 raw socket, so the header (with options) comes first.</param>
    public static SocketFilterInstruction[] PayloadByte(bool ip4, uint offset, byte value)
    {
        SocketFilterInstruction[] test = [new(JumpEqual, 0, 1, value), new(Return, 0, 0, Whole), new(Return, 0, 0, 0)];
        return ip4
            ? [new(LoadIpHeaderLength, 0, 0, 0), new(LoadIndexed, 0, 0, offset), .. test]
            : [new(LoadAbsolute, 0, 0, offset), .. test];
    }
}
