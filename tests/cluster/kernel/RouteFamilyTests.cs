using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.ClusterTests.Kernel;

/// <summary>The route families against the real kernel, judged by iproute2.</summary>
public sealed class RouteFamilyTests : IDisposable
{
    private readonly TestNamespaces namespaces = new();
    private readonly string name;
    private readonly NetworkNamespace netns;
    private readonly NetlinkSocket socket;
    private readonly RouteLinks links;

    public RouteFamilyTests()
    {
        name = namespaces.Create("main");
        netns = NamedNamespaces.OpenPinned(name);
        socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        links = new RouteLinks(socket);
    }

    public void Dispose()
    {
        socket.Dispose();
        netns.Dispose();
        namespaces.Dispose();
    }

    [Fact]
    public void BridgeIsMadeWithItsSettings()
    {
        var mac = MacAddress.Parse("02:42:00:00:00:fe");
        var options = new BridgeOptions { MulticastSnooping = false, Stp = false, Ageing = TimeSpan.FromSeconds(120) };
        links.Add(new BridgeSpec { Name = "br0", Mac = mac, Mtu = 1450, Up = true, Options = options });
        var seen = Shell.Json($"ip -n {name} -j -d link show br0")[0]!;
        Assert.Equal("02:42:00:00:00:fe", (string)seen["address"]!);
        Assert.Equal(1450, (int)seen["mtu"]!);
        Assert.Equal(0, (int)seen["linkinfo"]!["info_data"]!["mcast_snooping"]!);
        Assert.Equal(12000, (int)seen["linkinfo"]!["info_data"]!["ageing_time"]!);
        var link = links.Get("br0")!;
        Assert.True(link.IsUp);
        Assert.Equal("bridge", link.Kind);
        Assert.Equal(mac, link.Mac);
        Assert.Equal(options with { ForwardDelay = link.Bridge!.ForwardDelay, VlanFiltering = false, DefaultPvid = link.Bridge.DefaultPvid }, link.Bridge);
        Assert.Equal(link, links.Dump().Single(l => l.Name == "br0"));
        Assert.True(Assert.Throws<NetlinkException>(() => links.Add(new BridgeSpec { Name = "br0" })).AlreadyExists);
        links.Delete("br0");
        Assert.Null(links.Get("br0"));
    }

    [Theory]
    [InlineData("192.0.2.1")]
    [InlineData("2001:db8::1")]
    public void VxlanIsMadeFromTheHostNamespaceAndKeepsItsUnderlayThere(string local)
    {
        var hostName = namespaces.Create("host");
        using var host = NamedNamespaces.OpenPinned(hostName);
        using (var hostSocket = NetlinkSocket.Open(NetlinkProtocol.Route, host))
        {
            new RouteLinks(hostSocket).Add(new VxlanSpec
            {
                Name = "vx0",
                NetnsFd = netns.Fd,
                Mtu = 1450,
                Options = new VxlanOptions { Vni = 4242, Port = 4790, Local = IPAddress.Parse(local), Ttl = 64, UdpZeroChecksum6Rx = true, UdpZeroChecksum6Tx = true },
            });
        }
        var data = Shell.Json($"ip -n {name} -j -d link show vx0")[0]!["linkinfo"]!["info_data"]!;
        Assert.Equal(4242, (int)data["id"]!);
        Assert.Equal(4790, (int)data["port"]!);
        Assert.False((bool)data["learning"]!);
        Assert.Equal(local, (string?)(data["local"] ?? data["local6"]));
        var link = links.Get("vx0")!;
        Assert.Equal(IPAddress.Parse(local), link.Vxlan!.Local);
        Assert.Equal(4242, link.Vxlan.Vni);
        Assert.Equal(64, link.Vxlan.Ttl);
        Assert.True(link.Vxlan.UdpZeroChecksum6Rx && link.Vxlan.UdpZeroChecksum6Tx);
        Assert.NotNull(link.LinkNetnsId);
        Assert.Equal(link.LinkNetnsId, links.NetnsId(host));
    }

