namespace OverlayNet.Kernel.Netlink;

/// <summary>Netlink protocols (linux/netlink.h).</summary>
public enum NetlinkProtocol
{
    Route = 0,
    SockDiag = 4,
    Netfilter = 12,
    Generic = 16,
}

/// <summary>Flags of a message's header (linux/netlink.h).</summary>
[Flags]
public enum NetlinkFlags : ushort
{
    None = 0,
    Request = 0x1,
    Multi = 0x2,
    Ack = 0x4,
    DumpInterrupted = 0x10,

    /// <summary>Dump: the whole table (NLM_F_ROOT | NLM_F_MATCH).</summary>
    Dump = 0x300,

    /// <summary>New: take the place of what exists.</summary>
    Replace = 0x100,

    /// <summary>New: fail when it exists.</summary>
    Exclusive = 0x200,

    /// <summary>New: make it when it does not exist.</summary>
    Create = 0x400,

    /// <summary>New: add to the end of a list.</summary>
    Append = 0x800,

    /// <summary>Error answers: only the header of the failed message is echoed.</summary>
    Capped = 0x100,

    /// <summary>Error answers: extended ack attributes follow.</summary>
    AckTlvs = 0x200,
}

internal static class NetlinkType
{
    internal const ushort Noop = 1, Error = 2, Done = 3, Overrun = 4, FirstOfFamily = 16;
    internal const int HeaderLength = 16, AttributeHeaderLength = 4;
    internal const ushort NestedBit = 0x8000, TypeMask = 0x3fff;

    internal static int Align(int length) => (length + 3) & ~3;
}
