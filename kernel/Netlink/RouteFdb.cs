using System.Net;

namespace OverlayNet.Kernel.Netlink;

/// <summary>
/// An entry of a forwarding database: a bridge's (<see cref="NeighbourFlags.Master"/>: address to port) or a VXLAN
/// device's own (<see cref="NeighbourFlags.Self"/>: address to VTEP). A request with both flags writes both tables.
/// </summary>
public sealed record FdbEntry
{
    /// <summary>Index of the port or the VXLAN device.</summary>
    public required int Interface { get; init; }
    public required MacAddress Mac { get; init; }

    /// <summary>
    /// Static by default: the bridge takes NoArp for that (and Permanent for an address of its own), while VXLAN
    /// insists on Reachable or Permanent. In dumps the bridge gives NoArp for static entries.
    /// </summary>
    public NeighbourState State { get; init; } = NeighbourState.NoArp | NeighbourState.Reachable;
    public required NeighbourFlags Flags { get; init; }

    /// <summary>The VTEP behind which the address lies.</summary>
    public IPAddress? Vtep { get; init; }

    /// <summary>Null: the device's own.</summary>
    public int? Vni { get; init; }

    /// <summary>The VTEP's UDP port; null: the device's own.</summary>
    public int? Port { get; init; }
    public int? Vlan { get; init; }

    /// <summary>In dumps: index of the bridge; 0: none.</summary>
    public int Bridge { get; init; }

    public override string ToString() => $"{Mac}{(Vtep is null ? "" : $" at {Vtep}")} on link #{Interface}";
}

/// <summary>Forwarding databases by rtnetlink (AF_BRIDGE neighbours).</summary>
public sealed class RouteFdb(NetlinkSocket socket)
{
    private const ushort AttrVlan = 5, AttrPort = 6, AttrVni = 7, AttrMaster = 9;

    /// <summary>Entries of all bridges and VXLAN devices, or of one link's.</summary>
    /// <param name="interface">Index of a port or a VXLAN device; 0: all.</param>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<FdbEntry> Dump(int @interface = 0)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetNeigh, NetlinkFlags.Request);
        writer.Struct(new NeighbourHeader { Family = Libc.AF_BRIDGE, Index = @interface });
        return socket.Dump(ref writer, Parse, "list the forwarding database");
    }

    /// <exception cref="NetlinkException">The kernel refused; EEXIST when there is an entry.</exception>
    public void Add(FdbEntry entry) => Adding(entry).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Replace(FdbEntry entry) => Replacing(entry).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused; ENOENT when there is no entry.</exception>
    public void Delete(FdbEntry entry) => Deleting(entry).Send(socket);

    public static RouteRequest Adding(FdbEntry entry) => Request("add FDB entry", entry, RouteMessageType.NewNeigh, NetlinkFlags.Create | NetlinkFlags.Exclusive);

    public static RouteRequest Replacing(FdbEntry entry) => Request("replace FDB entry", entry, RouteMessageType.NewNeigh, NetlinkFlags.Create | NetlinkFlags.Replace);

    public static RouteRequest Deleting(FdbEntry entry) => Request("delete FDB entry", entry, RouteMessageType.DelNeigh, NetlinkFlags.None);

    private static RouteRequest Request(string verb, FdbEntry entry, ushort type, NetlinkFlags flags) => new(verb, entry, (ref NetlinkMessageWriter writer) =>
    {
        writer.Begin(type, NetlinkFlags.Request | flags);
        writer.Struct(new NeighbourHeader
        {
            Family = Libc.AF_BRIDGE,
            Index = entry.Interface,
            State = (ushort)entry.State,
            Flags = (byte)entry.Flags,
        });
        writer.Mac(RouteNeighbours.AttrLinkLayer, entry.Mac);
        if (entry.Vtep is { } vtep)
            writer.Address(RouteNeighbours.AttrDestination, vtep);
        if (entry.Vni is { } vni)
            writer.U32(AttrVni, (uint)vni);
        if (entry.Port is { } port)
            writer.U16BigEndian(AttrPort, (ushort)port);
        if (entry.Vlan is { } vlan)
            writer.U16(AttrVlan, (ushort)vlan);
    });

    internal static FdbEntry Parse(in NetlinkMessage message)
    {
        var header = message.Header<NeighbourHeader>();
        MacAddress mac = default;
        IPAddress? vtep = null;
        int? vlan = null, port = null, vni = null;
        var bridge = 0;
        foreach (var attribute in message.Attributes<NeighbourHeader>())
        {
            switch (attribute.Type)
            {
                case RouteNeighbours.AttrLinkLayer:
                    mac = attribute.Mac;
                    break;
                case RouteNeighbours.AttrDestination:
                    vtep = attribute.Address;
                    break;
                case AttrVlan:
                    vlan = attribute.U16;
                    break;
                case AttrPort:
                    port = attribute.U16BigEndian;
                    break;
                case AttrVni:
                    vni = attribute.I32;
                    break;
                case AttrMaster:
                    bridge = attribute.I32;
                    break;
            }
        }
        return new FdbEntry
        {
            Interface = header.Index,
            Mac = mac,
            State = (NeighbourState)header.State,
            Flags = (NeighbourFlags)header.Flags,
            Vtep = vtep,
            Vni = vni,
            Port = port,
            Vlan = vlan,
            Bridge = bridge,
        };
    }
}
