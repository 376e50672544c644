using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Dns;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Planners;

public class DnsPlannerTests
{
    [Fact]
    public void What_did_not_change_is_the_same_object_in_the_next_plan()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);
        var first = With([Own(NodeA, 2), Endpoint("e1", NodeA, 11), Endpoint("e2", NodeB, 12)]);
        var before = planner.Plan(first, synced: true);
        var changed = first.Apply(new WatchMessage
        {
            Revision = 8,
            Changes = [new RegistryChange { Endpoint = Endpoint("e2", NodeB, 12, EndpointState.Draining) }],
        });

        var after = planner.Plan(changed, synced: true);

        var (was, now) = (before.Networks[0].Services[0], after.Networks[0].Services[0]);
        Assert.NotSame(was, now);
        Assert.Same(was.Endpoints[0], now.Endpoints[0]);
        Assert.Equal(DnsEndpointState.Draining, now.Endpoints[1].State);
        Assert.Same(after.Networks[0], planner.Plan(changed, synced: true).Networks[0]);
    }

    [Fact]
    public void A_container_on_two_networks_sees_the_names_of_both()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);
        var second = Network("othernetwork", "back", 4098);
        var snapshot = With(
            [Own(NodeA, 2), Own(NodeA, 3, second.Id), Endpoint("e1", NodeA, 11), Endpoint("e2", NodeA, 12, network: second.Id, service: null)],
            networks: [Network(), second]);

        var sources = planner.Plan(snapshot, synced: true).Sources;

        Assert.Equal(4, sources.Count);
        Assert.All(sources, source => Assert.Equal(2, source.NetworkIds.Count));
    }

    [Fact]
    public void Well_known_ports_get_their_srv_name()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);

        var service = planner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11)]), synced: true).Networks[0].Services[0];

        Assert.Equal(new DnsPort("http", "tcp", 8080, 80), Assert.Single(service.Ports));
    }
}
