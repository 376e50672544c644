using System.Net.Sockets;

namespace OverlayNet.Kernel.Netlink;

/// <summary>Link messages to and from their records; attribute numbers of linux/if_link.h and linux/veth.h.</summary>
internal static class RouteLinkCodec
{
    internal const ushort IfName = 3;
    private const ushort Address = 1, Mtu = 4, LinkIndex = 5, Master = 10, LinkInfo = 18, Alias = 20, NetnsFd = 28, LinkNetnsId = 37;
    private const ushort MacvlanMode = 1;
    private const uint MacvlanPrivate = 1; // linux/if_link.h
    private const ushort InfoKind = 1, InfoData = 2, InfoSlaveKind = 4, InfoSlaveData = 5;
    private const ushort BridgeForwardDelay = 1, BridgeAgeing = 4, BridgeStp = 5, BridgeVlanFiltering = 7, BridgeMulticastSnooping = 23, BridgeDefaultPvid = 39;
    private const ushort PortHairpin = 4, PortLearning = 8, PortUnicastFlood = 9, PortMulticastFlood = 27, PortBroadcastFlood = 30, PortNeighbourSuppress = 32, PortIsolated = 33;
    private const ushort VxlanId = 1, VxlanLocal = 4, VxlanTtl = 5, VxlanLearning = 7, VxlanPort = 15, VxlanLocal6 = 17, VxlanUdpChecksum = 18, VxlanZeroChecksum6Tx = 19, VxlanZeroChecksum6Rx = 20;
    private const ushort VethPeer = 1;

    internal static void WriteAdd(ref NetlinkMessageWriter writer, LinkSpec spec)
    {
        writer.Begin(RouteMessageType.NewLink, NetlinkFlags.Request | NetlinkFlags.Create | NetlinkFlags.Exclusive);
        writer.Struct(Header(default, spec.Up ? true : null));
        writer.String(IfName, spec.Name);
        WriteCommon(ref writer, spec.Mac, spec.Mtu, spec.NetnsFd);
        if (spec.Master is { } master)
            writer.I32(Master, master);
        if (spec is MacvlanSpec { Parent: var parent })
            writer.I32(LinkIndex, parent);
        var info = writer.BeginNest(LinkInfo);
        writer.String(InfoKind, spec.Kind);
        var data = writer.BeginNest(InfoData);
        switch (spec)
        {
            case BridgeSpec bridge:
                WriteBridge(ref writer, bridge.Options);
                break;
            case VxlanSpec vxlan:
                WriteVxlan(ref writer, vxlan.Options);
                break;
            case VethSpec veth:
                var peer = writer.BeginNest(VethPeer);
                writer.Struct(Header(default, veth.PeerUp ? true : null));
                writer.String(IfName, veth.PeerName);
                WriteCommon(ref writer, veth.PeerMac, veth.PeerMtu, veth.PeerNetnsFd);
                writer.EndNest(peer);
                break;
            case MacvlanSpec:
                writer.U32(MacvlanMode, MacvlanPrivate);
                break;
        }
        writer.EndNest(data);
        writer.EndNest(info);
    }

    internal static void WriteChange(ref NetlinkMessageWriter writer, LinkRef link, LinkChange change)
    {
        writer.Begin(RouteMessageType.NewLink, NetlinkFlags.Request);
        writer.Struct(Header(link, change.Up));
        // With an index the name is the new name; without, it says which link.
        if ((link.Index != 0 ? change.Name : link.Name) is { } name)
            writer.String(IfName, name);
        WriteCommon(ref writer, change.Mac, change.Mtu, change.NetnsFd);
        if (change.Alias is { } alias)
            writer.Attribute(Alias, System.Text.Encoding.UTF8.GetBytes(alias));
        if (change.Master is { } master)
            writer.I32(Master, master);
        if (change.Port is null && change.Bridge is null)
            return;
        var info = writer.BeginNest(LinkInfo);
        if (change.Bridge is { } bridge)
        {
            writer.String(InfoKind, "bridge");
            var data = writer.BeginNest(InfoData);
            WriteBridge(ref writer, bridge);
            writer.EndNest(data);
        }
        if (change.Port is { } port)
        {
            writer.String(InfoSlaveKind, "bridge");
            var data = writer.BeginNest(InfoSlaveData);
            WritePort(ref writer, port);
            writer.EndNest(data);
        }
        writer.EndNest(info);
    }

