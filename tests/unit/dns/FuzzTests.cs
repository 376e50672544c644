using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Forward;
using OverlayNet.Dns.Server;
using OverlayNet.Dns.Table;

namespace OverlayNet.UnitTests.Dns;

/// <summary>They measure what the process keeps (memory, descriptors), so nothing else runs beside them.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class FuzzCollection
{
    public const string Name = "dns fuzz";
}

/// <summary>Mutated packets with fixed seeds; <see cref="FuzzSoakTests"/> has the full counts.</summary>
[Collection(FuzzCollection.Name)]
public sealed class FuzzTests
{
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public void QueriesOfAnyShapeAreSurvived(int seed, bool tcp) => Fuzzing.Queries(seed, tcp, 100_000);

    [Fact]
    public void AnswersOfAnyShapeAreSurvived() => Fuzzing.Answers(seed: 3, count: 20_000);

    [Fact]
    public void ClientsGetTheirOwnAnswersOnly() => Fuzzing.Sockets(seed: 6, count: 40_000);

    [Fact]
    public void NamesSurviveTextAndBack()
    {
        var random = new Random(4);
        Span<byte> wire = stackalloc byte[300];
        for (var i = 0; i < 20_000; i++)
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
}

/// <summary>The counts that take minutes: ten million packets, a million answers of upstreams, a million packets over sockets.</summary>
[Collection(FuzzCollection.Name)]
[Trait("Category", "Soak")]
public sealed class FuzzSoakTests
{
    [Theory]
    [InlineData(101, false)]
    [InlineData(102, true)]
    public void QueriesOfAnyShapeAreSurvived(int seed, bool tcp) => Fuzzing.Queries(seed, tcp, 5_000_000);

    [Fact]
    public void AnswersOfAnyShapeAreSurvived() => Fuzzing.Answers(seed: 103, count: 1_000_000);

    [Fact]
    public void ClientsGetTheirOwnAnswersOnly() => Fuzzing.Sockets(seed: 106, count: 1_000_000);
}

/// <summary>Makes packets of any shape and judges what comes of them.</summary>
internal static class Fuzzing
{
    /// <summary>Memory that may stay after a run of any length: pools and tables that fill once.</summary>
    private const long MostKept = 8 << 20;

    public static unsafe void Queries(int seed, bool tcp, int count)
    {
        const byte Canary = 0xA5;
        var random = new Random(seed);
        var view = View();
        var cookies = new ServerCookies(TimeProvider.System);
        var worker = new AnswerWorker(new QueryProcessor(cookies));
        var client = ClientAddress.From(IPAddress.Loopback);
        var most = tcp ? Limits.Tcp : Limits.EdnsUdp;
        var before = GC.GetTotalMemory(forceFullCollection: true);
        for (var i = 0; i < count; i++)
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

        AssertNothingKept(before);
    }

    public static unsafe void Answers(int seed, int count)
    {
        var random = new Random(seed);
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var view = View();
        var worker = new AnswerWorker(new QueryProcessor(new ServerCookies(TimeProvider.System)));
        var sanitizer = new AnswerSanitizer();
        var client = ClientAddress.From(IPAddress.Loopback);
        var accepted = 0;
        for (var i = 0; i < count; i++)
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

        Assert.True(accepted > count / 20, $"{accepted} accepted");
        AssertNothingKept(before);
    }

    /// <summary>
    /// Several clients with sockets of their own send packets of any shape through a server whose upstream answers in any
    /// shape. What a client receives must answer a packet of its own: id and question are compared.
    /// </summary>
    public static void Sockets(int seed, int count)
    {
        const int Clients = 8;
        const int Burst = 32;
        using var upstream = new MutatingUpstream(seed);
        var config = SampleConfig.Config with { Forward = new DnsForwardConfig { Upstreams = [upstream.Endpoint] } };
        using var server = new DnsTestServer(config, options: new DnsServerOptions { ClientQueriesPerSecond = 0, UpstreamTry = TimeSpan.FromMilliseconds(50), ForwardTotal = TimeSpan.FromMilliseconds(100), CacheBytes = 1 << 20 });
        var clients = Enumerable.Range(0, Clients).Select(i => new FuzzClient(server.Port, (ushort)(i << 13))).ToArray();
        try
        {
            var random = new Random(seed);
            void Run(int packets)
            {
                for (var i = 0; i < packets; i += Burst)
                {
                    var client = clients[random.Next(Clients)];
                    for (var n = 0; n < Burst; n++)
                        client.Send(Packet(random), random);
                    foreach (var other in clients)
                        other.ReceiveAll();
                }

                // Whatever is still on its way to an upstream and back.
                Assert.True(SpinWait.SpinUntil(() => server.Server.GetMetrics().ForwardInFlight == 0, 30_000));
                foreach (var client in clients)
                {
                    client.ReceiveAll();
                    client.Forget();
                }
            }

            Run(count / 10); // fills pools and cache
            var (memory, descriptors) = (GC.GetTotalMemory(forceFullCollection: true), Descriptors());
            Run(count - count / 10);

            AssertNothingKept(memory);
            // A question under way ends before the sockets it was put by are closed.
            SpinWait.SpinUntil(() => Descriptors() <= descriptors + 10, 30_000);
            Assert.InRange(Descriptors(), 0, descriptors + 10);
            Assert.Equal(["10.1.0.2"], server.Ask("web", RrType.A).Data);
            Assert.True(clients.Sum(c => c.Answers) > count / 20, $"{clients.Sum(c => c.Answers)} answers");
        }
        finally
        {
            foreach (var client in clients)
                client.Dispose();
        }
    }

