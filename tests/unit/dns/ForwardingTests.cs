using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class ForwardingTests : IDisposable
{
    // Only a test makes time pass: a busy machine must not look like an upstream that is silent.
    private readonly ManualTime _time = new();
    private readonly FakeUpstream _upstream = new();
    private readonly DnsTestServer _server;

    public ForwardingTests() => _server = Server(Config(_upstream), Options);

    private static DnsServerOptions Options => new()
    {
        ClientQueriesPerSecond = 0,
        UpstreamTry = TimeSpan.FromMilliseconds(500),
        ForwardTotal = TimeSpan.FromMilliseconds(3000),
    };

    private DnsTestServer Server(DnsConfig config, DnsServerOptions options) => new(config, options: options, time: _time);

    /// <summary>An upstream's silence: the time of a try passes.</summary>
    private IEnumerable<byte[]> Silence(byte[] query)
    {
        _time.Advance(Options.UpstreamTry);
        return [];
    }

    private static DnsConfig Config(params FakeUpstream[] upstreams) =>
        SampleConfig.Config with { Forward = new DnsForwardConfig { Upstreams = [.. upstreams.Select(u => u.Endpoint)] } };

    public void Dispose()
    {
        _server.Dispose();
        _upstream.Dispose();
    }

    [Fact]
    public void OutsideNamesAreForwardedOnceAndThenKept()
    {
        var reply = _server.Ask("www.Example.com", RrType.A);
        Assert.Equal(["192.0.2.80"], reply.Data);
        Assert.Equal("www.Example.com. A", reply.Question);
        Assert.Equal("www.Example.com.", reply.Answers[0].Name);
        Assert.False(reply.Aa);
        Assert.Equal(["192.0.2.80"], _server.Ask("WWW.example.com", RrType.A, q => q.Edns = true).Data);
        Assert.Equal(1, _upstream.Queries);
        Assert.Equal(1, _server.Server.FlushCache("example.com"));
        _server.Ask("www.example.com", RrType.A);
        Assert.Equal(2, _upstream.Queries);
    }

    [Fact]
    public void OwnedAndSingleLabelNamesNeverLeak()
    {
        foreach (var name in new[] { "web", "absent", "absent.front.overlay.internal", "9.9.1.10.in-addr.arpa" })
            _server.Ask(name, RrType.A);
        Assert.Equal(0, _upstream.Queries);
    }

    [Fact]
    public void ForwardsOverTcpToo() =>
        Assert.Equal(["192.0.2.80"], _server.ExchangeTcp(TestQuery.Build("a.example", RrType.A))[0].Data);

    [Fact]
    public void ATruncatedAnswerIsFetchedOverTcp()
    {
        _upstream.Script = query => [FakeUpstream.Message(query, 0, [], flags1: 2)];
        _upstream.TcpScript = query => FakeUpstream.Answer(query, [.. Enumerable.Range(1, 100).Select(i => "192.0.2." + i)]);
        var udp = _server.Ask("a.example", RrType.A);
        Assert.True(udp.Tc);
        Assert.InRange(udp.Answers.Count, 20, 31);
        var tcp = _server.ExchangeTcp(TestQuery.Build("a.example", RrType.A))[0];
        Assert.Equal(100, tcp.Answers.Count);
        Assert.Equal(1, _upstream.TcpQueries);
    }

    [Fact]
    public void WaitingClientsShareOneQuestion()
    {
        using var gate = new ManualResetEventSlim();
        _upstream.Script = query =>
        {
            gate.Wait();
            return [FakeUpstream.Answer(query, "192.0.2.80")];
        };
        using var client = Connect();
        for (var i = 0; i < 50; i++)
            client.Send(TestQuery.Build("a.example", RrType.A, new QueryOptions { Id = (ushort)i }));
        Assert.True(SpinWait.SpinUntil(() => _server.Server.GetMetrics().ForwardInFlight == 50, DnsTestServer.Patience));
        gate.Set();
        var buffer = new byte[512];
        var ids = Enumerable.Range(0, 50).Select(_ => Reply.Parse(buffer[..client.Receive(buffer)]).Id).ToHashSet();
        Assert.Equal(50, ids.Count);
        Assert.Equal(1, _upstream.Queries);
    }

    [Fact]
    public void TooManyInFlightFailAtOnce()
    {
        using var gate = new ManualResetEventSlim();
        _upstream.Script = query =>
        {
            gate.Wait();
            return [FakeUpstream.Answer(query, "192.0.2.80")];
        };
        using var server = Server(Config(_upstream), Options with { ForwardsPerClient = 3 });
        using var client = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = DnsTestServer.Patience };
        client.Connect(IPAddress.Loopback, server.Port);
        for (var i = 0; i < 4; i++)
            client.Send(TestQuery.Build($"n{i}.example", RrType.A));
        var buffer = new byte[512];
        Assert.Equal((int)Rcode.ServFail, Reply.Parse(buffer[..client.Receive(buffer)]).Rcode);
        Assert.Equal(1, server.Server.GetMetrics().ForwardRefused);
        Assert.Equal(["10.1.0.2"], server.Ask("web", RrType.A).Data);
        gate.Set();
        for (var i = 0; i < 3; i++)
            Assert.Equal(["192.0.2.80"], Reply.Parse(buffer[..client.Receive(buffer)]).Data);
    }

    [Theory]
    [InlineData(2, 2)]
    [InlineData(5, 2)]
    [InlineData(3, 1)]
    public void AnErrorLeadsToTheNextUpstreamButAbsenceIsFinal(int rcode, int asked)
    {
        using var second = new FakeUpstream();
        _upstream.Script = query => [FakeUpstream.Message(query, rcode, [])];
        using var server = Server(Config(_upstream, second), Options);
        var reply = server.Ask("a.example", RrType.A);
        Assert.Equal(asked, _upstream.Queries + second.Queries);
        Assert.Equal(asked == 2 ? 0 : rcode, reply.Rcode);
    }

    [Fact]
    public void ADeadUpstreamIsLeftAloneUntilItAnswersAProbe()
    {
        using var second = new FakeUpstream();
        _upstream.Script = Silence;
        using var server = Server(Config(_upstream, second), Options);
        for (var i = 0; i < 3; i++)
            Assert.Equal(["192.0.2.80"], server.Ask($"a{i}.example", RrType.A).Data);
        Assert.Equal("down", server.Server.GetMetrics().Upstreams[0].State);
        var before = _upstream.Queries;
        for (var i = 0; i < 20; i++)
            server.Ask($"b{i}.example", RrType.A);
        Assert.Equal(before, _upstream.Queries);
        _upstream.Script = query => [FakeUpstream.Answer(query, "192.0.2.99")];
        for (var waited = Stopwatch.StartNew(); server.Server.GetMetrics().Upstreams[0].State != "up"; Thread.Sleep(20))
        {
            // Its next probe falls due; the answer takes as long as it takes.
            _time.Advance(TimeSpan.FromMilliseconds(50));
            Assert.True(waited.ElapsedMilliseconds < DnsTestServer.Patience, "the upstream is not up again");
        }

        Assert.Equal(["192.0.2.99"], server.Ask("c.example", RrType.A).Data);
    }

    [Fact]
    public void DeadUpstreamsMeanServfailAndOwnedNamesGoOn()
    {
        _upstream.Script = Silence;
        Assert.Equal((int)Rcode.ServFail, _server.Ask("a.example", RrType.A).Rcode);
        Assert.Equal(["10.1.0.2"], _server.Ask("web", RrType.A).Data);
    }

    [Fact]
    public void TheLongestDomainDecides()
    {
        using var corp = new FakeUpstream { Script = query => [FakeUpstream.Answer(query, "192.0.2.1")] };
        using var lab = new FakeUpstream { Script = query => [FakeUpstream.Answer(query, "192.0.2.2")] };
        var config = Config(_upstream);
        _server.Server.Apply(config with
        {
            Forward = config.Forward with
            {
                Domains = [new("corp.example", [corp.Endpoint]), new("lab.corp.example", [lab.Endpoint]), new("dc2.overlay.internal", [lab.Endpoint])],
            },
        });
        Assert.Equal(["192.0.2.80"], _server.Ask("xcorp.example", RrType.A).Data);
        Assert.Equal(["192.0.2.1"], _server.Ask("a.corp.example", RrType.A).Data);
        Assert.Equal(["192.0.2.2"], _server.Ask("a.LAB.corp.example", RrType.A).Data);
        Assert.Equal(["192.0.2.2"], _server.Ask("web.front.dc2.overlay.internal", RrType.A).Data);
        Assert.Equal(["10.1.0.2"], _server.Ask("web.front.dc1.overlay.internal", RrType.A).Data);
    }

    [Fact]
    public void DnssecBitsPassThrough()
    {
        _upstream.Script = query =>
        [
            FakeUpstream.Message(query, 0, [(FakeUpstream.Name(query), RrType.A, 60, [192, 0, 2, 1]), (FakeUpstream.Name(query), RrType.RRSIG, 60, new byte[30])])
                .Select((b, i) => i == 3 ? (byte)(b | 0x20) : b).ToArray(),
        ];
        var signed = _server.Ask("a.example", RrType.A, q => { q.Edns = true; q.DnssecOk = true; q.Flags2 = 0x10; });
        Assert.Equal([RrType.A, RrType.RRSIG], signed.Answers.Select(a => a.Type));
        Assert.Equal(0x30, signed.Flags2 & 0x30);
        var plain = _server.Ask("a.example", RrType.A);
        Assert.Equal([RrType.A], plain.Answers.Select(a => a.Type));
        Assert.Equal(0, plain.Flags2 & 0x30);
        Assert.Equal(0x10, _upstream.Seen[0][3] & 0x10);
        Assert.Equal(0x80, _upstream.Seen[0][^4]);
        Assert.Equal(0, _upstream.Seen[1][3] & 0x10);
    }

    [Fact]
    public void BeforeTheFirstSyncAbsenceUpstreamProvesNothing()
    {
        using var server = Server(Config(_upstream) with { Synced = false, Networks = [] }, Options);
        _upstream.Script = query => [FakeUpstream.Message(query, 3, [])];
        Assert.Equal((int)Rcode.ServFail, server.Ask("web.front", RrType.A).Rcode);
        Assert.Equal((int)Rcode.ServFail, server.Ask("web.front", RrType.A).Rcode); // nor from the cache
        _upstream.Script = query => [FakeUpstream.Answer(query, "192.0.2.80")];
        Assert.Equal(["192.0.2.80"], server.Ask("www.example", RrType.A).Data);
    }

    [Fact]
    public void InternalNetworksReachNothingOutside()
    {
        _server.Server.Apply(Config(_upstream) with { Networks = [SampleConfig.Front with { Internal = true }] });
        Assert.Equal((int)Rcode.NxDomain, _server.Ask("www.example.com", RrType.A).Rcode);
        Assert.Equal(0, _upstream.Queries);
    }

    [Fact]
    public void AnUpstreamThatForwardsToUsIsFoundOut()
    {
        var config = SampleConfig.Config with { Forward = new DnsForwardConfig { Upstreams = [new IPEndPoint(IPAddress.Loopback, _server.Port)] } };
        _server.Server.Apply(config);
        Assert.True(SpinWait.SpinUntil(() => _server.Server.GetMetrics().Upstreams.Single().State == "loop", DnsTestServer.Patience));
        Assert.Equal((int)Rcode.ServFail, _server.Ask("a.example", RrType.A).Rcode);
    }

    [Fact]
    public async Task ExplainTellsTableCacheAndUpstream()
    {
        Task<DnsExplanation> Explain(string name, bool forward) => _server.Server.ExplainAsync(name, "A", IPAddress.Loopback, "n1", forward);
        var owned = await Explain("web.front", true);
        Assert.Equal(("table", "front", "web", Rcode.NoError, 7L), (owned.Origin, owned.Network, owned.Entry, owned.Rcode, owned.Revision));
        Assert.Equal("10.1.0.2", Assert.Single(owned.Answers).Data);
        Assert.Equal(["front", "node"], owned.Networks);
        Assert.Equal(Rcode.NxDomain, (await Explain("absent", true)).Rcode);
        Assert.Equal("forward", (await Explain("a.example", false)).Origin);
        var forwarded = await Explain("a.example", true);
        Assert.Equal(("upstream", _upstream.Endpoint.ToString()), (forwarded.Origin, forwarded.Upstream));
        Assert.Equal("cache", (await Explain("a.example", true)).Origin);
        Assert.Single(_server.Server.DumpCache());
        await Assert.ThrowsAsync<FormatException>(() => _server.Server.ExplainAsync("web", "NONSENSE", IPAddress.Loopback, "n1", false));
        await Assert.ThrowsAsync<KeyNotFoundException>(() => _server.Server.ExplainAsync("web", "A", IPAddress.Loopback, "nope", false));
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = DnsTestServer.Patience };
        socket.Connect(IPAddress.Loopback, _server.Port);
        return socket;
    }
}
