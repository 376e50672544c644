using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using static OverlayNet.UnitTests.Kernel.ScriptedNetlinkTransport;

namespace OverlayNet.UnitTests.Kernel;

/// <summary>The route families: what the kernel said in earnest, and what we say, octet by octet.</summary>
public sealed class RouteCodecTests
{
    private static readonly MacAddress Mac9 = MacAddress.Parse("02:42:00:00:00:09");

    [Fact]
    public void ARecordedBridgeIsRead()
    {
        var link = Get(RecordedMessages.Bridge);
        Assert.Equal(("br0", "bridge", 1500, MacAddress.Parse("02:42:00:00:00:fe")), (link.Name, link.Kind, link.Mtu, link.Mac));
        Assert.False(link.Bridge!.MulticastSnooping);
        Assert.Equal(TimeSpan.FromSeconds(300), link.Bridge.Ageing);
        Assert.Equal(TimeSpan.FromSeconds(15), link.Bridge.ForwardDelay);
        Assert.False(link.IsUp);
        Assert.Null(link.Port);
    }

    [Fact]
    public void ARecordedVxlanPortIsRead()
    {
        var link = Get(RecordedMessages.VxlanPort);
        Assert.Equal(("vx0", "vxlan", 2, "overlaynet:c:n:web"), (link.Name, link.Kind, link.Master, link.Alias));
        Assert.Equal((5000, 4789, IPAddress.Parse("198.51.100.1"), false), (link.Vxlan!.Vni, link.Vxlan.Port, link.Vxlan.Local, link.Vxlan.Learning));
        Assert.Equal(new BridgePortOptions
        {
            Learning = false,
            UnicastFlood = false,
            MulticastFlood = true,
            BroadcastFlood = true,
            NeighbourSuppress = true,
            Hairpin = false,
            Isolated = false,
        }, link.Port);
    }

    [Fact]
    public void RecordedNeighboursFdbAddressesAndRoutesAreRead()
    {
        using var neighbours = Dumping(RecordedMessages.Neighbours);
        Assert.Equal(
            [new Neighbour(2, IPAddress.Parse("10.96.0.9"), Mac9), new Neighbour(2, IPAddress.Parse("fd00::9"), Mac9)],
            new RouteNeighbours(neighbours).Dump());
        using var fdb = Dumping(RecordedMessages.Fdb);
        var entries = new RouteFdb(fdb).Dump();
        Assert.Equal(6, entries.Count);
        Assert.Contains(new FdbEntry { Interface = 3, Mac = Mac9, State = NeighbourState.NoArp, Flags = NeighbourFlags.None, Bridge = 2 }, entries);
        Assert.Contains(entries, entry => entry.Flags == NeighbourFlags.Self && entry.Mac == Mac9 && IPAddress.Parse("198.51.100.2").Equals(entry.Vtep));
        using var addresses = Dumping(RecordedMessages.Addresses);
        var address = Assert.Single(new RouteAddresses(addresses).Dump());
        Assert.Equal((IPAddress.Parse("10.96.0.5"), 24, TimeSpan.FromSeconds(100), TimeSpan.FromSeconds(50)), (address.Address, address.PrefixLength, address.ValidLifetime, address.PreferredLifetime));
        using var routes = new NetlinkSocket(new ScriptedNetlinkTransport(sent =>
            [Answering(RecordedMessages.Routes, sent[0]), Message(Done, sent[0].Sequence, 2, 0, 0, 0, 0)]));
        // Both families are asked for; the script says the same twice.
        Assert.Equal(6, new RouteRoutes(routes).Dump().Count(route => route.Source!.Equals(IPAddress.Parse("10.96.0.5")) && route.Protocol == 2));
    }

