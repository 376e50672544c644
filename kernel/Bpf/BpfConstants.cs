namespace OverlayNet.Kernel.Bpf;

/// <summary>Map types in use here (linux/bpf.h, enum bpf_map_type).</summary>
public enum BpfMapType : uint
{
    Hash = 1,
    Array = 2,
    PerCpuHash = 5,
    PerCpuArray = 6,
    LruHash = 9,
    LpmTrie = 11,
    ArrayOfMaps = 12,
    HashOfMaps = 13,

    /// <summary>A value that lives and dies with a socket; needs type information (<see cref="BpfTypes"/>).</summary>
    SocketStorage = 24,
}

/// <summary>Flags of a new map (linux/bpf.h, BPF_F_*).</summary>
[Flags]
public enum BpfMapFlags : uint
{
    None = 0,

    /// <summary>Hash: memory for an entry is taken when it is made, not when the map is.</summary>
    NoPreallocation = 1 << 0,

    /// <summary>LRU hash: a list of free entries for each CPU.</summary>
    NoCommonLru = 1 << 1,

    /// <summary>Programs may not write.</summary>
    ProgramReadOnly = 1 << 7,

    /// <summary>Array: its values can be mapped into a process (Linux 5.5).</summary>
    Mappable = 1 << 10,
}

/// <summary>What an update does about an entry that exists, or does not (linux/bpf.h).</summary>
public enum BpfUpdate : ulong
{
    Any = 0,
    OnlyNew = 1,
    OnlyExisting = 2,
}

/// <summary>Program types in use here (linux/bpf.h, enum bpf_prog_type).</summary>
public enum BpfProgramType : uint
{
    SchedulerClassifier = 3,
    CgroupSocketBuffer = 8,
    CgroupSocket = 9,
    CgroupSocketAddress = 18,
    Netfilter = 32,
}

/// <summary>Where programs attach (linux/bpf.h, enum bpf_attach_type).</summary>
public enum BpfAttachType : uint
{
    CgroupInetIngress = 0,
    CgroupInetEgress = 1,
    CgroupInet4Connect = 10,
    CgroupInet6Connect = 11,
    CgroupUdp4SendMessage = 14,
    CgroupUdp6SendMessage = 15,
    CgroupUdp4ReceiveMessage = 19,
    CgroupUdp6ReceiveMessage = 20,
    CgroupInet4GetPeerName = 29,
    CgroupInet6GetPeerName = 30,
    CgroupSocketRelease = 34,

    /// <summary>Linux 6.4.</summary>
    Netfilter = 45,

    /// <summary>tc's ingress hook of a link, without a qdisc (Linux 6.6).</summary>
    TcxIngress = 46,

    /// <summary>tc's egress hook of a link, without a qdisc (Linux 6.6).</summary>
    TcxEgress = 47,
}

/// <summary>Functions of the kernel that programs call, by number (linux/bpf.h, ___BPF_FUNC_MAPPER).</summary>
public enum BpfHelper
{
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,

    /// <summary>CLOCK_MONOTONIC in ns.</summary>
    KtimeGetNs = 5,
    GetPseudoRandom32 = 7,
    SocketBufferStoreBytes = 9,

    /// <summary>tc: where the packet goes when the program returns what this gave.</summary>
    Redirect = 23,
    SocketBufferLoadBytes = 26,

    /// <summary>tc: makes the packet longer (by octets of 0) or shorter.</summary>
    SocketBufferChangeTail = 38,
    GetSocketCookie = 46,
    SocketStorageGet = 107,
    SocketStorageDelete = 108,
    GetNetnsCookie = 122,

    /// <summary>CLOCK_BOOTTIME in ns (Linux 5.8).</summary>
    KtimeGetBootNs = 125,

    /// <summary>CLOCK_MONOTONIC at the last tick, in ns (Linux 5.11).</summary>
    KtimeGetCoarseNs = 160,

    /// <summary>The errno a cgroup program's refusal gives its caller (Linux 5.18).</summary>
    SetReturnValue = 187,
}

/// <summary>Registers: r0 result, r1-r5 arguments and lost at calls, r6-r9 kept over calls, r10 the frame's end (read-only).</summary>
public enum BpfRegister : byte
{
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Frame,
}

/// <summary>Width of a load or store, as encoded in an opcode.</summary>
public enum BpfSize : byte
{
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// <summary>Arithmetic, as encoded in an opcode. Division and modulo are unsigned; by zero they give 0 and the dividend.</summary>
public enum BpfArithmetic : byte
{
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    Divide = 0x30,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Modulo = 0x90,
    Xor = 0xa0,
    Move = 0xb0,
    ShiftRightSigned = 0xc0,
}

/// <summary>Conditions of jumps, as encoded in an opcode.</summary>
public enum BpfCondition : byte
{
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    AnyBit = 0x40,
    NotEqual = 0x50,
    SignedGreater = 0x60,
    SignedGreaterOrEqual = 0x70,
    Less = 0xa0,
    LessOrEqual = 0xb0,
    SignedLess = 0xc0,
    SignedLessOrEqual = 0xd0,
}

/// <summary>Verdicts of tc programs (linux/pkt_cls.h; TCX_* in linux/bpf.h have the same values).</summary>
public static class BpfVerdict
{
    /// <summary>The next program of the hook decides; after the last, the packet passes.</summary>
    public const int Next = -1;
    public const int Pass = 0;
    public const int Drop = 2;
}
