using OverlayNet.Contracts;
using OverlayNet.Daemon.Consul;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Consul;

/// <summary>The registry as a Consul client sees it.</summary>
public sealed class ConsulCatalogTests
{
    [Theory]
    [InlineData("30s", 30_000)]
    [InlineData("5m", 300_000)]
    [InlineData("1m30s", 90_000)]
    [InlineData("1.5s", 1500)]
    [InlineData("100ms", 100)]
    [InlineData("525s", 525_000)]
    [InlineData("0", 0)]
    [InlineData("", -1)]
    [InlineData("5", -1)]
    [InlineData("s", -1)]
    [InlineData("5 s", -1)]
    [InlineData("-5s", -1)]
    [InlineData("1y", -1)]
    [InlineData("99999999999999h", -1)]
    public void Waits_are_read_as_Go_writes_them(string text, long milliseconds) =>
        Assert.Equal(milliseconds < 0 ? null : TimeSpan.FromMilliseconds(milliseconds), ConsulCatalog.Duration(text));

    [Theory]
    [InlineData(EndpointState.Healthy, "passing", "service:one")]
    [InlineData(EndpointState.Recovering, "passing", "service:one")]
    [InlineData(EndpointState.Starting, "critical", "service:one")]
    [InlineData(EndpointState.Unhealthy, "critical", "service:one")]
    [InlineData(EndpointState.Unreachable, "critical", "service:one")]
    [InlineData(EndpointState.Draining, "critical", "_service_maintenance:one")]
    [InlineData(EndpointState.Maintenance, "critical", "_service_maintenance:one")]
    public void States_are_checks(EndpointState state, string status, string check)
    {
        var entry = new ConsulCatalog(With([Endpoint("one", NodeA, 20, state), Endpoint("two", NodeB, 21)])).Instances("web", [], onlyPassing: false)[0];

        Assert.Equal(["serfHealth", check], entry.Checks.Select(one => one.CheckID));
        Assert.Equal(status, entry.Checks[1].Status);
        Assert.Equal(status == "passing" ? 2 : 1, new ConsulCatalog(With([Endpoint("one", NodeA, 20, state), Endpoint("two", NodeB, 21)])).Instances("web", [], onlyPassing: true).Count);
    }

    [Fact]
    public void In_a_panic_nothing_is_withheld()
    {
        var catalog = new ConsulCatalog(With([Endpoint("one", NodeA, 20, EndpointState.Unhealthy), Endpoint("two", NodeB, 21, EndpointState.Unhealthy)]));

        Assert.Equal(2, catalog.Instances("web", [], onlyPassing: true).Count);
    }

    [Fact]
    public void Labels_are_tags_and_meta_and_registrations_keep_their_words()
    {
        var service = Service() with { Labels = new Dictionary<string, string> { ["traefik.enable"] = "true" } };
        var endpoint = Endpoint("one", NodeA, 20) with { Labels = new Dictionary<string, string> { ["consul.id"] = "web-1", ["consul.tags"] = "v1,blue", ["consul.meta.build"] = "7", ["flag"] = "" } };
        var catalog = new ConsulCatalog(With([endpoint, Own(NodeA, 2)], services: [service]));

        var entry = catalog.Instances("web", ["v1", "traefik.enable=true"], onlyPassing: false).Single();

        Assert.Equal("web-1", entry.Service.ID);
        Assert.Equal(["v1", "blue", "flag", "traefik.enable=true"], entry.Service.Tags);
        Assert.Equal("7", entry.Service.Meta["build"]);
        Assert.Equal("true", entry.Service.Meta["traefik_enable"]);
        Assert.Equal(("10.96.0.20", 8080), (entry.Service.Address, entry.Service.Port));
        Assert.Empty(catalog.Instances("web", ["v2"], onlyPassing: false));
        Assert.Equal(["consul", "web"], catalog.Services().Keys);
        Assert.Equal(["blue", "flag", "traefik.enable=true", "v1"], catalog.Services()["web"]);
        Assert.Empty(new ConsulCatalog(With([endpoint]), network: "other").Instances("web", [], onlyPassing: false));
        Assert.Empty(new ConsulCatalog(With([endpoint]), dc: "dc2").Instances("web", [], onlyPassing: false));
    }

    [Fact]
    public void A_silent_daemon_does_not_fail_its_instances()
    {
        var snapshot = With([Endpoint("one", NodeA, 20)]);
        var silent = OverlayNet.Daemon.Registry.Snapshot.From(snapshot.ToContract() with { Nodes = [Node(NodeA, "a", "192.0.2.1") with { State = NodeState.Unmanaged }] });
        var down = OverlayNet.Daemon.Registry.Snapshot.From(snapshot.ToContract() with { Nodes = [Node(NodeA, "a", "192.0.2.1") with { State = NodeState.Down }] });

        Assert.Single(new ConsulCatalog(silent).Instances("web", [], onlyPassing: true));
        Assert.Empty(new ConsulCatalog(down).Instances("web", [], onlyPassing: true));
    }

    [Theory]
    [InlineData("""{"TTL":"10s"}""", "ttl:10000ms", "successes=1", "failures=1")]
    [InlineData("""{"HTTP":"http://10.0.0.1:8080/healthz?x=1","Interval":"5s","Timeout":"1s"}""", "http:8080/healthz?x=1", "interval=5000ms", "timeout=1000ms")]
    [InlineData("""{"TCP":"db:5432","Interval":"10s"}""", "tcp:5432", "interval=10000ms")]
    [InlineData("""{"GRPC":"127.0.0.1:9000"}""", "grpc:9000")]
    public void Checks_become_the_words_of_ours(string json, params string[] expected)
    {
        var spec = ConsulAgent.Spec(System.Text.Json.Nodes.JsonNode.Parse(json)!.AsObject());

        Assert.Equal(expected, spec);
        Assert.NotNull(OverlayNet.Daemon.Health.HealthSpecs.Parse(spec, null));
    }

    [Theory]
    [InlineData("""{"Args":["true"]}""")]
    [InlineData("""{"TTL":"soon"}""")]
    [InlineData("""{"TTL":5}""")]
    [InlineData("""{"HTTP":"nothing"}""")]
    public void Others_are_refused(string json) => Assert.Throws<ConsulException>(() => ConsulAgent.Spec(System.Text.Json.Nodes.JsonNode.Parse(json)!.AsObject()));
}