    internal static Link Parse(in NetlinkMessage message)
    {
        var header = message.Header<LinkHeader>();
        var link = new Link { Index = header.Index, Name = "", Flags = (LinkFlags)header.Flags };
        foreach (var attribute in message.Attributes<LinkHeader>())
        {
            switch (attribute.Type)
            {
                case Address when attribute.Payload.Length == MacAddress.Length:
                    link = link with { Mac = attribute.Mac };
                    break;
                case IfName:
                    link = link with { Name = attribute.String };
                    break;
                case Mtu:
                    link = link with { Mtu = attribute.I32 };
                    break;
                case LinkIndex:
                    link = link with { Parent = attribute.I32 };
                    break;
                case Master:
                    link = link with { Master = attribute.I32 };
                    break;
                case Alias:
                    link = link with { Alias = attribute.String };
                    break;
                case LinkNetnsId:
                    link = link with { LinkNetnsId = attribute.I32 };
                    break;
                case LinkInfo:
                    link = ParseInfo(link, attribute.Nested);
                    break;
            }
        }
        return link;
    }

    private static Link ParseInfo(Link link, NetlinkAttributes info)
    {
        var slaveKind = "";
        foreach (var attribute in info)
        {
            switch (attribute.Type)
            {
                case InfoKind:
                    link = link with { Kind = attribute.String };
                    break;
                case InfoData when link.Kind == "bridge":
                    link = link with { Bridge = ParseBridge(attribute.Nested) };
                    break;
                case InfoData when link.Kind == "vxlan":
                    link = link with { Vxlan = ParseVxlan(attribute.Nested) };
                    break;
                case InfoSlaveKind:
                    slaveKind = attribute.String;
                    break;
                case InfoSlaveData when slaveKind == "bridge":
                    link = link with { Port = ParsePort(attribute.Nested) };
                    break;
            }
        }
        return link;
    }

    private static LinkHeader Header(LinkRef link, bool? up) => new()
    {
        Index = link.Index,
        Flags = up == true ? (uint)LinkFlags.Up : 0,
        Change = up is null ? 0 : (uint)LinkFlags.Up,
    };

    private static void WriteCommon(ref NetlinkMessageWriter writer, MacAddress? mac, int? mtu, int? netnsFd)
    {
        if (mac is { } address)
            writer.Mac(Address, address);
        if (mtu is { } bytes)
            writer.I32(Mtu, bytes);
        if (netnsFd is { } fd)
            writer.I32(NetnsFd, fd);
    }

    private static void WriteBridge(ref NetlinkMessageWriter writer, BridgeOptions options)
    {
        if (options.ForwardDelay is { } delay)
            writer.U32(BridgeForwardDelay, (uint)(delay.TotalMilliseconds / 10));
        if (options.Ageing is { } ageing)
            writer.U32(BridgeAgeing, (uint)(ageing.TotalMilliseconds / 10));
        if (options.Stp is { } stp)
            writer.U32(BridgeStp, stp ? 1u : 0);
        if (options.DefaultPvid is { } pvid)
            writer.U16(BridgeDefaultPvid, pvid);
        WriteBool(ref writer, BridgeVlanFiltering, options.VlanFiltering);
        WriteBool(ref writer, BridgeMulticastSnooping, options.MulticastSnooping);
    }

