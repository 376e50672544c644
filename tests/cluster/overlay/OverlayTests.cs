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
        foreach (var host in underlay.Hosts)
        {
            Assert.Empty(host.Apply().Changes);
            Assert.True(host.Overlay.Plan(host.Config).InSync);
        }
    }
}
