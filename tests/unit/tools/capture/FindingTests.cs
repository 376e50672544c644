using System.Net;
using System.Text;
using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Findings;

namespace OverlayNet.UnitTests.Tools.Capture;

/// <summary>What packets show: each fault is named once, and healthy traffic shows nothing.</summary>
public sealed class FindingTests
{
    private const byte Syn = 2, SynAck = 0x12, Rst = 4, PushAck = 0x18;
    private const long Second = 1_000_000_000;
    private static readonly RegistrySnapshot Snapshot = new()
    {
        ClusterId = "c",
        ClusterDomain = "overlay.internal",
        Nodes =
        [
            new Node { Id = "n1", Name = "node1", Dc = "dc1", Address = IPAddress.Parse("192.0.2.1") },
            new Node { Id = "n2", Name = "node2", Dc = "dc1", Address = IPAddress.Parse("192.0.2.2") },
        ],
        Networks = [new Network { Id = "w1", Name = "app", Vni = 4096, GatewayMac = "02:00:00:00:00:01" }],
        Endpoints = [new Endpoint { Id = "e1", Name = "web1", NodeId = "n2", NetworkId = "w1", Mac = Frames.MacB.ToString() }],
    };

    private readonly PacketDecoder _decoder = new();
    private readonly FindingRules _rules = new(new Expectations(Snapshot));

    [Fact]
    public void HealthyTrafficShowsNothing()
    {
        var request = Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\n\r\n");
        for (var i = 0; i < 20; i++)
        {
            var at = i * Second;
            var port = 40000 + i;
            See(at, Frames.Udp("10.10.0.5", "10.10.0.1", port, 53, Frames.Dns(i, "web")), "client");
            See(at + 1, Frames.Udp("10.10.0.1", "10.10.0.5", 53, port, Frames.Dns(i, "web", "10.10.0.2", response: true)), "client");
            See(at + 2, Frames.Vxlan("192.0.2.1", "192.0.2.2", 4096, Frames.Tcp("10.10.0.5", "10.10.0.6", port, 80, Syn)), "underlay");
            See(at + 3, Frames.Vxlan("192.0.2.2", "192.0.2.1", 4096, Frames.Tcp("10.10.0.6", "10.10.0.5", 80, port, SynAck, destinationMac: Frames.MacA)), "underlay");
            See(at + 4, Frames.Vxlan("192.0.2.1", "192.0.2.2", 4096, Frames.Tcp("10.10.0.5", "10.10.0.6", port, 80, PushAck, 2, request)), "underlay");
            See(at + 5, Frames.Vrrp("192.0.2.1", 51, 200), "underlay");
            See(at + 6, Frames.Arp(2, Frames.MacA, "192.0.2.1", "192.0.2.2"), "underlay");
        }
        Assert.Empty(_rules.End());
    }

    [Fact]
    public void TwoMasters()
    {
        for (var i = 0; i < 4; i++)
        {
            See(i * Second, Frames.Vrrp("192.0.2.1", 51, 200));
            See(i * Second + 1, Frames.Vrrp("192.0.2.2", 51, 100));
        }
        Found("error", "vrrp.two-masters", "VRID 51");
    }

    [Fact]
    public void AHandOverIsNotTwoMasters()
    {
        for (var i = 0; i < 4; i++)
            See(i * Second, Frames.Vrrp("192.0.2.1", 51, 200));
        See(4 * Second, Frames.Vrrp("192.0.2.1", 51, 0));
        for (var i = 5; i < 9; i++)
            See(i * Second, Frames.Vrrp("192.0.2.2", 51, 100));
        Assert.Empty(_rules.End());
    }

    [Fact]
    public void AdvertsThatRoutersRefuse()
    {
        See(0, Frames.Vrrp("192.0.2.1", 51, 200, hopLimit: 254));
        var carp = Frames.Ip("192.0.2.9", "224.0.0.18", 112, [0x21, 1, 0, 7, .. new byte[32]], hopLimit: 255);
        See(1, carp);
        See(2 * Second, Frames.Vrrp("192.0.2.1", 52, 200));
        See(9 * Second, Frames.Vrrp("192.0.2.1", 52, 200));
        See(9 * Second, Frames.Vrrp("192.0.2.2", 52, 100, intervalCs: 50));
        Found("error", "vrrp.packet", "VRID 51 from 192.0.2.1");
        Found("warning", "vrrp.carp", "192.0.2.9");
        Found("warning", "vrrp.gap", "VRID 52 from 192.0.2.1");
        Found("warning", "vrrp.interval", "VRID 52");
    }

    [Fact]
    public void TwoOwnersOfAnAddress()
    {
        for (var i = 0; i < 3; i++)
        {
            See(i * 2, Frames.Arp(2, Frames.MacA, "192.0.2.100", "192.0.2.7"));
            See(i * 2 + 1, Frames.Arp(2, Frames.MacB, "192.0.2.100", "192.0.2.7"));
        }
        Found("error", "address.two-owners", "192.0.2.100");
    }

