using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.UnitTests.Overlay;

/// <summary>The smaller differences and the names and numbers they use.</summary>
public sealed class DifferenceTests
{
    private static readonly Link Actual = new()
    {
        Index = 7,
        Name = "vx0",
        Kind = "vxlan",
        Flags = LinkFlags.Up,
        Mtu = 1450,
        Mac = MacAddress.Parse("02:00:00:00:00:01"),
        Master = 2,
        Port = new BridgePortOptions { Learning = false, UnicastFlood = false, MulticastFlood = false, BroadcastFlood = false, NeighbourSuppress = true, Hairpin = false, Isolated = false },
    };

    [Fact]
    public void ALinkAsWantedNeedsNothing() => Assert.Empty(LinkDifference.Requests(Actual, new LinkChange
    {
        Up = true,
        Mtu = 1450,
        Mac = Actual.Mac,
        Master = 2,
        Alias = "",
        Port = new BridgePortOptions { Learning = false, NeighbourSuppress = true },
    }));

    [Fact]
    public void JoiningABridgeComesBeforeThePortsSettings()
    {
        var requests = LinkDifference.Requests(Actual with { Master = 0, Port = null }, new LinkChange { Master = 2, Port = Actual.Port }).ToList();
        Assert.Equal(["set link vx0 master # 2", "set bridge port vx0"], requests.Select(request => request.What));
        // Another bridge forgets the settings.
        Assert.Equal(2, LinkDifference.Requests(Actual, new LinkChange { Master = 3, Port = Actual.Port }).Count());
        Assert.Equal("set link vx0 up False mtu 1400", Assert.Single(LinkDifference.Requests(Actual, new LinkChange { Up = false, Mtu = 1400 })).What);
        Assert.Equal("set bridge port vx0", Assert.Single(LinkDifference.Requests(Actual, new LinkChange { Port = Actual.Port! with { Learning = true } })).What);
    }

    [Fact]
    public void AKernelWithoutVlansNeedsNoDefaultVlan()
    {
        var bridge = Actual with { Kind = "bridge", Bridge = new BridgeOptions { MulticastSnooping = false } };
        Assert.Empty(LinkDifference.Requests(bridge, new LinkChange { Bridge = new BridgeOptions { MulticastSnooping = false, DefaultPvid = 0 } }));
        Assert.Single(LinkDifference.Requests(bridge with { Bridge = new BridgeOptions { DefaultPvid = 1 } }, new LinkChange { Bridge = new BridgeOptions { DefaultPvid = 0 } }));
    }

    [Fact]
    public void AddressesOfOtherLinksAndLinkLocalOnesStay()
    {
        var table = new AddressTable();
        table.Want(7, IPAddress.Parse("10.96.0.1"), 32);
        List<LinkAddress> actual =
        [
            Address(7, "10.96.0.2", 24),
            Address(7, "fe80::1", 64),
            Address(8, "10.0.0.1", 24),
        ];
        Assert.Equal(
            ["delete address 10.96.0.2/24 on link #7", "replace address 10.96.0.1/32 on link #7"],
            table.Difference(actual, [7]).Select(request => request.What));
        Assert.Empty(table.Difference([Address(7, "10.96.0.1", 32)], [7]));
        // Another prefix length is another address.
        Assert.Equal(2, table.Difference([Address(7, "10.96.0.1", 24)], [7]).Count);
    }

    [Fact]
    public void OnlyOurOwnRoutesOnOurLinksGo()
    {
        Route wanted = new() { Destination = IPNetwork.Parse("10.96.0.0/24"), Interface = 7, Source = IPAddress.Parse("10.96.0.240") };
        List<Route> actual =
        [
            wanted with { Destination = IPNetwork.Parse("10.1.0.0/24") },
            wanted with { Destination = IPNetwork.Parse("10.2.0.0/24"), Interface = 8 },
            wanted with { Destination = IPNetwork.Parse("10.3.0.0/24"), Protocol = 2 },
            wanted with { Destination = IPNetwork.Parse("10.4.0.0/24"), Table = 1000 },
        ];
        Assert.Equal(
            ["replace route 10.96.0.0/24 on link #7", "delete route 10.1.0.0/24 on link #7"],
            RouteTable.Difference([wanted], actual, [7]).Select(request => request.What));
        Assert.Empty(RouteTable.Difference([wanted], [wanted with { Scope = 253, Metric = 1024 }], [7]));
        Assert.Single(RouteTable.Difference([wanted], [wanted with { Source = null }], [7]));
    }

    [Theory]
    [InlineData("eth0", "lo", "eth0")]
    [InlineData("eth0", "lo eth0", "eth1")]
    [InlineData("eth0", "lo eth0 eth1 eth2", "eth3")]
    [InlineData("eth1", "eth1", "eth2")]
    [InlineData("net", "net", "net1")]
    public void TheNextFreeInterfaceNameIsTaken(string wanted, string taken, string expected) =>
        Assert.Equal(expected, InterfaceName.Free(wanted, taken.Split(' ').ToHashSet()));

    [Fact]
    public void MarksReadBackAndAliasesOfOthersAreNone()
    {
        var mark = new OwnershipMark("c1", "n1", "web");
        Assert.Equal("overlaynet:c1:n1:web", mark.ToString());
        Assert.Equal(mark, OwnershipMark.Parse(mark.ToString()));
        Assert.Equal("overlaynet:c1:n1:web/e1", mark.Endpoint("e1"));
        Assert.All([null, "", "uplink", "overlaynet:c1", "overlaynet:c1:n1"], alias => Assert.Null(OwnershipMark.Parse(alias)));
    }

    [Fact]
    public void TransitAddressesArePairsOfTheirOwn()
    {
        var all = Enumerable.Range(0, TransitAddresses.Count).SelectMany(place => new[] { TransitAddresses.Pair4(place), TransitAddresses.Pair6(place) }).ToList();
        Assert.Equal(4 * TransitAddresses.Count, all.SelectMany(pair => new[] { pair.Inside, pair.Outside }).Distinct().Count());
        Assert.All(all, pair => Assert.True(TransitAddresses.Range4.Contains(pair.Inside) || TransitAddresses.Range6.Contains(pair.Inside)));
        Assert.All(Enumerable.Range(0, TransitAddresses.Count), place => Assert.Equal(place, TransitAddresses.PlaceOf(TransitAddresses.Pair4(place).Outside)));
        // The cloud's metadata address is not among them.
        Assert.False(TransitAddresses.Range4.Contains(IPAddress.Parse("169.254.169.254")));
        Assert.Equal(0, TransitAddresses.Free([IPAddress.Parse("10.0.0.1")]));
        Assert.Equal(1, TransitAddresses.Free([TransitAddresses.Pair4(0).Outside, TransitAddresses.Pair4(2).Outside]));
        Assert.Throws<InvalidDataException>(() => TransitAddresses.Free(Enumerable.Range(0, TransitAddresses.Count).Select(place => TransitAddresses.Pair4(place).Outside)));
    }

    [Theory]
    [InlineData("198.51.100.1", 1500, 1450)]
    [InlineData("2001:db8::1", 1500, 1430)]
    [InlineData("198.51.100.1", 9000, 8950)]
    public void TheEncapsulationIsTakenOffTheUnderlaysMtu(string address, int underlay, int expected) =>
        Assert.Equal(expected, OverlayMtu.Of(IPAddress.Parse(address), underlay));

    private static LinkAddress Address(int link, string address, int length) => new() { Interface = link, Address = IPAddress.Parse(address), PrefixLength = length };
}
