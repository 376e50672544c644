using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Kernel.Netlink;

/// <summary>FR_ACT_* (linux/fib_rules.h).</summary>
public enum RuleAction : byte
{
    Unspecified = 0,
    ToTable = 1,
    Goto = 2,
    Nop = 3,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
}

/// <summary>A routing policy rule.</summary>
public sealed record RoutingRule
{
    public required AddressFamily Family { get; init; }

    /// <summary>Order of evaluation, lower first.</summary>
    public required uint Priority { get; init; }
    public IPNetwork? Source { get; init; }
    public IPNetwork? Destination { get; init; }

    /// <summary>Name of the link packets come in by.</summary>
    public string? IncomingInterface { get; init; }

    /// <summary>Name of the link a socket is bound to.</summary>
    public string? OutgoingInterface { get; init; }
    public uint? Mark { get; init; }
    public uint? MarkMask { get; init; }

    /// <summary>RT_TABLE_*: 254 main, 255 local.</summary>
    public uint Table { get; init; } = 254;
    public RuleAction Action { get; init; } = RuleAction.ToTable;

    public override string ToString() => $"{Priority}: from {Source?.ToString() ?? "all"} to {Destination?.ToString() ?? "all"} table {Table}";
}

/// <summary>Routing policy rules by rtnetlink (linux/fib_rules.h), both families.</summary>
public sealed class RouteRules(NetlinkSocket socket)
{
    private const ushort AttrDestination = 1, AttrSource = 2, AttrIncoming = 3, AttrPriority = 6, AttrMark = 10, AttrTable = 15, AttrMask = 16, AttrOutgoing = 17;

    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<RoutingRule> Dump()
    {
        var rules = Dump(Libc.AF_INET);
        rules.AddRange(Dump(Libc.AF_INET6));
        return rules;
    }

    /// <exception cref="NetlinkException">The kernel refused; EEXIST when there is an equal one.</exception>
    public void Add(RoutingRule rule) => Adding(rule).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused; ENOENT when there is none.</exception>
    public void Delete(RoutingRule rule) => Deleting(rule).Send(socket);

    public static RouteRequest Adding(RoutingRule rule) => Request("add rule", rule, RouteMessageType.NewRule, NetlinkFlags.Create | NetlinkFlags.Exclusive);

    public static RouteRequest Deleting(RoutingRule rule) => Request("delete rule", rule, RouteMessageType.DelRule, NetlinkFlags.None);

    private List<RoutingRule> Dump(int family)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetRule, NetlinkFlags.Request);
        writer.Struct(new RuleHeader { Family = (byte)family });
        return socket.Dump(ref writer, Parse, "list rules");
    }

    private static RouteRequest Request(string verb, RoutingRule rule, ushort type, NetlinkFlags flags) => new(verb, rule, (ref NetlinkMessageWriter writer) =>
    {
        writer.Begin(type, NetlinkFlags.Request | flags);
        writer.Struct(new RuleHeader
        {
            Family = rule.Family == AddressFamily.InterNetworkV6 ? (byte)Libc.AF_INET6 : (byte)Libc.AF_INET,
            DestinationLength = (byte)(rule.Destination?.PrefixLength ?? 0),
            SourceLength = (byte)(rule.Source?.PrefixLength ?? 0),
            Table = rule.Table <= byte.MaxValue ? (byte)rule.Table : (byte)252,
            Action = (byte)rule.Action,
        });
        if (rule.Destination is { PrefixLength: > 0 } destination)
            writer.Address(AttrDestination, destination.BaseAddress);
        if (rule.Source is { PrefixLength: > 0 } source)
            writer.Address(AttrSource, source.BaseAddress);
        if (rule.IncomingInterface is { } incoming)
            writer.String(AttrIncoming, incoming);
        if (rule.OutgoingInterface is { } outgoing)
            writer.String(AttrOutgoing, outgoing);
        writer.U32(AttrPriority, rule.Priority);
        if (rule.Mark is { } mark)
            writer.U32(AttrMark, mark);
        if (rule.MarkMask is { } mask)
            writer.U32(AttrMask, mask);
        if (rule.Action == RuleAction.ToTable)
            writer.U32(AttrTable, rule.Table);
    });

    internal static RoutingRule Parse(in NetlinkMessage message)
    {
        var header = message.Header<RuleHeader>();
        var rule = new RoutingRule
        {
            Family = header.Family == Libc.AF_INET6 ? AddressFamily.InterNetworkV6 : AddressFamily.InterNetwork,
            Priority = 0,
            Table = header.Table,
            Action = (RuleAction)header.Action,
        };
        foreach (var attribute in message.Attributes<RuleHeader>())
        {
            rule = attribute.Type switch
            {
                AttrDestination => rule with { Destination = NetworkPrefix.Containing(attribute.Address, header.DestinationLength) },
                AttrSource => rule with { Source = NetworkPrefix.Containing(attribute.Address, header.SourceLength) },
                AttrIncoming => rule with { IncomingInterface = attribute.String },
                AttrOutgoing => rule with { OutgoingInterface = attribute.String },
                AttrPriority => rule with { Priority = attribute.U32 },
                AttrMark => rule with { Mark = attribute.U32 },
                AttrMask => rule with { MarkMask = attribute.U32 },
                AttrTable => rule with { Table = attribute.U32 },
                _ => rule,
            };
        }
        return rule;
    }
}
