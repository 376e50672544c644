using System.Net;
using OverlayNet.ClusterTests.Kernel;
using OverlayNet.Kernel;
using OverlayNet.Overlay;

namespace OverlayNet.ClusterTests.Overlay;

/// <summary>Apply against the real kernel, judged by iproute2, ping and tcpdump.</summary>
public sealed class OverlayTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ContainersReachEachOtherAcrossHostsInBothFamilies(bool underlay6)
    {
        using var underlay = new Underlay(3, underlay6);
        var (a, b, c) = (underlay.Container("a"), underlay.Container("b"), underlay.Container("c"));
        var network = new TestNetwork("web", 5001).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12).With(underlay.Hosts[2], c, 13);
        underlay.Apply(network);
        foreach (var (from, to) in new[] { (a, 12), (a, 13), (b, 11), (c, 11) })
        {
            Cluster.AssertPing(from, network.Address4(to));
            Cluster.AssertPing(from, network.Address6(to));
        }
        // The gateway and every node's own address.
        foreach (var number in new[] { 1, 240, 241, 242 })
        {
            Cluster.AssertPing(a, network.Address4(number));
            Cluster.AssertPing(a, network.Address6(number));
        }
        // What the node originates reaches a remote container and comes back to this node, not to the twin of its gateway.
        var home = underlay.Hosts[0].Netns("web");
        Cluster.AssertPing(home, network.Address4(12));
        Cluster.AssertPing(home, network.Address6(12));
        // The largest packet that fits, with "do not fragment": the payload plus 8 octets of ICMP and the IP header.
        var mtu = underlay6 ? 1430 : 1450;
        Assert.Equal(mtu, (int)Shell.Json($"ip -n {a} -j link show eth0")[0]!["mtu"]!);
        Cluster.AssertPing(a, network.Address4(12), $"-c1 -W2 -M do -s {mtu - 28}");
        Cluster.AssertPing(a, network.Address6(12), $"-c1 -W2 -M do -s {mtu - 48}");
        Assert.False(Cluster.Ping(a, network.Address4(12), $"-c1 -W1 -M do -s {mtu - 27}"));
    }

    [Fact]
    public void ASecondApplyChangesNothing()
    {
        using var underlay = new Underlay(2);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var network = new TestNetwork("web", 5002).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        underlay.Apply(network);
        var before = State(underlay.Hosts[0].Netns("web"));
        foreach (var host in underlay.Hosts)
        {
            Assert.Empty(host.Apply().Changes);
            Assert.True(host.Overlay.Plan(host.Config).InSync);
            // A successor that knows nothing adopts what is there.
            using var successor = new OverlayNet.Overlay.Overlay(NamedNamespaces.PathOf(host.Name));
            Assert.True(successor.Apply(host.Config).InSync);
        }
        Assert.Equal(before, State(underlay.Hosts[0].Netns("web")));
    }

    [Fact]
    public void UnknownDestinationsNeverReachTheUnderlay()
    {
        using var underlay = new Underlay(2);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var vip = new ExtraNeighbour(IPAddress.Parse("10.96.1.200"), MacAddress.Parse("02:42:00:01:00:c8"));
        var vip6 = new ExtraNeighbour(IPAddress.Parse("fd00:96:1::c8"), vip.Mac);
        var network = new TestNetwork("web", 5003) { Extra = [vip, vip6] }.With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        underlay.Apply(network);
        using var capture = new Capture(underlay.Hosts[0].Name, "u0", "udp port 4789");
        foreach (var unknown in new[] { network.Address4(99), network.Address6(99), IPAddress.Parse("10.96.1.255"), IPAddress.Parse("224.0.0.1"), IPAddress.Parse("ff02::1%eth0") })
            Cluster.Ping(a, unknown, "-c1 -W1 -b");
        // A neighbour somebody set by hand whose MAC nobody has: unknown unicast.
        Shell.Run($"ip -n {a} neigh add {network.Address4(98)} lladdr 02:42:00:01:00:62 dev eth0");
        Cluster.Ping(a, network.Address4(98), "-c1 -W1");
        // Virtual IPs are answered for, and lead nowhere by themselves.
        Cluster.Ping(a, vip.Address, "-c1 -W1");
        Cluster.Ping(a, vip6.Address, "-c1 -W1");
        Assert.Contains("02:42:00:01:00:c8", Shell.Run($"ip -n {a} neigh show {vip.Address}"), StringComparison.Ordinal);
        Assert.Contains("02:42:00:01:00:c8", Shell.Run($"ip -n {a} neigh show {vip6.Address}"), StringComparison.Ordinal);
        Assert.Empty(capture.Lines);
        Cluster.AssertPing(a, network.Address4(12));
        capture.WaitFor("10.96.1.11 > 10.96.1.12: ICMP echo request");
        Cluster.AssertPing(a, network.Address6(12));
        capture.WaitFor("fd00:96:1::b > fd00:96:1::c: ICMP6, echo request");
        Assert.DoesNotContain(capture.Lines, line => line.Contains("ARP", StringComparison.Ordinal) || line.Contains("neighbor", StringComparison.Ordinal));
    }

    [Fact]
    public void DamageByHandIsNamedAndMended()
    {
        using var underlay = new Underlay(2);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var network = new TestNetwork("web", 5004).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        underlay.Apply(network);
        var host = underlay.Hosts[0];
        var netns = host.Netns("web");
        var before = State(netns);
        string[] damages =
        [
            $"bridge -n {netns} fdb del 02:42:00:01:00:0c dev vx0 self",
            $"bridge -n {netns} fdb del 02:42:00:01:00:0c dev vx0 master",
            $"bridge -n {netns} fdb replace 02:42:00:01:00:0c dev vx0 dst 198.51.100.77 self",
            $"bridge -n {netns} fdb append 00:00:00:00:00:00 dev vx0 dst 198.51.100.2",
            $"bridge -n {netns} fdb add 02:42:00:01:00:55 dev vx0 master static",
            $"ip -n {netns} neigh del 10.96.1.12 dev br0",
            $"ip -n {netns} neigh replace fd00:96:1::c lladdr 02:00:00:00:00:01 dev br0 nud permanent",
            $"ip -n {netns} link set vx0 type bridge_slave flood on learning on",
            $"ip -n {netns} link set vx0 down",
            $"ip -n {netns} link del vx0",
            $"ip -n {netns} link del node0",
            $"ip -n {netns} link del br0",
            $"ip -n {netns} link del {network.For(host, underlay.Hosts).Endpoints[0].HostInterface}",
            $"ip -n {netns} link set br0 address 02:00:00:00:00:99",
            $"ip -n {netns} link set br0 mtu 1300",
            $"ip -n {netns} addr flush dev br0",
            $"ip -n {netns} addr add 10.96.1.77/24 dev br0",
            $"ip -n {netns} route del 10.96.1.0/24",
            $"ip netns exec {netns} sysctl -qw net.ipv4.conf.all.arp_ignore=0",
            $"ip netns del {netns}",
            $"ip -n {a} addr flush dev eth0",
            $"ip -n {a} route del default",
            $"ip -n {a} link set eth0 down",
        ];
        foreach (var damage in damages)
        {
            Shell.Run(damage);
            var plan = host.Overlay.Plan(host.Config);
            Assert.True(plan.Changes.Count > 0, $"the plan does not see: {damage}");
            Assert.True(host.Apply().Changes.Count > 0, damage);
            var again = host.Apply();
            Assert.True(again.InSync, $"{damage}: {string.Join("; ", again.Changes)}");
            Assert.True(before == State(netns), $"{damage}: {before}\n---\n{State(netns)}");
            Cluster.AssertPing(a, network.Address4(12));
            Cluster.AssertPing(a, network.Address6(12));
        }
    }

    [Fact]
    public void RemovalLeavesNothingAndTouchesNobodyElses()
    {
        using var underlay = new Underlay(2);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var linksBefore = Shell.Run($"ip -n {underlay.Hosts[0].Name} -br link");
        var web = new TestNetwork("web", 5005).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        var db = new TestNetwork("db", 5006) { Subnet = 2 }.With(underlay.Hosts[0], a, 11);
        underlay.Apply(web, db);
        var host = underlay.Hosts[0];
        Assert.Equal(2, Shell.Json($"ip -n {a} -j link").Count(link => ((string)link!["ifname"]!).StartsWith("eth", StringComparison.Ordinal)));

        // Somebody else's namespace with a name like ours, and one of another cluster.
        var foreign = $"on-{host.Config.NodeShortId}-other";
        NamedNamespaces.Create(foreign);
        try
        {
            Shell.Run($"ip -n {foreign} link set lo alias overlaynet:elsewhere:{host.Config.NodeId}:other");
            host.Config = host.Config with { Networks = [db.For(host, underlay.Hosts)] };
            Assert.Contains(host.Apply().Changes, change => change.What.Contains("not desired", StringComparison.Ordinal));
            Assert.False(NamedNamespaces.Exists(host.Netns("web")));
            Assert.True(NamedNamespaces.Exists(foreign));
            Assert.DoesNotContain("eth0", Shell.Run($"ip -n {a} -br link"), StringComparison.Ordinal);
            host.Config = host.Config with { Networks = [] };
            host.Apply();
            Assert.True(NamedNamespaces.Exists(foreign));
            Assert.DoesNotContain(NamedNamespaces.List(), name => name.StartsWith($"on-{host.Config.NodeShortId}-", StringComparison.Ordinal) && name != foreign);
        }
        finally
        {
            NamedNamespaces.Delete(foreign);
        }
        Assert.Equal(linksBefore, Shell.Run($"ip -n {host.Name} -br link"));
        Assert.DoesNotContain("eth", Shell.Run($"ip -n {a} -br link"), StringComparison.Ordinal);
        // The other host's network was never touched.
        Assert.True(underlay.Hosts[1].Apply().InSync);
    }

    [Fact]
    public void ANamespaceOfSomebodyElseIsRefusedAndOtherNetworksAreBuilt()
    {
        using var underlay = new Underlay(1);
        var host = underlay.Hosts[0];
        var taken = host.Netns("web");
        NamedNamespaces.Create(taken);
        try
        {
            Shell.Run($"ip -n {taken} link add br0 type bridge");
            var web = new TestNetwork("web", 5007);
            var db = new TestNetwork("db", 5008) { Subnet = 2 };
            host.Config = host.Config with
            {
                Networks = [web.For(host, underlay.Hosts), new TestNetwork("dark", 5009) { Subnet = 3 }.For(host, underlay.Hosts) with { Encrypted = true }, db.For(host, underlay.Hosts)],
            };
            var report = host.Overlay.Apply(host.Config);
            Assert.Equal(["dark", "web"], report.Errors.Select(error => error.Network).Order());
            Assert.Contains("no mark of ours", report.Errors.Single(error => error.Network == "web").Message, StringComparison.Ordinal);
            Assert.Contains("--encrypted", report.Errors.Single(error => error.Network == "dark").Message, StringComparison.Ordinal);
            Assert.True(NamedNamespaces.Exists(host.Netns("db")));
            Assert.False(NamedNamespaces.Exists(host.Netns("dark")));
        }
        finally
        {
            NamedNamespaces.Delete(taken);
        }
    }

    [Fact]
    public void AContainerOnTwoNetworksHasOneDefaultRouteAndTwoInterfaces()
    {
        using var underlay = new Underlay(2);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var web = new TestNetwork("web", 5010).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        var db = new TestNetwork("db", 5011) { Subnet = 2 }.With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        var back = new TestNetwork("back", 5012) { Subnet = 3, Internal = true }.With(underlay.Hosts[1], b, 12);
        underlay.Apply(web, db, back);
        Assert.Equal("eth0", (string)Shell.Json($"ip -n {a} -j route show default").Single()!["dev"]!);
        Assert.Equal("eth0", (string)Shell.Json($"ip -n {a} -j -6 route show default").Single()!["dev"]!);
        Cluster.AssertPing(a, db.Address4(12));
        Cluster.AssertPing(a, web.Address4(12));
        var report = underlay.Hosts[0].Apply();
        Assert.Equal(new EndpointReport(EndpointOutcome.Ready, "eth0"), report.Endpoints["web-11"]);
        Assert.Equal(new EndpointReport(EndpointOutcome.Ready, "eth1"), report.Endpoints["db-11"]);
        // The first network goes: the second takes over the way outside.
        underlay.Apply(db, back);
        Assert.Equal("eth1", (string)Shell.Json($"ip -n {a} -j route show default").Single()!["dev"]!);
        // Only an internal network is left: no way outside.
        underlay.Apply(back);
        Assert.Empty(Shell.Json($"ip -n {b} -j route show default"));
    }

    [Fact]
    public void AnEndpointMovesBetweenHosts()
    {
        using var underlay = new Underlay(2);
        var (a, b, c) = (underlay.Container("a"), underlay.Container("b"), underlay.Container("c"));
        var network = new TestNetwork("web", 5013).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[1], b, 12);
        underlay.Apply(network);
        Cluster.AssertPing(a, network.Address4(12));
        network.With(underlay.Hosts[0], c, 12);
        underlay.Apply(network);
        Cluster.AssertPing(a, network.Address4(12));
        Cluster.AssertPing(a, network.Address6(12));
        Assert.DoesNotContain("eth0", Shell.Run($"ip -n {b} -br link"), StringComparison.Ordinal);
        Assert.All(underlay.Hosts, host => Assert.True(host.Apply().InSync));
    }

    [Fact]
    public void AContainerThatIsGoneIsSaidToBeGone()
    {
        using var underlay = new Underlay(1);
        var (a, b) = (underlay.Container("a"), underlay.Container("b"));
        var network = new TestNetwork("web", 5014).With(underlay.Hosts[0], a, 11).With(underlay.Hosts[0], b, 12);
        underlay.Apply(network);
        Cluster.AssertPing(a, network.Address4(12));
        underlay.RemoveContainer(b);
        var report = underlay.Hosts[0].Apply();
        Assert.Equal(EndpointOutcome.Gone, report.Endpoints["web-12"].Outcome);
        Assert.Equal(EndpointOutcome.Ready, report.Endpoints["web-11"].Outcome);
        // A new container under the same name is attached anew, once the kernel is through with the old one.
        NamedNamespaces.Create(b);
        Assert.Equal(EndpointOutcome.Ready, underlay.Hosts[0].Apply().Endpoints["web-12"].Outcome);
        Cluster.AssertPing(a, network.Address4(12));
        underlay.RemoveContainer(b);
    }

    /// <summary>What a person would compare: links, addresses, routes, neighbours and FDB without indexes and counters.</summary>
    private static string State(string netns) => string.Join('\n',
        Sorted($"ip -n {netns} -br link", line => line.Split('@')[0]),
        Sorted($"ip -n {netns} -br addr", line => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries).Where(word => word.Contains('/') && !word.StartsWith("fe80", StringComparison.Ordinal)))),
        Sorted($"ip -n {netns} route", line => line),
        Sorted($"ip -n {netns} -6 route", line => line.StartsWith("fe80", StringComparison.Ordinal) ? "" : line),
        Sorted($"ip -n {netns} neigh show dev br0 nud permanent", line => line),
        Sorted($"ip -n {netns} -d link show vx0", line => line.Contains("bridge_slave", StringComparison.Ordinal) ? line.Split("designated")[0] + line[line.IndexOf("neigh_suppress", StringComparison.Ordinal)..] : ""),
        Sorted($"bridge -n {netns} fdb show br br0", line => line.Contains("permanent", StringComparison.Ordinal) && !line.Contains("self", StringComparison.Ordinal) || line.Contains("33:33", StringComparison.Ordinal) || line.Contains("01:00:5e", StringComparison.Ordinal) ? "" : line));

    private static string Sorted(string command, Func<string, string> keep) =>
        string.Join('\n', Shell.Run(command).Split('\n').Select(line => keep(line).Trim()).Where(line => line.Length > 0).Order());
}
