using OverlayNet.Contracts;
using OverlayNet.Tools.Bundle;
using OverlayNet.Tools.Top;

namespace OverlayNet.UnitTests.Tools.Diagnosis;

/// <summary>What a bundle leaves out, and how top reckons.</summary>
public sealed class SupportTests
{
    [Theory]
    [InlineData("a\n-----BEGIN PRIVATE KEY-----\nMIGH\nxyz\n-----END PRIVATE KEY-----\nb", "a\nREDACTED\nb")]
    [InlineData("-----BEGIN EC PRIVATE KEY-----\nMIGH and the rest is lost", "REDACTED")]
    [InlineData("joined by ONTKN-1-abcdef234-xyz777 now", "joined by REDACTED now")]
    [InlineData("{\"dbPassword\":\"hun\\\"ter\",\"name\":\"web\"}", "{\"dbPassword\":\"REDACTED\",\"name\":\"web\"}")]
    [InlineData("  api.token: abc\nname: web", "  api.token: REDACTED\nname: web")]
    [InlineData("{\"gatewayMac\":\"02:00\",\"key\":\"public\"}", "{\"gatewayMac\":\"02:00\",\"key\":\"public\"}")]
    public void Secrets_are_taken_out_and_nothing_else(string text, string expected) => Assert.Equal(expected, Redaction.Of(text));

    [Fact]
    public void Counters_of_links_are_read()
    {
        var links = LinkCounters.Parse(["Inter-|   Receive", " face |bytes    packets errs drop", "  vx0: 1000 10 0 2 0 0 0 0 3000 30 0 4 0 0 0 0", "broken: 1 2"]);
        Assert.Equal(new LinkCounters(1000, 10, 2, 3000, 30, 4), Assert.Single(links).Value);
    }

    [Fact]
    public void Rates_are_what_happened_between_two_moments()
    {
        var snapshot = new RegistrySnapshot
        {
            ClusterId = "c",
            ClusterDomain = "d",
            Networks = [new Network { Id = "n", Name = "app", Vni = 4096, GatewayMac = "02:00:00:00:00:01" }],
            Services = [new Service { Id = "s", Name = "web", NetworkId = "n" }],
        };
        TopMoment Moment(int second, long octets, long dropped, params (string Name, long Live, long? Begun)[] backends) => new(
            TimeSpan.FromSeconds(second), new StatusReport { Daemon = "running", NodeName = "node1", RegistryRevision = 9, AppliedRevision = 7 },
            new Dictionary<string, IReadOnlyDictionary<string, LinkCounters>> { ["app"] = new Dictionary<string, LinkCounters> { ["vx0"] = new(octets, 0, dropped, 0, 0, 0), ["lo"] = new(0, 0, 99 * second, 0, 0, 0) } },
            new Dictionary<string, IReadOnlyList<BackendReport>> { ["s"] = [.. backends.Select(b => new BackendReport { Endpoint = b.Name, Node = "node1", LiveFlows = b.Live, Connections = b.Begun, Share = 0.5 })] });

        var report = Moment(12, 3000, 5, ("web1", 3, 30), ("web2", 1, null)).Since(Moment(10, 1000, 1, ("web1", 9, 10), ("web2", 9, null)), snapshot);

        Assert.Equal((2.0, 2L), (report.Seconds, report.Lag));
        Assert.Equal((8000.0, 4L, 5L), (report.Networks[0].ReceivedBitsPerSecond, report.Networks[0].Drops, report.Networks[0].DropsEver));
        var service = report.Services.Single();
        Assert.Equal((4L, 10.0), (service.LiveFlows, service.ConnectionsPerSecond));
        Assert.Equal([0.75, 0.25], service.Backends.Select(backend => backend.LiveShare!.Value));
        Assert.Null(service.Backends[1].ConnectionsPerSecond);
    }
}