    private static int Descriptors() => Directory.GetFiles("/proc/self/fd").Length;

    /// <summary>A client's socket and what it sent lately, by id.</summary>
    private sealed class FuzzClient : IDisposable
    {
        // Its ids come round after 8192 packets; answers of upstreams may take longer than that.
        private const int Kept = 16;
        private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        private readonly byte[]?[] _sent = new byte[]?[65536 * Kept];
        private readonly byte[] _next = new byte[65536];
        private readonly byte[] _buffer = new byte[65536];
        private readonly ushort _ids;
        private int _serial;

        public FuzzClient(int port, ushort ids)
        {
            _ids = ids;
            _socket.Connect(IPAddress.Loopback, port);
        }

        public long Answers { get; private set; }

        public void Send(byte[] packet, Random random)
        {
            if (packet.Length >= 2 && random.Next(50) != 0)
                BinaryPrimitives.WriteUInt16BigEndian(packet, (ushort)(_ids | (_serial++ & 0x1FFF)));
            if (packet.Length >= 2)
            {
                var id = BinaryPrimitives.ReadUInt16BigEndian(packet);
                _sent[id * Kept + _next[id]++ % Kept] = packet;
            }

            _socket.Send(packet);
        }

        public void ReceiveAll()
        {
            while (_socket.Available > 0)
            {
                var answer = _buffer.AsSpan(0, _socket.Receive(_buffer));
                var id = BinaryPrimitives.ReadUInt16BigEndian(answer);
                var mine = false;
                for (var i = 0; i < Kept && !mine; i++)
                    mine = _sent[id * Kept + i] is { } sent && Answered(answer, sent);
                Assert.True(mine, $"an answer to no packet of this client: {Convert.ToHexString(answer)}");
                Answers++;
            }
        }

        /// <summary>What is kept to judge by is not the server's.</summary>
        public void Forget() => Array.Clear(_sent);

        public void Dispose() => _socket.Dispose();

        /// <summary>A header alone (FORMERR, NOTIMP), or one question, octet for octet.</summary>
        private static bool Answered(ReadOnlySpan<byte> answer, byte[] sent)
        {
            if (answer.Length == Header.Size)
                return true;
            var end = Header.Size;
            while (end < answer.Length && answer[end] != 0)
                end += answer[end] + 1;
            end += 5;
            return end <= answer.Length && end <= sent.Length && answer[Header.Size..end].SequenceEqual(sent.AsSpan(Header.Size, end - Header.Size));
        }
    }

    /// <summary>Answers every query with something between an answer and noise.</summary>
    private sealed class MutatingUpstream : IDisposable
    {
        private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        private readonly Thread _thread;

        public MutatingUpstream(int seed)
        {
            _socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            var random = new Random(seed);
            _thread = new Thread(() =>
            {
                var buffer = new byte[4096];
                EndPoint peer = new IPEndPoint(IPAddress.Any, 0);
                while (true)
                {
                    try
                    {
                        var length = _socket.ReceiveFrom(buffer, ref peer);
                        _socket.SendTo(Mutate(random, UpstreamAnswer(random, buffer[..length])), peer);
                    }
                    catch (SocketException error) when (error.SocketErrorCode is SocketError.ConnectionRefused or SocketError.MessageSize)
                    {
                        // The asker has given up, or the noise is too long for a datagram.
                    }
                    catch (Exception error) when (error is SocketException or ObjectDisposedException)
                    {
                        return;
                    }
                }
            });
            _thread.Start();
        }

        public IPEndPoint Endpoint => (IPEndPoint)_socket.LocalEndPoint!;

        public void Dispose()
        {
            _socket.Dispose();
            _thread.Join();
        }
    }

    private static void AssertNothingKept(long before) =>
        Assert.InRange(GC.GetTotalMemory(forceFullCollection: true) - before, long.MinValue, MostKept);

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
