namespace OverlayNet.Kernel.Netlink;

/// <summary>Message types of the route family (linux/rtnetlink.h).</summary>
internal static class RouteMessageType
{
    internal const ushort NewLink = 16, DelLink = 17, GetLink = 18,
        NewAddr = 20, DelAddr = 21, GetAddr = 22,
        NewRoute = 24, DelRoute = 25, GetRoute = 26,
        NewNeigh = 28, DelNeigh = 29, GetNeigh = 30,
        NewRule = 32, DelRule = 33, GetRule = 34,
        NewNsId = 88, GetNsId = 90;
}

/// <summary>struct ifinfomsg (linux/rtnetlink.h).</summary>
internal struct LinkHeader
{
    public byte Family;
    public byte Pad;
    public ushort Type;
    public int Index;
    public uint Flags;
    public uint Change;
}

/// <summary>struct ifaddrmsg (linux/if_addr.h).</summary>
internal struct AddressHeader
{
    public byte Family;
    public byte PrefixLength;
    public byte Flags;
    public byte Scope;
    public int Index;
}

/// <summary>struct ifa_cacheinfo (linux/if_addr.h): seconds, 2^32-1 for ever; time stamps in hundredths of seconds.</summary>
internal struct AddressCacheInfo
{
    public uint Preferred;
    public uint Valid;
    public uint Created;
    public uint Updated;
}

/// <summary>struct ndmsg (linux/neighbour.h).</summary>
internal struct NeighbourHeader
{
    public byte Family;
    public byte Pad1;
    public ushort Pad2;
    public int Index;
    public ushort State;
    public byte Flags;
    public byte Type;
}

/// <summary>struct rtmsg (linux/rtnetlink.h).</summary>
internal struct RouteHeader
{
    public byte Family;
    public byte DestinationLength;
    public byte SourceLength;
    public byte Tos;
    public byte Table;
    public byte Protocol;
    public byte Scope;
    public byte Type;
    public uint Flags;
}

/// <summary>struct fib_rule_hdr (linux/fib_rules.h).</summary>
internal struct RuleHeader
{
    public byte Family;
    public byte DestinationLength;
    public byte SourceLength;
    public byte Tos;
    public byte Table;
    public byte Reserved1;
    public byte Reserved2;
    public byte Action;
    public uint Flags;
}

/// <summary>struct rtgenmsg (linux/rtnetlink.h), padded to the attributes.</summary>
internal struct GenericRouteHeader
{
    public byte Family;
    public byte Pad1;
    public ushort Pad2;
}
