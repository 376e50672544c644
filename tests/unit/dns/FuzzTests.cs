using System.Net;
using OverlayNet.Dns;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Forward;
using OverlayNet.Dns.Server;
using OverlayNet.Dns.Table;

namespace OverlayNet.UnitTests.Dns;

/// <summary>Mutated packets with fixed seeds; OVERLAYNET_SOAK=1 runs the full counts.</summary>
public sealed class FuzzTests
{
    private static readonly int Scale = Environment.GetEnvironmentVariable("OVERLAYNET_SOAK") == "1" ? 50 : 1;

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public unsafe void QueriesOfAnyShapeAreSurvived(int seed, bool tcp)
    {
        const byte Canary = 0xA5;
        var random = new Random(seed);
        var view = View();
        var cookies = new ServerCookies(TimeProvider.System);
        var worker = new AnswerWorker(new QueryProcessor(cookies));
        var client = ClientAddress.From(IPAddress.Loopback);
        var most = tcp ? Limits.Tcp : Limits.EdnsUdp;
        for (var i = 0; i < 100_000 * Scale; i++)
        {
            var packet = Packet(random);
            worker.Load(packet);
            worker.Packet[most] = Canary;
            var length = worker.Processor.Process(worker.Packet, packet.Length, tcp, client, view);
            if (length > 0)
                Check(worker.Answer(length).ToArray(), packet, most);
            else
                Assert.InRange(length, QueryProcessor.Forward, QueryProcessor.Drop);
            if (packet.Length <= most)
                Assert.Equal(Canary, worker.Packet[most]);
        }
    }

    [Fact]
    public unsafe void AnswersOfAnyShapeAreSurvived()
    {
        var random = new Random(3);
        var view = View();
        var worker = new AnswerWorker(new QueryProcessor(new ServerCookies(TimeProvider.System)));
        var sanitizer = new AnswerSanitizer();
        var client = ClientAddress.From(IPAddress.Loopback);
        var accepted = 0;
        for (var i = 0; i < 20_000 * Scale; i++)
        {
            var upstream = new UpstreamQuery(DnsName.Encode("a.example"), RrType.A, random.Next(2) == 0, false, false);
            var sent = upstream.Encode();
            var message = Mutate(random, UpstreamAnswer(random, sent));
            if (message.Length < Header.Size || !UpstreamClient.Matches(sent, message, message.Length, exactCase: false)
                || !sanitizer.TryRun(message, upstream.Name, upstream.Type, upstream.DnssecOk, "", out var answer))
                continue;
            accepted++;
            var query = TestQuery.Build("A.example", RrType.A, new QueryOptions { Edns = random.Next(2) == 0 });
            worker.Load(query);
            var tcp = random.Next(2) == 0;
            Assert.Equal(QueryProcessor.Forward, worker.Processor.Process(worker.Packet, query.Length, tcp, client, view));
            var length = worker.Processor.WriteForwarded(answer, 5, null, tcp, client);
            Check(worker.Answer(length).ToArray(), query, tcp ? Limits.Tcp : Limits.EdnsUdp);
            var reply = Reply.Parse(worker.Answer(length).ToArray());
            Assert.DoesNotContain(reply.Answers, a => a.Name.EndsWith("evil.test.", StringComparison.OrdinalIgnoreCase) && !IsAliasTarget(reply, a.Name));
        }

        Assert.True(accepted > 1000);
    }

    [Fact]
    public void NamesSurviveTextAndBack()
    {
        var random = new Random(4);
        Span<byte> wire = stackalloc byte[300];
        for (var i = 0; i < 20_000 * Scale; i++)
        {
            var length = 0;
            for (var labels = random.Next(1, 6); labels > 0; labels--)
            {
                var size = random.Next(1, 20);
                wire[length++] = (byte)size;
                for (; size > 0; size--)
                    wire[length++] = DnsName.ToLower((byte)random.Next(256));
            }

            var text = DnsName.ToText(wire[..length]);
            Assert.Equal([.. wire[..length], 0], DnsName.Encode(text));
        }
    }

