using System.Net;
using System.Text;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.UnitTests.Tools.Capture;

/// <summary>Frames taken apart and written as lines.</summary>
public sealed class DecodeTests
{
    private const byte Syn = 2, PushAck = 0x18;
    private readonly PacketDecoder _decoder = new();

    [Theory]
    [InlineData("10.10.0.5", "10.10.0.6", "192.0.2.1", "192.0.2.2")]
    [InlineData("fd00:10::5", "fd00:10::6", "2001:db8:2::1", "2001:db8:2::2")]
    public void VxlanWithARequestInside(string client, string server, string from, string to)
    {
        var inner = Frames.Tcp(client, server, 40000, 80, PushAck, payload: Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: web\r\n\r\n"));
        var packet = Decode(Frames.Vxlan(from, to, 4096, inner));

        Assert.Equal((from, to), (packet.Ip!.Source.ToString(), packet.Ip.Destination.ToString()));
        Assert.Equal(4096, packet.Vxlan!.Vni);
        Assert.Equal((client, server), (packet.Inner!.Ip!.Source.ToString(), packet.Inner.Ip.Destination.ToString()));
        Assert.Equal((40000, 80, ChecksumState.Right), (packet.Inner.Tcp!.SourcePort, packet.Inner.Tcp.DestinationPort, packet.Inner.Tcp.Checksum));
        Assert.Equal("GET / HTTP/1.1", packet.Inner.HttpLine);
        Assert.Null(packet.Malformed ?? packet.Inner.Malformed);
        var line = new PacketText(NoNames.Instance).Line(packet);
        Assert.Contains($"VXLAN 4096 {from} > {to} | TCP ", line, StringComparison.Ordinal);
        Assert.EndsWith(" [P.] 29 octets \"GET / HTTP/1.1\"", line, StringComparison.Ordinal);
    }

    [Fact]
    public void DnsQuestionsAndAnswers()
    {
        var query = Decode(Frames.Udp("10.10.0.5", "10.10.0.1", 4000, 53, Frames.Dns(7, "web")));
        Assert.EndsWith("DNS #7 A web?", new PacketText(NoNames.Instance).Line(query), StringComparison.Ordinal);
        var answer = Decode(Frames.Udp("10.10.0.1", "10.10.0.5", 53, 4000, Frames.Dns(7, "web", "10.10.0.2", response: true)));
        Assert.EndsWith("DNS #7 A web: NOERROR, A 10.10.0.2", new PacketText(NoNames.Instance).Line(answer), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("192.0.2.1", "192.0.2.100")]
    [InlineData("fe80::1", "fe80::100")]
    public void Adverts(string source, string address)
    {
        var packet = Decode(Frames.Vrrp(source, 51, 200, address: address));
        Assert.Equal((3, 51, 200, 100, "pseudo-header"), (packet.Vrrp!.Version, packet.Vrrp.VirtualRouterId, packet.Vrrp.Priority, packet.Vrrp.IntervalCs, packet.Vrrp.ChecksumMode));
        Assert.Equal(IPAddress.Parse(address), Assert.Single(packet.Vrrp.Addresses));
        Assert.Null(packet.Vrrp.Problem);
        Assert.Equal("hop limit is not 255", Decode(Frames.Vrrp(source, 51, 200, address: address, hopLimit: 64)).Vrrp!.Problem);
    }

    [Fact]
    public void AnUnfinishedChecksumIsNoDamage()
    {
        var frame = Frames.Tcp("10.10.0.5", "10.10.0.6", 1, 2, Syn);
        // CHECKSUM_PARTIAL: the pseudo-header's sum alone, 0x0a0a + 5 + 0x0a0a + 6 + 6 + 20.
        (frame[14 + 20 + 16], frame[14 + 20 + 17]) = (0x14, 0x39);
        Assert.Equal(ChecksumState.Offloaded, Decode(frame).Tcp!.Checksum);
        frame[14 + 20 + 17]++;
        Assert.Equal(ChecksumState.Wrong, Decode(frame).Tcp!.Checksum);
    }

    [Fact]
    public void ACutPacketIsNotMalformed()
    {
        var frame = Frames.Vxlan("192.0.2.1", "192.0.2.2", 4096, Frames.Tcp("10.10.0.5", "10.10.0.6", 1, 2, Syn));
        for (var length = 14; length < frame.Length; length++)
        {
            foreach (var layer in _decoder.Decode(LinkType.Ethernet, frame.AsSpan(0, length), frame.Length).Layers())
                Assert.Null(layer.Malformed);
        }
    }

    /// <summary>Whatever is on the wire, the decoder and both writers give an answer; fixed seeds.</summary>
    [Theory]
    [InlineData(11)]
    [InlineData(12)]
    public void FramesOfAnyShapeAreSurvived(int seed)
    {
        var random = new Random(seed);
        byte[][] corpus =
        [
            Frames.Vxlan("192.0.2.1", "192.0.2.2", 4096, Frames.Udp("10.10.0.5", "10.10.0.1", 4000, 53, Frames.Dns(7, "web", "10.10.0.2", response: true))),
            Frames.Vxlan("2001:db8::1", "2001:db8::2", 4096, Frames.Tcp("fd00::5", "fd00::6", 1, 80, Syn)),
            Frames.Vrrp("192.0.2.1", 51, 200),
            Frames.Vrrp("fe80::1", 51, 200, address: "fe80::5"),
            Frames.Arp(2, Frames.MacA, "10.10.0.5", "10.10.0.6"),
            Frames.TooBig("192.0.2.1", "192.0.2.2", 1400, Frames.Udp("192.0.2.2", "192.0.2.3", 1, 4789, new byte[100])),
        ];
        var text = new PacketText(NoNames.Instance);
        using var json = new PacketJson();
        var rules = new OverlayNet.Tools.Capture.Findings.FindingRules(OverlayNet.Tools.Capture.Findings.Expectations.None);
        for (var i = 0; i < 50_000; i++)
        {
            var frame = (byte[])corpus[random.Next(corpus.Length)].Clone();
            for (var flips = random.Next(8); flips > 0; flips--)
                frame[random.Next(frame.Length)] = (byte)random.Next(256);
            var length = random.Next(4) == 0 ? random.Next(frame.Length + 1) : frame.Length;
            var links = Enum.GetValues<LinkType>();
            var link = random.Next(8) == 0 ? links[random.Next(links.Length)] : LinkType.Ethernet;
            var packet = _decoder.Decode(link, frame.AsSpan(0, length), random.Next(2) == 0 ? length : frame.Length, i * 1_000_000L, "p");
            Assert.NotEmpty(text.Line(packet));
            Assert.StartsWith("{", json.Line(packet), StringComparison.Ordinal);
            rules.See(packet);
        }
        rules.End();
    }

    private DecodedPacket Decode(byte[] frame) => _decoder.Decode(LinkType.Ethernet, frame, frame.Length);
}