    [Fact]
    public void VethPeerLandsInItsNamespaceInOneRequest()
    {
        var otherName = namespaces.Create("other");
        using var other = NamedNamespaces.OpenPinned(otherName);
        links.Add(new VethSpec
        {
            Name = "ve0",
            Mac = MacAddress.Parse("02:42:00:00:00:01"),
            Mtu = 1400,
            Up = true,
            PeerName = "eth0",
            PeerMac = MacAddress.Parse("02:42:00:00:00:02"),
            PeerMtu = 1400,
            PeerNetnsFd = other.Fd,
        });
        links.Set("ve0", new LinkChange { Alias = "overlaynet:c:n:web" });
        var peer = Shell.Json($"ip -n {otherName} -j -d link show eth0")[0]!;
        Assert.Equal("02:42:00:00:00:02", (string)peer["address"]!);
        Assert.Equal(1400, (int)peer["mtu"]!);
        var link = links.Get("ve0")!;
        Assert.Equal("overlaynet:c:n:web", link.Alias);
        Assert.Equal(links.NetnsId(other), link.LinkNetnsId);
        links.Set(link.Index, new LinkChange { Name = "ve1", Alias = "", Mtu = 1300, Up = false });
        var changed = links.Get(link.Index)!;
        Assert.Equal(("ve1", null, 1300, false), (changed.Name, changed.Alias, changed.Mtu, changed.IsUp));
    }

    [Fact]
    public void PortFlagsAreSetInTheSameBatchThatJoinsTheBridge()
    {
        links.Add(new BridgeSpec { Name = "br0" });
        links.Add(new VethSpec { Name = "p0", PeerName = "p1" });
        var port = new BridgePortOptions
        {
            Learning = false,
            UnicastFlood = false,
            MulticastFlood = false,
            BroadcastFlood = false,
            NeighbourSuppress = true,
            Hairpin = true,
            Isolated = false,
        };
        var results = RouteRequest.SendAll(socket,
        [
            RouteLinks.Changing("p0", new LinkChange { Master = links.Get("br0")!.Index }),
            RouteLinks.Changing("p0", new LinkChange { Port = port, Up = true }),
        ]);
        Assert.All(results, result => Assert.Equal(default, result));
        Assert.Equal(port, links.Get("p0")!.Port);
        var data = Shell.Json($"ip -n {name} -j -d link show p0")[0]!["linkinfo"]!["info_slave_data"]!;
        Assert.False((bool)data["learning"]! || (bool)data["flood"]! || (bool)data["mcast_flood"]! || (bool)data["bcast_flood"]!);
        Assert.True((bool)data["neigh_suppress"]! && (bool)data["hairpin"]!);
    }

    [Fact]
    public void AddressesOfBothFamiliesWithFlagsAndLifetimes()
    {
        links.Add(new BridgeSpec { Name = "br0", Up = true });
        var index = links.Get("br0")!.Index;
        var addresses = new RouteAddresses(socket);
        var v4 = new LinkAddress { Interface = index, Address = IPAddress.Parse("10.1.2.3"), PrefixLength = 24, Flags = AddressFlags.NoPrefixRoute };
        var v6 = new LinkAddress { Interface = index, Address = IPAddress.Parse("fd00::3"), PrefixLength = 64, Flags = AddressFlags.NoDad | AddressFlags.NoPrefixRoute };
        addresses.Add(v4);
        addresses.Add(v6);
        Assert.True(Assert.Throws<NetlinkException>(() => addresses.Add(v4)).AlreadyExists);
        Assert.Equal(v4 with { Flags = v4.Flags | AddressFlags.Permanent }, addresses.Dump().Single(a => a.Address.Equals(v4.Address)));
        Assert.Equal(v6 with { Flags = v6.Flags | AddressFlags.Permanent }, addresses.Dump().Single(a => a.Address.Equals(v6.Address)));
        addresses.Replace(v4 with { ValidLifetime = TimeSpan.FromSeconds(60), PreferredLifetime = TimeSpan.FromSeconds(30) });
        var seen = Shell.Json($"ip -n {name} -j -4 addr show br0")[0]!["addr_info"]![0]!;
        Assert.InRange((int)seen["valid_life_time"]!, 55, 60);
        Assert.InRange((int)seen["preferred_life_time"]!, 25, 30);
        Assert.Empty(Shell.Json($"ip -n {name} -j route"));
        addresses.Delete(v4);
        addresses.Delete(v6);
        Assert.DoesNotContain(addresses.Dump(), a => a.Address.Equals(v4.Address) || a.Address.Equals(v6.Address));
        Assert.True(Assert.Throws<NetlinkException>(() => addresses.Delete(v4)).NotFound);
    }