    private static BridgeOptions ParseBridge(NetlinkAttributes data)
    {
        var options = new BridgeOptions();
        foreach (var attribute in data)
        {
            options = attribute.Type switch
            {
                BridgeForwardDelay => options with { ForwardDelay = TimeSpan.FromMilliseconds(attribute.U32 * 10L) },
                BridgeAgeing => options with { Ageing = TimeSpan.FromMilliseconds(attribute.U32 * 10L) },
                BridgeStp => options with { Stp = attribute.U32 != 0 },
                BridgeVlanFiltering => options with { VlanFiltering = attribute.U8 != 0 },
                BridgeMulticastSnooping => options with { MulticastSnooping = attribute.U8 != 0 },
                BridgeDefaultPvid => options with { DefaultPvid = attribute.U16 },
                _ => options,
            };
        }
        return options;
    }

    private static void WritePort(ref NetlinkMessageWriter writer, BridgePortOptions options)
    {
        WriteBool(ref writer, PortHairpin, options.Hairpin);
        WriteBool(ref writer, PortLearning, options.Learning);
        WriteBool(ref writer, PortUnicastFlood, options.UnicastFlood);
        WriteBool(ref writer, PortMulticastFlood, options.MulticastFlood);
        WriteBool(ref writer, PortBroadcastFlood, options.BroadcastFlood);
        WriteBool(ref writer, PortNeighbourSuppress, options.NeighbourSuppress);
        WriteBool(ref writer, PortIsolated, options.Isolated);
    }

    private static BridgePortOptions ParsePort(NetlinkAttributes data)
    {
        var options = new BridgePortOptions();
        foreach (var attribute in data)
        {
            options = attribute.Type switch
            {
                PortHairpin => options with { Hairpin = attribute.U8 != 0 },
                PortLearning => options with { Learning = attribute.U8 != 0 },
                PortUnicastFlood => options with { UnicastFlood = attribute.U8 != 0 },
                PortMulticastFlood => options with { MulticastFlood = attribute.U8 != 0 },
                PortBroadcastFlood => options with { BroadcastFlood = attribute.U8 != 0 },
                PortNeighbourSuppress => options with { NeighbourSuppress = attribute.U8 != 0 },
                PortIsolated => options with { Isolated = attribute.U8 != 0 },
                _ => options,
            };
        }
        return options;
    }

    private static void WriteVxlan(ref NetlinkMessageWriter writer, VxlanOptions options)
    {
        writer.U32(VxlanId, (uint)options.Vni);
        if (options.Local is { } local)
            writer.Address(local.AddressFamily == AddressFamily.InterNetworkV6 ? VxlanLocal6 : VxlanLocal, local);
        writer.U16BigEndian(VxlanPort, (ushort)options.Port);
        writer.U8(VxlanLearning, options.Learning ? (byte)1 : (byte)0);
        if (options.Ttl != 0)
            writer.U8(VxlanTtl, options.Ttl);
        WriteBool(ref writer, VxlanUdpChecksum, options.UdpChecksum);
        WriteBool(ref writer, VxlanZeroChecksum6Tx, options.UdpZeroChecksum6Tx);
        WriteBool(ref writer, VxlanZeroChecksum6Rx, options.UdpZeroChecksum6Rx);
    }

    private static VxlanOptions ParseVxlan(NetlinkAttributes data)
    {
        var options = new VxlanOptions { Vni = 0 };
        foreach (var attribute in data)
        {
            options = attribute.Type switch
            {
                VxlanId => options with { Vni = attribute.I32 },
                VxlanLocal or VxlanLocal6 => options with { Local = attribute.Address },
                VxlanPort => options with { Port = attribute.U16BigEndian },
                VxlanLearning => options with { Learning = attribute.U8 != 0 },
                VxlanTtl => options with { Ttl = attribute.U8 },
                VxlanUdpChecksum => options with { UdpChecksum = attribute.U8 != 0 },
                VxlanZeroChecksum6Tx => options with { UdpZeroChecksum6Tx = attribute.U8 != 0 },
                VxlanZeroChecksum6Rx => options with { UdpZeroChecksum6Rx = attribute.U8 != 0 },
                _ => options,
            };
        }
        return options;
    }

    private static void WriteBool(ref NetlinkMessageWriter writer, ushort type, bool? value)
    {
        if (value is { } known)
            writer.U8(type, known ? (byte)1 : (byte)0);
    }
}