    [Fact]
    public void ReverseNamesSurviveBothWays()
    {
        var random = new Random(5);
        Span<byte> wire = stackalloc byte[300];
        for (var i = 0; i < 5_000; i++)
        {
            var bytes = new byte[i % 2 == 0 ? 4 : 16];
            random.NextBytes(bytes);
            var address = new IPAddress(bytes);
            var length = 0;
            DnsName.AppendReverse(address, wire, ref length);
            Assert.True(DnsName.TryParseReverse(wire[..length], out var parsed, out var prefix));
            Assert.Equal((address, bytes.Length * 8), (parsed, prefix));
        }
    }

    [Fact]
    public void CookiesVerifyOnlyForTheirClientAndTime()
    {
        var time = new ManualTime();
        var cookies = new ServerCookies(time);
        var (a, b) = (ClientAddress.From(IPAddress.Parse("192.0.2.1")), ClientAddress.From(IPAddress.Parse("2001:db8::1")));
        var cookie = new byte[24];
        var next = new byte[24];
        Assert.False(cookies.Answer([1, 2, 3, 4, 5, 6, 7, 8], a, cookie));
        Assert.True(cookies.Answer(cookie, a, next));
        Assert.False(cookies.Answer(cookie, b, next));
        time.Advance(TimeSpan.FromMinutes(59));
        Assert.True(cookies.Answer(cookie, a, next));
        time.Advance(TimeSpan.FromMinutes(2));
        Assert.False(cookies.Answer(cookie, a, next));
        cookie[20] ^= 1;
        Assert.False(cookies.Answer(cookie, a, next));
    }

