namespace OverlayNet.Kernel.Netlink;

/// <summary>Netfilter families (linux/netfilter.h): which packets a table sees.</summary>
public enum NfFamily : byte
{
    Unspecified = 0,

    /// <summary>IPv4 and IPv6.</summary>
    Inet = 1,
    IPv4 = 2,
    Arp = 3,

    /// <summary>A device's ingress and egress.</summary>
    Netdev = 5,
    Bridge = 7,
    IPv6 = 10,
}

/// <summary>Hooks of the IP, inet and bridge families (linux/netfilter.h).</summary>
public enum NfHook : uint
{
    PreRouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    PostRouting = 4,

    /// <summary>Inet family only: NF_INET_INGRESS.</summary>
    InetIngress = 5,

    /// <summary>Netdev family: NF_NETDEV_INGRESS (its number is that of <see cref="PreRouting"/>).</summary>
    NetdevIngress = 0,

    /// <summary>Netdev family: NF_NETDEV_EGRESS (Linux 5.16).</summary>
    NetdevEgress = 1,
}

/// <summary>Where a base chain stands among others at its hook (linux/netfilter_ipv4.h: enum nf_ip_hook_priorities).</summary>
public static class NfPriority
{
    public const int Raw = -300, Conntrack = -200, Mangle = -150, DestinationNat = -100, Filter = 0, Security = 50, SourceNat = 100;
}

/// <summary>What a packet meets at the end of a base chain, or where a rule sends it (linux/netfilter.h, enum nft_verdicts).</summary>
public enum NfVerdictCode
{
    Drop = 0,
    Accept = 1,
    Continue = -1,
    Break = -2,
    Jump = -3,
    Goto = -4,
    Return = -5,
}

/// <summary>A verdict; jump and goto name a chain of the same table.</summary>
public readonly record struct NfVerdict(NfVerdictCode Code, string? Chain = null)
{
    public static NfVerdict Accept => new(NfVerdictCode.Accept);
    public static NfVerdict Drop => new(NfVerdictCode.Drop);
    public static NfVerdict Return => new(NfVerdictCode.Return);

    public static NfVerdict Goto(string chain) => new(NfVerdictCode.Goto, chain);

    public static NfVerdict Jump(string chain) => new(NfVerdictCode.Jump, chain);
}

/// <summary>enum nft_set_flags.</summary>
[Flags]
public enum NfSetFlags : uint
{
    None = 0,
    Anonymous = 0x1,

    /// <summary>Elements cannot change once a rule uses the set.</summary>
    Constant = 0x2,
    Interval = 0x4,
    Map = 0x8,
    Timeout = 0x10,

    /// <summary>Rules may add elements.</summary>
    Dynamic = 0x20,
    ObjectMap = 0x40,

    /// <summary>Concatenated key with ranges (pipapo); needs the fields' lengths.</summary>
    Concatenation = 0x80,
    Expression = 0x100,
}

/// <summary>enum nft_set_elem_flags.</summary>
[Flags]
public enum NfElementFlags : uint
{
    None = 0,
    IntervalEnd = 0x1,
    CatchAll = 0x2,
}

/// <summary>
/// Data types as the nft program names them (its numbers, nft(8)): the kernel only keeps them, so that rule sets read well.
/// </summary>
public static class NfType
{
    public const uint Verdict = 1, Integer = 4, String = 5, IPv4Address = 7, IPv6Address = 8, EtherAddress = 9, InetProtocol = 12, InetService = 13, Mark = 19,
        InterfaceIndex = 20, InterfaceName = 41;
    private const int BitsPerField = 6;

    /// <summary>The type of a concatenation of fields.</summary>
    public static uint Concatenate(params ReadOnlySpan<uint> fields)
    {
        uint type = 0;
        foreach (var field in fields)
            type = type << BitsPerField | field;
        return type;
    }
}

/// <summary>enum nft_payload_bases.</summary>
public enum NfPayloadBase : uint
{
    LinkLayer = 0,
    Network = 1,
    Transport = 2,
}

/// <summary>enum nft_meta_keys.</summary>
public enum NfMeta : uint
{
    Length = 0,
    Protocol = 1,
    Priority = 2,
    Mark = 3,
    InputInterface = 4,
    OutputInterface = 5,
    InputInterfaceName = 6,
    OutputInterfaceName = 7,
    SocketUid = 10,
    NfProtocol = 15,
    L4Protocol = 16,
    BridgeInputInterfaceName = 17,
    BridgeOutputInterfaceName = 18,
    PacketType = 19,
    Cpu = 20,
    Random = 24,

    /// <summary>Nanoseconds of the wall clock, host byte order.</summary>
    TimeNanoseconds = 30,
}

