using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Kernel.Netlink;

/// <summary>RTN_* (linux/rtnetlink.h).</summary>
public enum RouteType : byte
{
    Unspecified = 0,
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Anycast = 4,
    Multicast = 5,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
    Throw = 9,
}

/// <summary>A route.</summary>
public sealed record Route
{
    public required IPNetwork Destination { get; init; }
    public IPAddress? Gateway { get; init; }

    /// <summary>Index of the link; 0: none (or several next hops).</summary>
    public int Interface { get; init; }

    /// <summary>The source address of what this host originates to there.</summary>
    public IPAddress? Source { get; init; }

    /// <summary>RT_TABLE_*: 254 main, 255 local.</summary>
    public uint Table { get; init; } = 254;

    /// <summary>Lower wins. IPv6 has 1024 where none is asked for.</summary>
    public uint? Metric { get; init; }
    public RouteType Type { get; init; } = RouteType.Unicast;

    /// <summary>RT_SCOPE_*: null: link without a gateway, universe with one.</summary>
    public byte? Scope { get; init; }

    /// <summary>RTPROT_*, who made it: 2 kernel, 4 administrator.</summary>
    public byte Protocol { get; init; } = 4;

    /// <summary>Bytes; null: the link's.</summary>
    public int? Mtu { get; init; }

    /// <summary>RTNH_F_ONLINK: the gateway is taken to be on the link although no prefix says so.</summary>
    public bool OnLink { get; init; }

    public override string ToString() =>
        $"{Destination}{(Gateway is null ? "" : $" via {Gateway}")}{(Interface == 0 ? "" : $" on link #{Interface}")}{(Table == 254 ? "" : $" table {Table}")}";
}

/// <summary>Routes by rtnetlink (linux/rtnetlink.h), both families.</summary>
public sealed class RouteRoutes(NetlinkSocket socket)
{
    private const ushort AttrDestination = 1, AttrInterface = 4, AttrGateway = 5, AttrPriority = 6, AttrPreferredSource = 7, AttrMetrics = 8, AttrTable = 15;
    private const ushort MetricMtu = 2;
    private const uint OnLinkFlag = 4, ClonedFlag = 0x200;

    // RT_TABLE_COMPAT: the number is in the attribute only.
    private const byte TableCompat = 252;
    private const byte ScopeUniverse = 0, ScopeLink = 253, ScopeHost = 254;

    /// <summary>All routes of all tables; the exceptions the kernel learnt (path MTU) are left out.</summary>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<Route> Dump()
    {
        var routes = Dump(Libc.AF_INET);
        routes.AddRange(Dump(Libc.AF_INET6));
        return routes;
    }

    /// <exception cref="NetlinkException">The kernel refused; EEXIST when there is one.</exception>
    public void Add(Route route) => Adding(route).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Replace(Route route) => Replacing(route).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused; ESRCH when there is none.</exception>
    public void Delete(Route route) => Deleting(route).Send(socket);

    public static RouteRequest Adding(Route route) => Request("add route", route, RouteMessageType.NewRoute, NetlinkFlags.Create | NetlinkFlags.Exclusive);

    public static RouteRequest Replacing(Route route) => Request("replace route", route, RouteMessageType.NewRoute, NetlinkFlags.Create | NetlinkFlags.Replace);

    public static RouteRequest Deleting(Route route) => Request("delete route", route, RouteMessageType.DelRoute, NetlinkFlags.None);

    private List<Route> Dump(int family)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetRoute, NetlinkFlags.Request);
        writer.Struct(new RouteHeader { Family = (byte)family });
        var answers = socket.Dump(ref writer, static (in NetlinkMessage message) =>
            (message.Header<RouteHeader>().Flags & ClonedFlag) == 0 ? Parse(message) : null, "list routes");
        return [.. answers.OfType<Route>()];
    }

    private static RouteRequest Request(string verb, Route route, ushort type, NetlinkFlags flags) => new(verb, route, (ref NetlinkMessageWriter writer) =>
    {
        writer.Begin(type, NetlinkFlags.Request | flags);
        writer.Struct(new RouteHeader
        {
            Family = RouteRequest.Family(route.Destination.BaseAddress),
            DestinationLength = (byte)route.Destination.PrefixLength,
            Table = route.Table <= byte.MaxValue ? (byte)route.Table : TableCompat,
            Protocol = route.Protocol,
            Scope = ScopeOf(route),
            Type = (byte)route.Type,
            Flags = route.OnLink ? OnLinkFlag : 0,
        });
        if (route.Destination.PrefixLength > 0)
            writer.Address(AttrDestination, route.Destination.BaseAddress);
        writer.U32(AttrTable, route.Table);
        if (route.Gateway is { } gateway)
            writer.Address(AttrGateway, gateway);
        if (route.Interface != 0)
            writer.I32(AttrInterface, route.Interface);
        if (route.Source is { } source)
            writer.Address(AttrPreferredSource, source);
        if (route.Metric is { } metric)
            writer.U32(AttrPriority, metric);
        if (route.Mtu is { } mtu)
        {
            var metrics = writer.BeginNest(AttrMetrics);
            writer.I32(MetricMtu, mtu);
            writer.EndNest(metrics);
        }
    });

    private static byte ScopeOf(Route route) => route.Scope ?? route.Type switch
    {
        RouteType.Local => ScopeHost,
        RouteType.Unicast when route.Gateway is null && route.Destination.BaseAddress.AddressFamily == AddressFamily.InterNetwork => ScopeLink,
        _ => ScopeUniverse,
    };

    internal static Route Parse(in NetlinkMessage message)
    {
        var header = message.Header<RouteHeader>();
        var destination = header.Family == Libc.AF_INET6 ? IPAddress.IPv6Any : IPAddress.Any;
        var route = new Route
        {
            Destination = default,
            Table = header.Table,
            Type = (RouteType)header.Type,
            Scope = header.Scope,
            Protocol = header.Protocol,
            OnLink = (header.Flags & OnLinkFlag) != 0,
        };
        foreach (var attribute in message.Attributes<RouteHeader>())
        {
            switch (attribute.Type)
            {
                case AttrDestination:
                    destination = attribute.Address;
                    break;
                case AttrInterface:
                    route = route with { Interface = attribute.I32 };
                    break;
                case AttrGateway:
                    route = route with { Gateway = attribute.Address };
                    break;
                case AttrPriority:
                    route = route with { Metric = attribute.U32 };
                    break;
                case AttrPreferredSource:
                    route = route with { Source = attribute.Address };
                    break;
                case AttrTable:
                    route = route with { Table = attribute.U32 };
                    break;
                case AttrMetrics:
                    foreach (var metric in attribute.Nested)
                    {
                        if (metric.Type == MetricMtu)
                            route = route with { Mtu = metric.I32 };
                    }
                    break;
            }
        }
        return route with { Destination = NetworkPrefix.Containing(destination, header.DestinationLength) };
    }
}