    [Fact]
    public void WhatIsWrittenReadsBackTheSame()
    {
        var neighbour = new Neighbour(7, IPAddress.Parse("fd00::9"), Mac9, NeighbourState.Permanent, NeighbourFlags.Router);
        Assert.Equal(neighbour, Echo(RouteNeighbours.Replacing(neighbour), RouteNeighbours.Parse));
        var fdb = new FdbEntry { Interface = 3, Mac = Mac9, Flags = NeighbourFlags.Self | NeighbourFlags.Master, Vtep = IPAddress.Parse("2001:db8::2"), Vni = 77, Port = 4790, Vlan = 5 };
        Assert.Equal(fdb, Echo(RouteFdb.Replacing(fdb), RouteFdb.Parse));
        var address = new LinkAddress
        {
            Interface = 4,
            Address = IPAddress.Parse("10.96.0.5"),
            PrefixLength = 31,
            Peer = IPAddress.Parse("10.96.0.4"),
            Flags = AddressFlags.NoDad | AddressFlags.NoPrefixRoute,
            Scope = 253,
            ValidLifetime = TimeSpan.FromSeconds(9),
            PreferredLifetime = TimeSpan.FromSeconds(3),
        };
        Assert.Equal(address, Echo(RouteAddresses.Replacing(address), RouteAddresses.Parse));
        foreach (var destination in new[] { "0.0.0.0/0", "10.0.0.0/8", "::/0", "fd00::/64" })
        {
            var prefix = IPNetwork.Parse(destination);
            var route = new Route { Destination = prefix, Interface = 4, Gateway = prefix.BaseAddress, Source = prefix.BaseAddress, Table = 1000, Metric = 5, Mtu = 1400, OnLink = true, Scope = 0 };
            Assert.Equal(route, Echo(RouteRoutes.Replacing(route), RouteRoutes.Parse));
            var rule = new RoutingRule
            {
                Family = prefix.BaseAddress.AddressFamily,
                Priority = 100,
                Source = prefix.PrefixLength == 0 ? null : prefix,
                Destination = prefix.PrefixLength == 0 ? null : prefix,
                IncomingInterface = "lo",
                OutgoingInterface = "eth0",
                Mark = 1,
                MarkMask = 0xff,
                Table = 1000,
            };
            Assert.Equal(rule, Echo(RouteRules.Adding(rule), RouteRules.Parse));
        }
        var bridge = new BridgeOptions { MulticastSnooping = false, Stp = false, VlanFiltering = true, DefaultPvid = 0, Ageing = TimeSpan.FromSeconds(12), ForwardDelay = TimeSpan.FromSeconds(2) };
        var link = Echo(RouteLinks.Adding(new BridgeSpec { Name = "br0", Mac = Mac9, Mtu = 1450, Up = true, Master = 3, Options = bridge }), RouteLinkCodec.Parse);
        Assert.Equal(("br0", "bridge", 1450, 3, true, bridge), (link.Name, link.Kind, link.Mtu, link.Master, link.IsUp, link.Bridge));
        var vxlan = new VxlanOptions { Vni = 16777215, Port = 4790, Local = IPAddress.Parse("2001:db8::1"), Ttl = 9, UdpChecksum = true, UdpZeroChecksum6Rx = true, UdpZeroChecksum6Tx = true };
        Assert.Equal(vxlan, Echo(RouteLinks.Adding(new VxlanSpec { Name = "vx0", Options = vxlan }), RouteLinkCodec.Parse).Vxlan);
    }

    [Fact]
    public void AVethIsOneRequestWithThePeerInside()
    {
        var transport = new ScriptedNetlinkTransport(sent => [Ack(sent[0])]);
        using var socket = new NetlinkSocket(transport);
        new RouteLinks(socket).Add(new VethSpec { Name = "ve0", PeerName = "eth0", PeerMac = Mac9, PeerNetnsFd = 5 });
        var hex = Convert.ToHexStringLower(Assert.Single(transport.Sent).Octets);
        // IFLA_INFO_KIND "veth"; VETH_INFO_PEER: struct ifinfomsg, IFLA_IFNAME "eth0", IFLA_ADDRESS, IFLA_NET_NS_FD 5.
        Assert.Contains("090001007665746800000000", hex, StringComparison.Ordinal);
        Assert.Contains("0180" + new string('0', 32) + "0900030065746830000000000a000100024200000009000008001c0005000000", hex, StringComparison.Ordinal);
    }

    [Fact]
    public void PrefixesClearHostBits()
    {
        Assert.Equal(IPNetwork.Parse("10.96.0.0/20"), NetworkPrefix.Containing(IPAddress.Parse("10.96.15.255"), 20));
        Assert.Equal(IPNetwork.Parse("fc00::/7"), NetworkPrefix.Containing(IPAddress.Parse("fdff::1"), 7));
        Assert.Equal(IPNetwork.Parse("::/0"), NetworkPrefix.Containing(IPAddress.Parse("fdff::1"), 0));
        Assert.Throws<InvalidDataException>(() => NetworkPrefix.Containing(IPAddress.Loopback, 33));
    }

    private static Link Get(byte[] recorded)
    {
        using var socket = new NetlinkSocket(new ScriptedNetlinkTransport(sent => [Answering(recorded, sent[0]), Ack(sent[0])]));
        return new RouteLinks(socket).Get(1)!;
    }

    private static NetlinkSocket Dumping(byte[] recorded) => new(new ScriptedNetlinkTransport(sent => [Answering(recorded, sent[0])]));

    private static T Echo<T>(RouteRequest request, NetlinkParser<T> parse)
    {
        var transport = new ScriptedNetlinkTransport(sent => [Ack(sent[0])]);
        using var socket = new NetlinkSocket(transport);
        request.Send(socket);
        foreach (var message in new NetlinkMessageReader(transport.Sent[0].Octets))
            return parse(message);
        throw new InvalidDataException("nothing was sent");
    }
}
