using System.Net;
using OverlayNet.ClusterTests.Kernel;

namespace OverlayNet.ClusterTests.Overlay;

/// <summary>The way outside: NAT, separation of networks, and hosts whose iptables drop what is forwarded.</summary>
public sealed class EgressTests
{
    private static readonly IPAddress Outside4 = IPAddress.Parse("198.51.100.254");
    private static readonly IPAddress Outside6 = IPAddress.Parse("2001:db8:99::fe");

    [Fact]
    public void ContainersReachTheOutsideUnderTheHostsAddress()
    {
        using var underlay = new Underlay(1);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var host = underlay.Hosts[0];
        underlay.Apply(
            new TestNetwork("web", 5101).With(host, a, 11),
            new TestNetwork("back", 5102) { Subnet = 2, Internal = true }.With(host, b, 12));
        using (var capture = new Capture(underlay.Switch, "br0", "icmp or icmp6"))
        {
            Cluster.AssertPing(a, Outside4);
            Cluster.AssertPing(a, Outside6);
            capture.WaitFor("198.51.100.1 > 198.51.100.254: ICMP echo request");
            capture.WaitFor("2001:db8:99::1 > 2001:db8:99::fe: ICMP6, echo request");
        }
        Assert.False(Cluster.Ping(b, Outside4, "-c1 -W1"));
        Assert.False(Cluster.Ping(b, Outside6, "-c1 -W1"));
        Assert.True(host.Apply().InSync);
        // VXLAN is not tracked.
        var rules = Shell.Run($"ip netns exec {host.Name} nft list table inet overlaynet-{host.Config.NodeShortId}");
        Assert.Equal(2, rules.Split('\n').Count(line => line.Contains("udp dport 4789 notrack", StringComparison.Ordinal)));
        // Somebody deletes the tables.
        Shell.Run($"ip netns exec {host.Name} nft delete table inet overlaynet-{host.Config.NodeShortId}");
        Shell.Run($"ip netns exec {host.Netns("web")} nft flush ruleset");
        Assert.False(Cluster.Ping(a, Outside4, "-c1 -W1"));
        Assert.Equal(2, host.Apply().Changes.Count);
        Cluster.AssertPing(a, Outside4);
        Cluster.AssertPing(a, Outside6);
        // The network becomes internal, and comes back.
        underlay.Apply(new TestNetwork("web", 5101) { Internal = true }.With(host, a, 11));
        Assert.Empty(Shell.Json($"ip -n {a} -j route show default"));
        Assert.DoesNotContain("oe", Shell.Run($"ip -n {host.Name} -br link"), StringComparison.Ordinal);
        underlay.Apply(new TestNetwork("web", 5101).With(host, a, 11));
        Cluster.AssertPing(a, Outside4);
        underlay.Apply();
        Assert.DoesNotContain("overlaynet", Shell.Run($"ip netns exec {host.Name} nft list ruleset"), StringComparison.Ordinal);
    }

    [Fact]
    public void NetworksDoNotReachEachOtherThroughTheHost()
    {
        using var underlay = new Underlay(1);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var host = underlay.Hosts[0];
        var (web, db) = (new TestNetwork("web", 5103).With(host, a, 11), new TestNetwork("db", 5104) { Subnet = 2 }.With(host, b, 12));
        underlay.Apply(web, db);
        var outside = Transits(host.Name, "oe");
        Assert.Equal(4, outside.Count);
        var insideOfDb = Transits(host.Netns("db"), "up0");
        Assert.Equal(2, insideOfDb.Count);
        using var capture = new Capture(host.Netns("db"), "up0", "icmp or icmp6");
        foreach (var address in outside.Concat(insideOfDb))
            Assert.False(Cluster.Ping(a, address, "-c1 -W1"), $"{address} answers");
        Assert.False(Cluster.Ping(a, db.Address4(12), "-c1 -W1"));
        Assert.False(Cluster.Ping(a, db.Address6(12), "-c1 -W1"));
        Assert.DoesNotContain(capture.Lines, line => line.Contains("echo", StringComparison.Ordinal));
        // Also when somebody gives the host a route to the network.
        Shell.Run($"ip -n {host.Name} route add 10.96.2.0/24 via {insideOfDb.Single(address => address.GetAddressBytes().Length == 4)}");
        Assert.False(Cluster.Ping(a, db.Address4(12), "-c1 -W1"));
    }

