using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class PoisoningTests : IDisposable
{
    private static readonly byte[] Evil = [6, 6, 6, 6];

    private readonly FakeUpstream _upstream = new();
    private readonly DnsTestServer _server;

    // The clock stands still: no question is asked twice because the machine is busy.
    public PoisoningTests() => _server = new DnsTestServer(
        SampleConfig.Config with { Forward = new DnsForwardConfig { Upstreams = [_upstream.Endpoint] } }, time: new ManualTime());

    public void Dispose()
    {
        _server.Dispose();
        _upstream.Dispose();
    }

    [Fact]
    public void IdsPortsAndLetterCaseVary()
    {
        for (var i = 0; i < 60; i++)
            _server.Ask($"averylongname{i}.example", RrType.A);
        Assert.InRange(_upstream.Seen.Select(q => (q[0] << 8) | q[1]).Distinct().Count(), 55, 60);
        Assert.InRange(_upstream.SourcePorts.Distinct().Count(), 50, 60);
        Assert.InRange(_upstream.Seen.Select(q => new string([.. FakeUpstream.Name(q).Take(13)])).Distinct().Count(), 50, 60);
    }

    [Fact]
    public void AnswersThatDoNotMatchAreIgnored()
    {
        _upstream.Script = query =>
        {
            var evil = FakeUpstream.Message(query, 0, [(FakeUpstream.Name(query), RrType.A, 60, Evil)]);
            var wrongId = evil.ToArray();
            wrongId[1] ^= 1;
            var wrongName = evil.ToArray();
            wrongName[13] = (byte)'x';
            var wrongType = evil.ToArray();
            wrongType[query.Length - 11 - 3] = (byte)RrType.TXT;
            var noResponse = evil.ToArray();
            noResponse[2] &= 0x7F;
            return [wrongId, wrongName, wrongType, noResponse, [], [1], evil[..20], FakeUpstream.Answer(query, "192.0.2.80")];
        };
        Assert.Equal(["192.0.2.80"], _server.Ask("a.example", RrType.A).Data);
        Assert.True(_server.Server.GetMetrics().ForwardMismatches >= 6);
    }

    [Fact]
    public void AnswersFromAnotherPortDoNotArrive()
    {
        using var attacker = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        attacker.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _upstream.Script = query =>
        {
            var evil = FakeUpstream.Message(query, 0, [(FakeUpstream.Name(query), RrType.A, 60, Evil)]);
            attacker.SendTo(evil, new IPEndPoint(IPAddress.Loopback, _upstream.SourcePorts[^1]));
            return [FakeUpstream.Answer(query, "192.0.2.80")];
        };
        for (var i = 0; i < 20; i++)
            Assert.Equal(["192.0.2.80"], _server.Ask($"n{i}.example", RrType.A).Data);
    }

    [Fact]
    public void AGuessInTheWrongLetterCaseIsSettledOverTcp()
    {
        _upstream.Script = query =>
        {
            var evil = FakeUpstream.Message(query, 0, [(FakeUpstream.Name(query), RrType.A, 60, Evil)]);
            for (var i = 13; i < 20; i++)
                evil[i] ^= 0x20;
            return [evil];
        };
        Assert.Equal(["192.0.2.81"], _server.Ask("averylong.example", RrType.A).Data);
    }

    [Fact]
    public void AFloodOfGuessesEndsUdp()
    {
        _upstream.Script = query =>
        {
            var evil = FakeUpstream.Message(query, 0, [(FakeUpstream.Name(query), RrType.A, 60, Evil)]);
            evil[0] ^= 0xFF;
            return Enumerable.Repeat(evil, 20);
        };
        Assert.Equal(["192.0.2.81"], _server.Ask("a.example", RrType.A).Data);
    }

    [Fact]
    public void RecordsOutOfBailiwickAreDropped()
    {
        _upstream.Script = query =>
        {
            var name = FakeUpstream.Name(query);
            return
            [
                FakeUpstream.Message(
                    query, 0,
                    [("victim.test.", RrType.A, 600, Evil), (name, RrType.CNAME, 60, TestQuery.Wire("b.example")), ("b.example.", RrType.A, 60, [192, 0, 2, 7]), ("c.example.", RrType.A, 60, Evil)],
                    [("victim.test.", RrType.NS, 600, TestQuery.Wire("ns.evil.test")), ("example.", RrType.NS, 600, TestQuery.Wire("ns.example"))],
                    [("ns.example.", RrType.A, 600, Evil), ("web.front.overlay.internal.", RrType.A, 600, Evil)]),
            ];
        };
        var reply = _server.Ask("a.example", RrType.A);
        Assert.Equal(["b.example.", "192.0.2.7"], reply.Data);
        Assert.Equal(["ns.example."], reply.Authorities.Select(a => a.Data));
        Assert.Empty(reply.Additionals);
        Assert.Equal(["10.1.0.2"], _server.Ask("web.front.overlay.internal", RrType.A).Data);
        Assert.DoesNotContain(_server.Server.DumpCache(), e => e.Name != "a.example.");
    }

    [Fact]
    public void AliasesInAnyOrderAndLoopsEnd()
    {
        _upstream.Script = query =>
        [
            FakeUpstream.Message(query, 0, [("c.example.", RrType.A, 60, [192, 0, 2, 9]), ("b.example.", RrType.CNAME, 60, TestQuery.Wire("c.example")), (FakeUpstream.Name(query), RrType.CNAME, 60, TestQuery.Wire("b.example"))]),
        ];
        Assert.Contains("192.0.2.9", _server.Ask("a.example", RrType.A).Data);
        _upstream.Script = query =>
        [
            FakeUpstream.Message(query, 0, [(FakeUpstream.Name(query), RrType.CNAME, 60, TestQuery.Wire("y.example")), ("y.example.", RrType.CNAME, 60, TestQuery.Wire("x.example"))]),
        ];
        Assert.Equal(2, _server.Ask("x.example", RrType.A).Answers.Count);
    }
}
