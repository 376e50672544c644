using OverlayNet.Contracts;
using OverlayNet.Daemon.Metrics;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Metrics;

/// <summary>Which endpoints are targets, and at which port.</summary>
public sealed class PrometheusTargetsTests
{
    [Fact]
    public void Every_state_is_a_target_and_nodes_are_not()
    {
        var groups = PrometheusTargets.Of(With([Endpoint("one", NodeA, 20), Endpoint("two", NodeB, 21, EndpointState.Unhealthy), Own(NodeA, 2)]), null, null, null);

        Assert.Equal(["10.96.0.20:8080", "10.96.0.21:8080"], groups.Select(group => group.Targets.Single()));
        Assert.Equal("unhealthy", groups[1].Labels["__meta_overlaynet_state"]);
        Assert.Equal(("b", "192.0.2.2", "dc1"), (groups[1].Labels["__meta_overlaynet_node"], groups[1].Labels["__meta_overlaynet_node_address"], groups[1].Labels["__meta_overlaynet_dc"]));
    }

    [Fact]
    public void Without_IPv4_the_address_is_in_brackets() => Assert.Equal(
        "[fd00:96::20]:8080", PrometheusTargets.Of(With([Endpoint("one", NodeA, 20) with { Address4 = null }]), null, null, null).Single().Targets.Single());

    [Theory]
    [InlineData(null, null, "10.96.0.20:8080")]
    [InlineData(null, "9100", "10.96.0.20:9100")]
    [InlineData("admin", "9100", "10.96.0.20:9000")]
    [InlineData("81", null, "10.96.0.20:9000")]
    [InlineData("9000", null, "10.96.0.20:9000")]
    [InlineData("none", null, null)]
    [InlineData("53", null, null)]
    [InlineData(null, "not a port", null)]
    public void Port_is_the_asked_one_or_the_label_or_the_first(string? asked, string? label, string? expected)
    {
        var service = Service() with
        {
            Ports = [new ServicePort { Port = 53, Target = 53, Protocol = PortProtocol.Udp }, new ServicePort { Port = 80, Target = 8080 }, new ServicePort { Name = "admin", Port = 81, Target = 9000 }],
            Labels = label is null ? NoLabels.Instance : new Dictionary<string, string> { [PrometheusTargets.PortLabel] = label },
        };

        Assert.Equal(expected, PrometheusTargets.Of(With([Endpoint("one", NodeA, 20)], services: [service]), null, null, asked).SingleOrDefault()?.Targets.Single());
    }

    [Fact]
    public void Names_choose()
    {
        var snapshot = With([Endpoint("one", NodeA, 20)]);

        Assert.Single(PrometheusTargets.Of(snapshot, "web", "app", ""));
        Assert.Empty(PrometheusTargets.Of(snapshot, "api", null, null));
        Assert.Empty(PrometheusTargets.Of(snapshot, "web", "other", null));
    }
}
