using System.Net;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class ForwardingTests : IDisposable
{
    private readonly FakeUpstream _upstream = new();
    private readonly DnsTestServer _server;

    public ForwardingTests() => _server = new DnsTestServer(Config(_upstream), options: Options);

    private static DnsServerOptions Options => new()
    {
        ClientQueriesPerSecond = 0,
        UpstreamTry = TimeSpan.FromMilliseconds(400),
        ForwardTotal = TimeSpan.FromMilliseconds(2500),
    };

    private static DnsConfig Config(params FakeUpstream[] upstreams) =>
        SampleConfig.Config with { Forward = new DnsForwardConfig { Upstreams = [.. upstreams.Select(u => u.Endpoint)] } };

    public void Dispose()
    {
        _server.Dispose();
        _upstream.Dispose();
    }

    [Fact]
    public void OutsideNamesAreForwarded()
    {
        var reply = _server.Ask("www.Example.com", RrType.A);
        Assert.Equal(["192.0.2.80"], reply.Data);
        Assert.Equal("www.Example.com. A", reply.Question);
        Assert.Equal("www.Example.com.", reply.Answers[0].Name);
        Assert.False(reply.Aa);
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
        Assert.Equal(["192.0.2.81"], _server.Ask("a.example", RrType.A).Data);
    }

    [Fact]
    public void DeadUpstreamsMeanServfail()
    {
        _upstream.Script = _ => [];
        Assert.Equal((int)Rcode.ServFail, _server.Ask("a.example", RrType.A).Rcode);
    }
}