    [Fact]
    public void NeighboursAndFdbInBatchesWithErrorsInTheMiddle()
    {
        links.Add(new BridgeSpec { Name = "br0", Up = true, Options = new BridgeOptions { DefaultPvid = 0 } });
        links.Add(new VxlanSpec { Name = "vx0", Master = links.Get("br0")!.Index, Up = true, Options = new VxlanOptions { Vni = 77 } });
        var (bridge, vxlan) = (links.Get("br0")!.Index, links.Get("vx0")!.Index);
        var requests = new List<RouteRequest>();
        for (var i = 0; i < 3000; i++)
        {
            var mac = new MacAddress(0x024200000000ul + (uint)i);
            requests.Add(RouteNeighbours.Replacing(new Neighbour(bridge, new IPAddress([10, 9, (byte)(i >> 8), (byte)i]), mac)));
            requests.Add(RouteFdb.Replacing(new FdbEntry
            {
                Interface = vxlan,
                Mac = mac,
                Vtep = IPAddress.Parse("192.0.2.9"),
                Flags = NeighbourFlags.Self | NeighbourFlags.Master,
            }));
        }
        // A link that does not exist: refused on its own, the rest goes on.
        requests.Insert(2999, RouteNeighbours.Replacing(new Neighbour(9999, IPAddress.Loopback, default(MacAddress))));
        var results = RouteRequest.SendAll(socket, requests);
        Assert.Equal(6001, results.Length);
        Assert.Equal(2999, Array.FindIndex(results, result => !result.Ok));
        Assert.Single(results, result => !result.Ok);
        Assert.Equal(19, results[2999].Errno);
        Assert.Equal(3000, new RouteNeighbours(socket).Dump(bridge).Count(n => n.State == NeighbourState.Permanent));
        var fdb = new RouteFdb(socket).Dump();
        Assert.Equal(3000, fdb.Count(e => e.Interface == vxlan && e.Flags.HasFlag(NeighbourFlags.Self) && Equals(e.Vtep, IPAddress.Parse("192.0.2.9"))));
        Assert.Equal(3000, fdb.Count(e => e.Interface == vxlan && e.Bridge == bridge && e.State == NeighbourState.NoArp));
        Assert.Equal(3000, Shell.Json($"bridge -n {name} -j fdb show dev vx0").Count(e => (string?)e!["dst"] == "192.0.2.9"));
        Assert.Equal(3000, Shell.Json($"ip -n {name} -j neigh show dev br0 nud permanent").Count);
    }

    [Fact]
    public void RoutesAndRulesOfBothFamilies()
    {
        links.Add(new BridgeSpec { Name = "br0", Up = true });
        var index = links.Get("br0")!.Index;
        var addresses = new RouteAddresses(socket);
        addresses.Add(new LinkAddress { Interface = index, Address = IPAddress.Parse("10.1.0.2"), PrefixLength = 24 });
        addresses.Add(new LinkAddress { Interface = index, Address = IPAddress.Parse("fd00:1::2"), PrefixLength = 64, Flags = AddressFlags.NoDad });
        var routes = new RouteRoutes(socket);
        var v4 = new Route { Destination = IPNetwork.Parse("10.7.0.0/16"), Gateway = IPAddress.Parse("10.1.0.1"), Interface = index, Source = IPAddress.Parse("10.1.0.2"), Mtu = 1400 };
        var v6 = new Route { Destination = IPNetwork.Parse("::/0"), Gateway = IPAddress.Parse("fd00:1::1"), Interface = index, Metric = 50 };
        var table = new Route { Destination = IPNetwork.Parse("10.8.0.0/24"), Interface = index, Table = 1000, Scope = 253 };
        foreach (var route in new[] { v4, v6, table })
        {
            routes.Add(route);
            Assert.True(Assert.Throws<NetlinkException>(() => routes.Add(route)).AlreadyExists);
            routes.Replace(route);
        }
        var dump = routes.Dump();
        Assert.Contains(v4 with { Scope = 0 }, dump);
        Assert.Contains(v6 with { Scope = 0 }, dump);
        Assert.Contains(table, dump);
        Assert.Equal("10.1.0.2", (string)Shell.Json($"ip -n {name} -j route get 10.7.1.1")[0]!["prefsrc"]!);
        routes.Delete(v4);
        Assert.DoesNotContain(routes.Dump(), route => route.Destination == v4.Destination);

        var rules = new RouteRules(socket);
        foreach (var family in new[] { AddressFamily.InterNetwork, AddressFamily.InterNetworkV6 })
        {
            var destination = family == AddressFamily.InterNetwork ? IPNetwork.Parse("10.9.0.9/32") : IPNetwork.Parse("fd00::9/128");
            var rule = new RoutingRule { Family = family, Priority = 5, Destination = destination, IncomingInterface = "lo", Table = 1000 };
            rules.Add(rule);
            Assert.Contains(rule, rules.Dump());
            rules.Delete(rule);
            Assert.DoesNotContain(rule, rules.Dump());
        }
    }