/// <summary>enum nft_ct_keys.</summary>
public enum NfCt : uint
{
    State = 0,
    Direction = 1,
    Status = 2,
    Mark = 3,
    Protocol = 10,
    Zone = 17,
    SourceIPv4 = 19,
    DestinationIPv4 = 20,
    SourceIPv6 = 21,
    DestinationIPv6 = 22,
}

/// <summary>enum nft_cmp_ops.</summary>
public enum NfCompare : uint
{
    Equal = 0,
    NotEqual = 1,
    Less = 2,
    LessOrEqual = 3,
    Greater = 4,
    GreaterOrEqual = 5,
}

/// <summary>enum nft_reject_types.</summary>
public enum NfReject : uint
{
    IcmpUnreachable = 0,
    TcpReset = 1,

    /// <summary>Codes abstract over both families; inet and bridge tables only.</summary>
    IcmpxUnreachable = 2,
}

/// <summary>enum nft_dynset_ops.</summary>
public enum NfDynset : uint
{
    Add = 0,
    Update = 1,
    Delete = 2,
}

/// <summary>NF_NAT_RANGE_* flags (linux/netfilter/nf_nat.h).</summary>
[Flags]
public enum NfNatFlags : uint
{
    None = 0,
    ProtocolRandom = 0x4,
    Persistent = 0x8,
    ProtocolRandomFully = 0x10,
}

/// <summary>What a fib look-up gives (enum nft_fib_result).</summary>
public enum NfFibResult : uint
{
    OutputInterface = 1,
    OutputInterfaceName = 2,

    /// <summary>RTN_LOCAL = 2, RTN_BROADCAST = 3...</summary>
    AddressType = 3,
}

/// <summary>enum nft_fib_flags.</summary>
[Flags]
public enum NfFibFlags : uint
{
    Source = 1,
    Destination = 2,
    Mark = 4,
    InputInterface = 8,
    OutputInterface = 16,
    Present = 32,
}

internal static class NfTablesType
{
    internal const int Subsystem = 10 << 8;
    internal const ushort BatchBegin = 16, BatchEnd = 17;
    internal const ushort BatchGeneration = 1;

    internal const byte NewTable = 0, GetTable = 1, DelTable = 2, NewChain = 3, GetChain = 4, DelChain = 5, NewRule = 6, GetRule = 7, DelRule = 8,
        NewSet = 9, GetSet = 10, DelSet = 11, NewElement = 12, GetElement = 13, DelElement = 14, NewGeneration = 15, GetGeneration = 16;

    internal const ushort ListElement = 1;
    internal const ushort HookNumber = 1, HookPriority = 2, HookDevice = 3, HookDevices = 4, DeviceName = 1;
    internal const ushort TableName = 1, TableFlags = 2, TableUse = 3, TableHandle = 4, TableUserData = 6;
    internal const ushort ChainTable = 1, ChainHandle = 2, ChainName = 3, ChainHook = 4, ChainPolicy = 5, ChainUse = 6, ChainKind = 7, ChainUserData = 12;
    internal const ushort RuleTable = 1, RuleChain = 2, RuleHandle = 3, RuleExpressions = 4, RulePosition = 6, RuleUserData = 7;
    internal const ushort SetTable = 1, SetName = 2, SetFlags = 3, SetKeyType = 4, SetKeyLength = 5, SetDataType = 6, SetDataLength = 7, SetDescription = 9,
        SetId = 10, SetTimeout = 11, SetGcInterval = 12, SetUserData = 13, SetHandle = 16;
    internal const ushort DescriptionSize = 1, DescriptionConcatenation = 2, FieldLength = 1;
    internal const ushort ElementsTable = 1, ElementsSet = 2, ElementsList = 3;
    internal const ushort ElementKey = 1, ElementData = 2, ElementFlags = 3, ElementTimeout = 4, ElementExpiration = 5, ElementUserData = 6, ElementKeyEnd = 10;
    internal const ushort DataValue = 1, DataVerdict = 2, VerdictCode = 1, VerdictChain = 2;
    internal const ushort ExpressionName = 1, ExpressionData = 2;
    internal const ushort GenerationId = 1;
    internal const uint VerdictDataType = 0xffffff00;

    /// <summary>User data is type, length, value; type 0 is the comment of tables, chains and rules, 7 that of sets (libnftnl's udata).</summary>
    internal const byte CommentUserData = 0, SetCommentUserData = 7, SetKeyByteOrder = 0, SetDataByteOrder = 1;
}

/// <summary>struct nfgenmsg (linux/netfilter/nfnetlink.h).</summary>
/// <param name="Resource">Network byte order; the subsystem in batch messages.</param>
internal readonly record struct NfHeader(NfFamily Family, byte Version, ushort Resource);
