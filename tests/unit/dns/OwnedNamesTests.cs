using System.Net;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class OwnedNamesTests : IDisposable
{
    private readonly DnsTestServer _server = new(SampleConfig.Config);

    public void Dispose() => _server.Dispose();

    [Theory]
    [InlineData("web")]
    [InlineData("WeB")]
    [InlineData("www")]
    [InlineData("web.front")]
    [InlineData("www.front")]
    [InlineData("web.front.overlay.internal")]
    [InlineData("web.front.dc1.overlay.internal")]
    [InlineData("WEB.Front.DC1.Overlay.Internal")]
    public void ServiceNamesResolveToTheVip(string name)
    {
        var v4 = _server.Ask(name, RrType.A);
        Assert.Equal(0, v4.Rcode);
        Assert.True(v4.Aa);
        Assert.Equal(["10.1.0.2"], v4.Data);
        Assert.Equal(name + ". A", v4.Question);
        Assert.InRange(v4.Answers[0].Ttl, 0u, 5u);
        Assert.Equal(["fd01::2"], _server.Ask(name, RrType.AAAA).Data);
    }

    [Theory]
    [InlineData("tasks.web", "10.1.0.11 10.1.0.12")]
    [InlineData("tasks.www.front", "10.1.0.11 10.1.0.12")]
    [InlineData("tasks.db.front.dc1.overlay.internal", "10.1.0.21 10.1.0.22 10.1.0.23")]
    [InlineData("db", "10.1.0.21 10.1.0.22 10.1.0.23")]
    [InlineData("web-1.web", "10.1.0.11")]
    [InlineData("web-3.web.front.overlay.internal", "10.1.0.13")]
    [InlineData("web-1", "10.1.0.11")]
    [InlineData("lone", "10.1.0.50")]
    [InlineData("solo.front", "10.1.0.50")]
    [InlineData("shared", "10.1.0.50 10.1.0.51")]
    [InlineData("node-b", "192.0.2.2")]
    [InlineData("node-b.node", "192.0.2.2")]
    [InlineData("node-b.node.dc1.overlay.internal", "192.0.2.2")]
    public void AddressesOfOtherNames(string name, string addresses) =>
        Assert.Equal(addresses.Split(' '), _server.Ask(name, RrType.A).Data.Order());

    [Fact]
    public void RoundRobinRotates()
    {
        var first = Enumerable.Range(0, 200).Select(_ => _server.Ask("db", RrType.A).Data.First()).ToHashSet();
        Assert.Equal(3, first.Count);
    }

    [Fact]
    public void ServiceRecordsCarryWeightsAndAddresses()
    {
        var reply = _server.Ask("_http._tcp.web", RrType.SRV, q => q.Edns = true);
        Assert.Equal(
            ["0 2048 8080 web-1.web.front.dc1.overlay.internal.", "0 512 8080 web-2.web.front.dc1.overlay.internal."],
            reply.Data);
        Assert.Equal(
            ["web-1.web.front.dc1.overlay.internal. 10.1.0.11", "web-1.web.front.dc1.overlay.internal. fd01::11", "web-2.web.front.dc1.overlay.internal. 10.1.0.12", "web-2.web.front.dc1.overlay.internal. fd01::12"],
            reply.Additionals.Select(a => a.Name + " " + a.Data));
    }

    [Theory]
    [InlineData("2.0.1.10.in-addr.arpa", "web.front.dc1.overlay.internal.")]
    [InlineData("11.0.1.10.in-addr.arpa", "web-1.web.front.dc1.overlay.internal.")]
    [InlineData("50.0.1.10.in-addr.arpa", "lone.front.dc1.overlay.internal.")]
    [InlineData("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa", "web.front.dc1.overlay.internal.")]
    public void ReverseNames(string name, string target) => Assert.Equal([target], _server.Ask(name, RrType.PTR).Data);

    [Fact]
    public void TextRecordsTellTheState()
    {
        Assert.Equal(["id=e2 state=recovering weight=8 node="], _server.Ask("web-2.web", RrType.TXT).Data);
        Assert.Equal(["id=e1 state=healthy weight=8 node=node-a"], _server.Ask("web-1.web", RrType.TXT).Data);
    }

    [Theory]
    [InlineData("lone", RrType.AAAA)]
    [InlineData("web", RrType.MX)]
    [InlineData("web", (RrType)1000)]
    [InlineData("web.front.overlay.internal", RrType.MX)]
    [InlineData("empty", RrType.A)]
    [InlineData("tasks.empty.front", RrType.A)]
    [InlineData("_tcp.web", RrType.SRV)]
    [InlineData("front.dc1.overlay.internal", RrType.A)]
    [InlineData("tasks.front.dc1.overlay.internal", RrType.A)]
    [InlineData("dc1.overlay.internal", RrType.A)]
    [InlineData("overlay.internal", RrType.A)]
    [InlineData("0.1.10.in-addr.arpa", RrType.PTR)]
    public void ExistingNamesWithoutTheTypeAreEmptyNotAbsent(string name, RrType type)
    {
        var reply = _server.Ask(name, type);
        Assert.Equal(0, reply.Rcode);
        Assert.True(reply.Aa);
        Assert.Empty(reply.Answers);
        var soa = Assert.Single(reply.Authorities);
        Assert.Equal(RrType.SOA, soa.Type);
        Assert.InRange(soa.Ttl, 0u, 5u);
        Assert.EndsWith(soa.Name == "." ? "" : soa.Name, name + ".", StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("absent")]
    [InlineData("store")]
    [InlineData("absent.front.overlay.internal")]
    [InlineData("x.web.front.dc1.overlay.internal")]
    [InlineData("store.back.overlay.internal")]
    [InlineData("web.front.dc2.overlay.internal")]
    [InlineData("web.overlay.internal")]
    [InlineData("99.0.1.10.in-addr.arpa")]
    public void AbsentNames(string name)
    {
        var reply = _server.Ask(name, RrType.A);
        Assert.Equal((int)Rcode.NxDomain, reply.Rcode);
        Assert.Equal(RrType.SOA, Assert.Single(reply.Authorities).Type);
    }

    [Fact]
    public void TheApexHasSoaAndNameServer()
    {
        Assert.Equal(RrType.SOA, Assert.Single(_server.Ask("overlay.internal", RrType.SOA).Answers).Type);
        Assert.Equal(["ns.overlay.internal."], _server.Ask("overlay.internal", RrType.NS).Data);
        Assert.Equal(["10.1.0.1"], _server.Ask("ns.overlay.internal", RrType.A).Data);
        Assert.Equal(["10.1.0.1"], _server.Ask("ns.overlay.internal", RrType.ANY).Data);
        Assert.Empty(_server.Ask("ns.overlay.internal", RrType.AAAA).Answers);
    }

    [Fact]
    public void BeforeTheFirstSyncOwnedNamesFail()
    {
        using var server = new DnsTestServer(new DnsConfig());
        Assert.Equal((int)Rcode.ServFail, server.Ask("web", RrType.A).Rcode);
        Assert.Equal((int)Rcode.ServFail, server.Ask("web.front.overlay.internal", RrType.A).Rcode);
        server.Server.Apply(SampleConfig.Config);
        Assert.Equal(["10.1.0.2"], server.Ask("web", RrType.A).Data);
    }

    [Fact]
    public void TheFixedListenerSeesAllNetworks()
    {
        using var server = new DnsTestServer(SampleConfig.Config, networkId: null);
        Assert.Equal(["10.1.0.2"], server.Ask("web.front", RrType.A).Data);
        Assert.Equal(["10.2.0.3"], server.Ask("store.back.dc1.overlay.internal", RrType.A).Data);
    }

    [Fact]
    public void AClientOnTwoNetworksSeesBothTheAskedOneFirst()
    {
        var source = new DnsSource("n2", IPAddress.Loopback, ["n1", "n2"]);
        using var server = new DnsTestServer(SampleConfig.Config with { Sources = [source] }, networkId: "n2");
        Assert.Equal(["10.2.0.2"], server.Ask("web", RrType.A).Data);
        Assert.Equal(["10.1.0.2"], server.Ask("web.front", RrType.A).Data);
        Assert.Equal(3, server.Ask("db", RrType.A).Answers.Count);

        var other = TestQuery.Build("db", RrType.A);
        var reply = Reply.Parse(server.TryExchange(other, source: IPAddress.Parse("127.0.0.2"))!);
        Assert.Equal((int)Rcode.NxDomain, reply.Rcode);
    }

    [Fact]
    public void TcpAnswersPipelinedQueries()
    {
        var replies = _server.ExchangeTcp([.. Enumerable.Range(0, 50).Select(i => TestQuery.Build("web", RrType.A, new QueryOptions { Id = (ushort)i }))]);
        Assert.Equal(Enumerable.Range(0, 50).Select(i => (ushort)i), replies.Select(r => r.Id));
        Assert.All(replies, r => Assert.Equal(["10.1.0.2"], r.Data));
    }

    [Fact]
    public void AnswersTheSameOverIpv6()
    {
        using var server = new DnsTestServer(SampleConfig.Config, address: IPAddress.IPv6Loopback);
        Assert.Equal(["10.1.0.2"], server.Ask("web", RrType.A).Data);
    }
}