    [Fact]
    public void MonitorHearsChangesAndTheEndOfANamespace()
    {
        var containerName = namespaces.Create("container");
        using var heard = new BlockingQueue();
        using var monitor = new NetlinkMonitor(netns, RouteGroups.All, heard.Add, () => { });
        using (var container = NamedNamespaces.OpenPinned(containerName))
            links.Add(new VethSpec { Name = "ve0", Up = true, PeerName = "eth0", PeerNetnsFd = container.Fd });
        var index = ((Link)heard.Wait(n => n is { Removed: false, Subject: Link { Name: "ve0" } }).Subject).Index;
        new RouteAddresses(socket).Add(new LinkAddress { Interface = index, Address = IPAddress.Parse("10.3.0.1"), PrefixLength = 24 });
        heard.Wait(n => n is { Removed: false, Subject: LinkAddress a } && a.Address.Equals(IPAddress.Parse("10.3.0.1")));
        new RouteNeighbours(socket).Add(new Neighbour(index, IPAddress.Parse("10.3.0.2"), MacAddress.Parse("02:00:00:00:00:02")));
        heard.Wait(n => n is { Removed: false, Subject: Neighbour });
        NamedNamespaces.Delete(containerName);
        heard.Wait(n => n is { Removed: true, Subject: Link { Name: "ve0" } });
    }

    [Fact]
    public void MonitorReportsAnOverrun()
    {
        links.Add(new BridgeSpec { Name = "br0", Up = true });
        var bridge = links.Get("br0")!.Index;
        using var overrun = new ManualResetEventSlim();
        using var blocked = new ManualResetEventSlim();
        // A reader that stands still while the kernel sends more than the socket holds.
        using var monitor = new NetlinkMonitor(netns, RouteGroups.Neighbours, _ => blocked.Wait(), overrun.Set);
        for (var round = 0; round < 40 && !overrun.IsSet; round++)
        {
            var requests = new List<RouteRequest>();
            for (var i = 0; i < 2000; i++)
                requests.Add(RouteNeighbours.Replacing(new Neighbour(bridge, new IPAddress([10, 9, (byte)(i >> 8), (byte)i]), new MacAddress((ulong)round))));
            RouteRequest.SendAll(socket, requests);
        }
        blocked.Set();
        Assert.True(overrun.Wait(TimeSpan.FromSeconds(20)));
    }

    private sealed class BlockingQueue : IDisposable
    {
        private readonly System.Collections.Concurrent.BlockingCollection<RouteNotification> items = [];

        internal void Add(RouteNotification notification) => items.Add(notification);

        internal RouteNotification Wait(Func<RouteNotification, bool> wanted)
        {
            while (items.TryTake(out var item, TimeSpan.FromSeconds(10)))
            {
                if (wanted(item))
                    return item;
            }
            throw new TimeoutException("the notification did not come");
        }

        public void Dispose() => items.Dispose();
    }
}
