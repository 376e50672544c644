namespace OverlayNet.Kernel.Netlink;

/// <summary>A table's name; tables of different families may share a name.</summary>
public readonly record struct NfTable(NfFamily Family, string Name)
{
    public override string ToString() => $"nftables table {Keyword(Family)} {Name}";

    private static string Keyword(NfFamily family) => family switch
    {
        NfFamily.Inet => "inet",
        NfFamily.IPv4 => "ip",
        NfFamily.IPv6 => "ip6",
        NfFamily.Arp => "arp",
        NfFamily.Netdev => "netdev",
        NfFamily.Bridge => "bridge",
        _ => family.ToString(),
    };
}

/// <summary>A chain. With a hook it is a base chain, where packets enter.</summary>
public sealed record NfChain(string Name)
{
    public NfHook? Hook { get; init; }

    /// <summary>filter, nat or route; base chains only.</summary>
    public string Type { get; init; } = "filter";
    public int Priority { get; init; }

    /// <summary>Accept or drop; base chains only.</summary>
    public NfVerdictCode Policy { get; init; } = NfVerdictCode.Accept;

    /// <summary>Netdev (and inet ingress) base chains: the devices.</summary>
    public IReadOnlyList<string> Devices { get; init; } = [];
    public string? Comment { get; init; }

    public static NfChain Base(string name, string type, NfHook hook, int priority, NfVerdictCode policy = NfVerdictCode.Accept) =>
        new(name) { Type = type, Hook = hook, Priority = priority, Policy = policy };
}

/// <summary>A set or, with <see cref="DataLength"/>, a map.</summary>
public sealed record NfSet(string Name)
{
    /// <summary>How nft names the key: <see cref="NfType"/>.</summary>
    public required uint KeyType { get; init; }

    /// <summary>Octets; fields of a concatenation are padded to 4 each.</summary>
    public required int KeyLength { get; init; }
    public NfSetFlags Flags { get; init; }

    /// <summary>Maps only; <see cref="NfType.Verdict"/> for a verdict map.</summary>
    public uint DataType { get; init; }

    /// <summary>Maps only: octets of the data.</summary>
    public int DataLength { get; init; }

    /// <summary>Lengths of the fields, for <see cref="NfSetFlags.Concatenation"/>.</summary>
    public IReadOnlyList<int> Fields { get; init; } = [];

    /// <summary>The most elements; 0: no limit. A constant set's size lets the kernel pick a cheaper structure.</summary>
    public int Size { get; init; }

    /// <summary>Default time-out of elements.</summary>
    public TimeSpan Timeout { get; init; }

    /// <summary>The key is one number in host byte order, such as a mark (only nft's listing cares).</summary>
    public bool HostByteOrderKey { get; init; }

    /// <summary>Maps only: so is the value.</summary>
    public bool HostByteOrderData { get; init; }
    public string? Comment { get; init; }

    public bool IsVerdictMap => (Flags & NfSetFlags.Map) != 0 && DataType == NfType.Verdict;

    public static NfSet VerdictMap(string name, uint keyType, int keyLength) =>
        new(name) { KeyType = keyType, KeyLength = keyLength, Flags = NfSetFlags.Map, DataType = NfType.Verdict };

    public static NfSet Map(string name, uint keyType, int keyLength, uint dataType, int dataLength) =>
        new(name) { KeyType = keyType, KeyLength = keyLength, Flags = NfSetFlags.Map, DataType = dataType, DataLength = dataLength };
}

/// <summary>A table as the kernel holds it.</summary>
/// <param name="Flags">1: dormant; 2: owned by a process; 4: outlives its owner.</param>
/// <param name="Use">Chains, sets and other objects inside.</param>
public sealed record NfTableInfo(NfTable Table, ulong Handle, uint Flags, uint Use, string? Comment);

/// <summary>A chain as the kernel holds it.</summary>
/// <param name="Use">Rules in it plus references to it.</param>
public sealed record NfChainInfo(NfTable Table, NfChain Chain, ulong Handle, uint Use);

/// <summary>A rule as the kernel holds it.</summary>
/// <param name="Expressions">The kernel's attribute list, as it dumps it.</param>
public sealed record NfRuleInfo(NfTable Table, string Chain, ulong Handle, string? Comment, byte[] Expressions);

/// <summary>A set or map as the kernel holds it.</summary>
public sealed record NfSetInfo(NfTable Table, NfSet Set, ulong Handle);

/// <summary>An element as the kernel holds it.</summary>
/// <param name="Data">Maps: the value.</param>
/// <param name="Verdict">Verdict maps: the verdict.</param>
/// <param name="Expires">When it will go by itself, from now; null: never.</param>
public sealed record NfElementInfo(byte[] Key, byte[]? KeyEnd, byte[]? Data, NfVerdict? Verdict, NfElementFlags Flags, TimeSpan? Expires);