    /// <summary>RFC 9018 appendix A.</summary>
    [Theory]
    [InlineData("e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957", "198.51.100.100", 1559731985, "010000005cf79f111f8130c3eee29480")]
    [InlineData("e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957", "198.51.100.100", 1559734385, "010000005cf7a871d4a564a1442aca77")]
    [InlineData("e5e973e5a6b2a43f48e7dc849e37bfcf", "fc93fc62807ddb86", "203.0.113.203", 1559734700, "010000005cf7a9acf73a7810aca2381e")]
    [InlineData("dd3bdf9344b678b185a6f5cb60fca715", "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741817, "010000005cf7c57926556bd0934c72f8")]
    [InlineData("445536bcd2513298075a5d379663c962", "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961, "010000005cf7c609a6bb79d16625507a")]
    public void CookiesAreTheStandardsOwn(string secret, string client, string address, long unixTime, string server)
    {
        var time = new ManualTime(DateTimeOffset.FromUnixTimeSeconds(unixTime));
        var cookies = new ServerCookies(time, Convert.FromHexString(secret));
        var cookie = new byte[24];
        cookies.Answer(Convert.FromHexString(client), ClientAddress.From(IPAddress.Parse(address)), cookie);
        Assert.Equal(client + server, Convert.ToHexStringLower(cookie));
    }

    private static bool IsAliasTarget(Reply reply, string name) =>
        reply.Answers.Any(a => a.Type == RrType.CNAME && string.Equals(a.Data, name, StringComparison.OrdinalIgnoreCase));

    private static void Check(byte[] answer, byte[] packet, int most)
    {
        Assert.InRange(answer.Length, Header.Size, most);
        Assert.Equal(packet[..2], answer[..2]);
        Assert.NotEqual(0, answer[2] & 0x80);
        Reply.Parse(answer);
    }

    private static ListenerView View()
    {
        var zone = new ZoneInfo("overlay.internal", "dc1", 1) { Synced = true };
        var network = new NetworkView("n1", "front", zone.Suffix, 5);
        network.Apply(SampleConfig.Front with
        {
            Services =
            [
                .. SampleConfig.Front.Services,
                new DnsService
                {
                    Name = "big",
                    Ports = [new("http", "tcp", 80)],
                    Endpoints = [.. Enumerable.Range(1, 200).Select(i => SampleConfig.Endpoint("b" + i, "big-" + i, "10.1.1." + i, "fd01::1:" + i))],
                },
            ],
        });
        return new ListenerView(zone, new Scope([network], internalOnly: false), null, [IPAddress.Parse("10.1.0.1")], null, forwardSingleLabel: false);
    }

    private static byte[] Packet(Random random)
    {
        string[] names =
        [
            "web", "tasks.big", "big.front", "_http._tcp.big.front.dc1.overlay.internal", "overlay.internal", "ns.overlay.internal",
            "a.example", "2.0.1.10.in-addr.arpa", "x.1.10.in-addr.arpa", "absent.front.dc1.overlay.internal", ".", "web-1.web", "dc1.overlay.internal",
        ];
        if (random.Next(20) == 0)
        {
            var noise = new byte[random.Next(600)];
            random.NextBytes(noise);
            return noise;
        }

        RrType[] types = [RrType.A, RrType.AAAA, RrType.SRV, RrType.TXT, RrType.PTR, RrType.ANY, RrType.SOA, RrType.NS, (RrType)random.Next(65536)];
        var options = new QueryOptions
        {
            Id = (ushort)random.Next(65536),
            Edns = random.Next(2) == 0,
            UdpSize = random.Next(65536),
            DnssecOk = random.Next(2) == 0,
            Version = (byte)(random.Next(10) == 0 ? random.Next(256) : 0),
        };
        for (var n = random.Next(3); n > 0; n--)
        {
            var data = new byte[random.Next(45)];
            random.NextBytes(data);
            options.Options.Add((random.Next(2) == 0 ? 10 : random.Next(20), data));
        }

        return Mutate(random, TestQuery.Build(names[random.Next(names.Length)], types[random.Next(types.Length)], options));
    }

    private static byte[] Mutate(Random random, byte[] packet)
    {
        for (var n = random.Next(4); n > 0 && packet.Length > 0; n--)
        {
            switch (random.Next(5))
            {
                case 0:
                    packet = packet[..random.Next(packet.Length + 1)];
                    break;
                case 1:
                    var extra = new byte[random.Next(64)];
                    random.NextBytes(extra);
                    packet = [.. packet, .. extra];
                    break;
                case 2:
                    packet[random.Next(packet.Length)] = (byte)(random.Next(2) == 0 ? 0xC0 : random.Next(256));
                    break;
                default:
                    packet[random.Next(packet.Length)] ^= (byte)(1 << random.Next(8));
                    break;
            }
        }

        return packet;
    }

    private static byte[] UpstreamAnswer(Random random, byte[] query)
    {
        string[] names = [FakeUpstream.Name(query), "b.example.", "c.example.", "example.", "evil.test.", "."];
        (string, RrType, uint, byte[]) Record()
        {
            var name = names[random.Next(names.Length)];
            var ttl = (uint)random.NextInt64(uint.MaxValue + 1L);
            return random.Next(7) switch
            {
                0 => (name, RrType.CNAME, ttl, TestQuery.Wire(names[random.Next(names.Length)])),
                1 => (name, RrType.SOA, ttl, FakeUpstream.Soa("example", 60)),
                2 => (name, RrType.NS, ttl, TestQuery.Wire("ns.example")),
                3 => (name, RrType.MX, ttl, [0, 1, 0xC0, 12]),
                4 => (name, RrType.SRV, ttl, [0, 1, 0, 1, 0, 1, .. TestQuery.Wire("b.example")]),
                5 => (name, RrType.DNAME, ttl, TestQuery.Wire("other.example")),
                _ => (name, RrType.A, ttl, [192, 0, 2, (byte)random.Next(256)]),
            };
        }

        (string, RrType, uint, byte[])[] Section(int most) => [.. Enumerable.Range(0, random.Next(most)).Select(_ => Record())];
        return FakeUpstream.Message(query, random.Next(6), Section(random.Next(10) == 0 ? 200 : 6), Section(3), Section(3));
    }
}
