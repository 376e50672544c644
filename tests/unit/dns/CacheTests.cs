using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class CacheTests : IDisposable
{
    private readonly ManualTime _time = new();
    private readonly FakeUpstream _upstream = new();
    private readonly DnsTestServer _server;

    public CacheTests() => _server = new DnsTestServer(
        SampleConfig.Config with { Forward = new DnsForwardConfig { Upstreams = [_upstream.Endpoint] } },
        options: new DnsServerOptions { ClientQueriesPerSecond = 0, CacheBytes = 64 << 10 },
        time: _time);

    public void Dispose()
    {
        _server.Dispose();
        _upstream.Dispose();
    }

    [Fact]
    public void TtlsRunDownAndExpire()
    {
        Assert.Equal(60u, _server.Ask("a.example", RrType.A).Answers[0].Ttl);
        _time.Advance(TimeSpan.FromSeconds(25));
        Assert.Equal(35u, _server.Ask("a.example", RrType.A).Answers[0].Ttl);
        _time.Advance(TimeSpan.FromSeconds(36));
        Assert.Equal(60u, _server.Ask("a.example", RrType.A).Answers[0].Ttl);
        Assert.Equal(2, _upstream.Queries);
    }

    [Fact]
    public void ExpiredAnswersServeWhileTheUpstreamFails()
    {
        _server.Ask("a.example", RrType.A);
        _upstream.Script = query => [FakeUpstream.Message(query, 2, [])];
        _time.Advance(TimeSpan.FromMinutes(10));
        var stale = _server.Ask("a.example", RrType.A);
        Assert.Equal(["192.0.2.80"], stale.Data);
        Assert.Equal(30u, stale.Answers[0].Ttl);
        var asked = _upstream.Queries;
        Assert.Equal(["192.0.2.80"], _server.Ask("a.example", RrType.A).Data);
        Assert.Equal(asked, _upstream.Queries); // not asked again at once

        _upstream.Script = query => [FakeUpstream.Answer(query, "192.0.2.90")];
        _time.Advance(TimeSpan.FromSeconds(6));
        Assert.Equal(["192.0.2.90"], _server.Ask("a.example", RrType.A).Data);
    }

    [Fact]
    public void NothingIsServedBeyondTheStaleLimit()
    {
        _server.Ask("a.example", RrType.A);
        _upstream.Script = query => [FakeUpstream.Message(query, 2, [])];
        _time.Advance(TimeSpan.FromDays(2));
        Assert.Equal((int)Rcode.ServFail, _server.Ask("a.example", RrType.A).Rcode);
    }

    [Fact]
    public void AbsenceIsKeptForTheSoasTime()
    {
        _upstream.Script = query => [FakeUpstream.Message(query, 3, [], [("example.", RrType.SOA, 3600, FakeUpstream.Soa("example", 20))])];
        var first = _server.Ask("a.example", RrType.A);
        Assert.Equal((int)Rcode.NxDomain, first.Rcode);
        Assert.Equal(RrType.SOA, Assert.Single(first.Authorities).Type);
        _time.Advance(TimeSpan.FromSeconds(19));
        _server.Ask("a.example", RrType.A);
        Assert.Equal(1, _upstream.Queries);
        _time.Advance(TimeSpan.FromSeconds(2));
        _server.Ask("a.example", RrType.A);
        Assert.Equal(2, _upstream.Queries);
    }

    [Fact]
    public void AnswersInDemandAreRefreshedBeforeTheyExpire()
    {
        for (var i = 0; i < 5; i++)
            _server.Ask("a.example", RrType.A);
        _upstream.Script = query => [FakeUpstream.Answer(query, "192.0.2.90")];
        _time.Advance(TimeSpan.FromSeconds(56));
        Assert.Equal(["192.0.2.80"], _server.Ask("a.example", RrType.A).Data);
        Assert.True(SpinWait.SpinUntil(() => _server.Ask("a.example", RrType.A).Data.Single() == "192.0.2.90", DnsTestServer.Patience));
        Assert.Equal(2, _upstream.Queries);
        Assert.Equal(1, _server.Server.GetMetrics().CachePrefetched);
    }

    [Fact]
    public void TheCacheStaysWithinItsBytesAndKeepsWhatIsUsed()
    {
        for (var i = 0; i < 600; i++)
        {
            _server.Ask($"n{i}.example", RrType.A);
            _server.Ask("kept.example", RrType.A);
        }

        var metrics = _server.Server.GetMetrics();
        Assert.InRange(metrics.CacheBytes, 1, 64 << 10);
        Assert.True(metrics.CacheEvicted > 100);
        Assert.Contains(_server.Server.DumpCache(), e => e.Name == "kept.example.");
        Assert.Equal(601, _upstream.Queries);
        Assert.True(_server.Server.FlushCache() > 0);
        Assert.Equal(0, _server.Server.GetMetrics().CacheBytes);
    }

    [Fact]
    public void ZeroTtlIsNotKept()
    {
        _upstream.Script = query => [FakeUpstream.Answer(query, 0, "192.0.2.80")];
        _server.Ask("a.example", RrType.A);
        _server.Ask("a.example", RrType.A);
        Assert.Equal(2, _upstream.Queries);
    }
}