    [Theory]
    [InlineData("iptables-nft", "ip6tables-nft", false)]
    [InlineData("iptables-nft", "ip6tables-nft", true)]
    [InlineData("iptables-legacy", "ip6tables-legacy", false)]
    [InlineData("iptables-legacy", "ip6tables-legacy", true)]
    public void AHostThatDropsWhatIsForwardedLetsOurNetworksOut(string iptables, string ip6tables, bool docker)
    {
        using var underlay = new Underlay(1);
        var a = underlay.Container("a");
        var host = underlay.Hosts[0];
        var network = new TestNetwork("web", 5105).With(host, a, 11);
        underlay.Apply(network);
        var chain = docker ? "DOCKER-USER" : "FORWARD";
        foreach (var tool in new[] { iptables, ip6tables })
        {
            Shell.Run($"ip netns exec {host.Name} {tool} -P FORWARD DROP");
            if (!docker)
                continue;
            Shell.Run($"ip netns exec {host.Name} {tool} -N DOCKER-USER");
            Shell.Run($"ip netns exec {host.Name} {tool} -A DOCKER-USER -j RETURN");
            Shell.Run($"ip netns exec {host.Name} {tool} -I FORWARD -j DOCKER-USER");
        }
        Assert.False(Cluster.Ping(a, Outside4, "-c1 -W1"));
        Assert.False(Cluster.Ping(a, Outside6, "-c1 -W1"));
        host.Apply();
        Cluster.AssertPing(a, Outside4);
        Cluster.AssertPing(a, Outside6);
        Assert.True(host.Apply().InSync);
        // The tool that owns the table still understands it.
        foreach (var tool in new[] { iptables, ip6tables })
        {
            var listing = Shell.Run($"ip netns exec {host.Name} {tool} -S {chain}");
            Assert.Contains($"-i oe{host.Config.NodeShortId}+", listing, StringComparison.Ordinal);
            Assert.Contains($"-o oe{host.Config.NodeShortId}+", listing, StringComparison.Ordinal);
            Shell.Run($"ip netns exec {host.Name} {tool} -F {chain}");
        }
        Assert.Equal(iptables == "iptables-legacy" ? 4 : 2, host.Apply().Changes.Count);
        Cluster.AssertPing(a, Outside4);
        underlay.Apply();
        foreach (var tool in new[] { iptables, ip6tables })
            Assert.DoesNotContain("oe", Shell.Run($"ip netns exec {host.Name} {tool} -S {chain}"), StringComparison.Ordinal);
    }

    [Fact]
    public void EgressWorksWhereTheUnderlayIsIPv6AndKeepsItsTransitAddresses()
    {
        using var underlay = new Underlay(1, v6: true);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var host = underlay.Hosts[0];
        var (web, db) = (new TestNetwork("web", 5106).With(host, a, 11), new TestNetwork("db", 5107) { Subnet = 2 }.With(host, b, 12));
        underlay.Apply(web, db);
        Cluster.AssertPing(a, Outside4);
        Cluster.AssertPing(b, Outside6);
        var before = Shell.Run($"ip -n {host.Netns("db")} -br addr show up0").Split("fe80")[0];
        underlay.Apply(db);
        Assert.Equal(before, Shell.Run($"ip -n {host.Netns("db")} -br addr show up0").Split("fe80")[0]);
        underlay.Apply(web, db);
        Assert.True(host.Apply().InSync);
        Cluster.AssertPing(a, Outside6);
    }

    private static List<IPAddress> Transits(string netns, string prefix) =>
    [
        .. Shell.Json($"ip -n {netns} -j addr").Where(link => ((string)link!["ifname"]!).StartsWith(prefix, StringComparison.Ordinal))
            .SelectMany(link => link!["addr_info"]!.AsArray())
            .Select(address => IPAddress.Parse((string)address!["local"]!)).Where(address => !address.IsIPv6LinkLocal),
    ];
}
