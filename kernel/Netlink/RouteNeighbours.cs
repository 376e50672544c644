using System.Net;

namespace OverlayNet.Kernel.Netlink;

/// <summary>NUD_* (linux/neighbour.h).</summary>
[Flags]
public enum NeighbourState : ushort
{
    None = 0,
    Incomplete = 0x01,
    Reachable = 0x02,
    Stale = 0x04,
    Delay = 0x08,
    Probe = 0x10,
    Failed = 0x20,

    /// <summary>Never resolved, may be replaced; in the FDB: a static entry.</summary>
    NoArp = 0x40,

    /// <summary>Never resolved, never aged; in the FDB: a local address.</summary>
    Permanent = 0x80,
}

/// <summary>NTF_* (linux/neighbour.h).</summary>
[Flags]
public enum NeighbourFlags : byte
{
    None = 0,
    Use = 0x01,

    /// <summary>FDB: the device's own table (VXLAN: address to VTEP).</summary>
    Self = 0x02,

    /// <summary>FDB: the table of the bridge the device is a port of.</summary>
    Master = 0x04,
    Proxy = 0x08,
    ExternallyLearned = 0x10,
    Sticky = 0x40,
    Router = 0x80,
}

/// <summary>An entry of the ARP or ND table.</summary>
/// <param name="Interface">Index of the link.</param>
/// <param name="Mac">Null while it is not resolved.</param>
public sealed record Neighbour(int Interface, IPAddress Address, MacAddress? Mac, NeighbourState State = NeighbourState.Permanent, NeighbourFlags Flags = NeighbourFlags.None)
{
    public override string ToString() => $"{Address} at {Mac} on link #{Interface}";
}

/// <summary>ARP and ND entries by rtnetlink (linux/neighbour.h), both families.</summary>
public sealed class RouteNeighbours(NetlinkSocket socket)
{
    internal const ushort AttrDestination = 1, AttrLinkLayer = 2, AttrInterface = 8;

    /// <param name="interface">Index of a link; 0: all.</param>
    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public List<Neighbour> Dump(int @interface = 0)
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[64]);
        writer.Begin(RouteMessageType.GetNeigh, NetlinkFlags.Request);
        writer.Struct(new NeighbourHeader());
        if (@interface != 0)
            writer.I32(AttrInterface, @interface);
        return socket.Dump(ref writer, Parse, "list neighbours");
    }

    /// <exception cref="NetlinkException">The kernel refused; EEXIST when there is an entry.</exception>
    public void Add(Neighbour neighbour) => Adding(neighbour).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused.</exception>
    public void Replace(Neighbour neighbour) => Replacing(neighbour).Send(socket);

    /// <exception cref="NetlinkException">The kernel refused; ENOENT when there is no entry.</exception>
    public void Delete(Neighbour neighbour) => Deleting(neighbour).Send(socket);

    public static RouteRequest Adding(Neighbour neighbour) => Request("add neighbour", neighbour, RouteMessageType.NewNeigh, NetlinkFlags.Create | NetlinkFlags.Exclusive);

    public static RouteRequest Replacing(Neighbour neighbour) => Request("replace neighbour", neighbour, RouteMessageType.NewNeigh, NetlinkFlags.Create | NetlinkFlags.Replace);

    public static RouteRequest Deleting(Neighbour neighbour) => Request("delete neighbour", neighbour, RouteMessageType.DelNeigh, NetlinkFlags.None);

    private static RouteRequest Request(string verb, Neighbour neighbour, ushort type, NetlinkFlags flags) => new(verb, neighbour, (ref NetlinkMessageWriter writer) =>
    {
        writer.Begin(type, NetlinkFlags.Request | flags);
        writer.Struct(new NeighbourHeader
        {
            Family = RouteRequest.Family(neighbour.Address),
            Index = neighbour.Interface,
            State = (ushort)neighbour.State,
            Flags = (byte)neighbour.Flags,
        });
        writer.Address(AttrDestination, neighbour.Address);
        if (neighbour.Mac is { } mac && type == RouteMessageType.NewNeigh)
            writer.Mac(AttrLinkLayer, mac);
    });

    internal static Neighbour Parse(in NetlinkMessage message)
    {
        var header = message.Header<NeighbourHeader>();
        IPAddress? address = null;
        MacAddress? mac = null;
        foreach (var attribute in message.Attributes<NeighbourHeader>())
        {
            if (attribute.Type == AttrDestination)
                address = attribute.Address;
            else if (attribute.Type == AttrLinkLayer && attribute.Payload.Length == MacAddress.Length)
                mac = attribute.Mac;
        }
        return new Neighbour(
            header.Index,
            address ?? throw new InvalidDataException("a neighbour message of the kernel carries no address"),
            mac, (NeighbourState)header.State, (NeighbourFlags)header.Flags);
    }
}