    [Fact]
    public void AMoveIsNotTwoOwners()
    {
        See(0, Frames.Arp(2, Frames.MacA, "192.0.2.100", "192.0.2.7"));
        See(1, Frames.Arp(2, Frames.MacB, "192.0.2.100", "192.0.2.100"));
        See(2, Frames.Arp(2, Frames.MacB, "192.0.2.100", "192.0.2.100"));
        Assert.Empty(_rules.End());
    }

    [Fact]
    public void TunnelsThatGoWrong()
    {
        var syn = Frames.Tcp("10.10.0.5", "10.10.0.6", 40000, 80, SynAck);
        See(0, Frames.Vxlan("192.0.2.1", "192.0.2.7", 4096, syn));
        See(1, Frames.Vxlan("192.0.2.1", "192.0.2.2", 77, syn));
        See(2, Frames.Vxlan("192.0.2.2", "192.0.2.1", 4096, syn));
        var damaged = (byte[])syn.Clone();
        damaged[14 + 20 + 16] ^= 0x55;
        See(3, Frames.Vxlan("192.0.2.1", "192.0.2.2", 4096, damaged));
        Found("error", "vxlan.vtep", "192.0.2.7");
        Found("error", "vxlan.vni", "VNI 77");
        Found("error", "vxlan.wrong-vtep", $"{Frames.MacB} in app");
        Found("error", "vxlan.inner-checksum", "192.0.2.1 to 192.0.2.2");
    }

    [Fact]
    public void SizesThatDoNotFit()
    {
        See(0, Frames.Udp("192.0.2.1", "192.0.2.2", 50000, 4789, [8, .. new byte[99]], moreFragments: true));
        See(1, Frames.TooBig("192.0.2.254", "192.0.2.1", 1400, Frames.Udp("192.0.2.1", "192.0.2.2", 50000, 4789, new byte[64])));
        Found("warning", "vxlan.fragmented", "192.0.2.1 to 192.0.2.2");
        var mtu = Found("warning", "path.mtu", "192.0.2.1 to 192.0.2.2");
        Assert.Contains("--mtu 1350", mtu.Remedy, StringComparison.Ordinal);
    }

    [Fact]
    public void ConnectionsThatNobodyAnswers()
    {
        for (var i = 0; i < 3; i++)
        {
            See(i * Second, Frames.Tcp("10.10.0.5", "10.10.0.6", 40000, 80, Syn), "client");
            See(i * Second + 1, Frames.Tcp("10.10.0.5", "10.10.0.6", 40000, 80, Syn), "app/vxlan");
        }
        See(3 * Second, Frames.Tcp("10.10.0.5", "10.10.0.7", 40001, 81, Syn), "client");
        See(3 * Second + 1, Frames.Tcp("10.10.0.7", "10.10.0.5", 81, 40001, Rst), "client");
        for (var i = 0; i < 5; i++)
            See(4 * Second + i, Frames.Tcp("10.10.0.5", "10.10.0.8", 40002, 80, PushAck, 9, new byte[10]), "client");
        var silent = Found("error", "tcp.no-answer", "10.10.0.6:80");
        Assert.Contains("last seen at app/vxlan", silent.Message, StringComparison.Ordinal);
        Found("warning", "tcp.refused", "10.10.0.7:81");
        Found("warning", "tcp.retransmissions", "10.10.0.8:80");
    }

    [Fact]
    public void NamesThatAreAnsweredDifferently()
    {
        See(0, Frames.Udp("10.10.0.5", "10.10.0.1", 4000, 53, Frames.Dns(1, "web")), "a");
        See(1, Frames.Udp("10.10.0.1", "10.10.0.5", 53, 4000, Frames.Dns(1, "web", "10.10.0.2", response: true)), "a");
        See(2, Frames.Udp("10.10.0.1", "10.10.0.6", 53, 4001, Frames.Dns(2, "web", "10.10.0.3", response: true)), "b");
        See(3, Frames.Udp("10.10.0.5", "10.10.0.1", 4002, 53, Frames.Dns(3, "other")), "a");
        See(4, Frames.Udp("10.10.0.1", "10.10.0.5", 53, 4003, Frames.Dns(4, "lost.example", rcode: 2, response: true)), "a");
        See(9 * Second, Frames.Arp(1, Frames.MacA, "10.10.0.5", "10.10.0.6"), "a");
        Found("error", "dns.views-differ", "web A");
        Found("error", "dns.no-answer", "10.10.0.1");
        Found("warning", "dns.servfail", "lost.example A");
    }

    private void See(long timeNs, byte[] frame, string point = "underlay") =>
        _rules.See(_decoder.Decode(LinkType.Ethernet, frame, frame.Length, timeNs, point));

    private Finding Found(string severity, string check, string subject)
    {
        var found = Assert.Single(_end ??= _rules.End(), finding => finding.Check == check);
        Assert.Equal((severity, subject), (found.Severity, found.Object));
        Assert.False(string.IsNullOrEmpty(found.Remedy));
        return found;
    }

    private IReadOnlyList<Finding>? _end;
}
