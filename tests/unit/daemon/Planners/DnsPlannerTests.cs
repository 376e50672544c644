using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Dns;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Planners;

public class DnsPlannerTests
{
    private static readonly DateTimeOffset Now = DateTimeOffset.FromUnixTimeMilliseconds(1_750_000_000_000);

    [Fact]
    public void What_did_not_change_is_the_same_object_in_the_next_plan()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);
        var first = With([Own(NodeA, 2), Endpoint("e1", NodeA, 11), Endpoint("e2", NodeB, 12)]);
        var before = planner.Plan(first, synced: true, Now);
        var changed = first.Apply(new WatchMessage
        {
            Revision = 8,
            Changes = [new RegistryChange { Endpoint = Endpoint("e2", NodeB, 12, EndpointState.Draining) }],
        });

        var after = planner.Plan(changed, synced: true, Now);

        var (was, now) = (before.Networks[0].Services[0], after.Networks[0].Services[0]);
        Assert.NotSame(was, now);
        Assert.Same(was.Endpoints[0], now.Endpoints[0]);
        Assert.Equal(DnsEndpointState.Draining, now.Endpoints[1].State);
        Assert.Same(after.Networks[0], planner.Plan(changed, synced: true, Now).Networks[0]);
    }

    [Fact]
    public void A_container_on_two_networks_sees_the_names_of_both()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);
        var second = Network("othernetwork", "back", 4098);
        var snapshot = With(
            [Own(NodeA, 2), Own(NodeA, 3, second.Id), Endpoint("e1", NodeA, 11), Endpoint("e2", NodeA, 12, network: second.Id, service: null)],
            networks: [Network(), second]);

        var sources = planner.Plan(snapshot, synced: true, Now).Sources;

        Assert.Equal(4, sources.Count);
        Assert.All(sources, source => Assert.Equal(2, source.NetworkIds.Count));
    }

    [Fact]
    public void Well_known_ports_get_their_srv_name()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);

        var service = planner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11)]), synced: true, Now).Networks[0].Services[0];

        Assert.Equal(new DnsPort("http", "tcp", 8080, 80), Assert.Single(service.Ports));
    }

    [Fact]
    public void An_endpoint_that_starts_slowly_has_the_share_in_srv_that_the_balancer_gives_it()
    {
        var planner = new DnsPlanner(NodeA, new DnsForwardConfig(), []);
        var service = Service(EndpointMode.Vip) with { SlowStartSeconds = 60 };
        var fresh = Endpoint("e1", NodeA, 11) with { StateSinceUnixMs = Now.ToUnixTimeMilliseconds() };
        var snapshot = With([Own(NodeA, 2), fresh, Endpoint("e2", NodeA, 12)], services: [service]);

        DnsEndpoint At(double seconds) => planner.Plan(snapshot, synced: true, Now.AddSeconds(seconds)).Networks[0].Services[0].Endpoints.Single(e => e.Id == "e1");

        Assert.Equal([2, 5, 8], new[] { 0d, 30, 60 }.Select(seconds => At(seconds).Eighths));
        Assert.Same(At(61), At(3600));
        foreach (var seconds in Enumerable.Range(0, 70))
        {
            var balanced = VipPlanner.Plan(snapshot, NodeA, new HashSet<string>(), Now.AddSeconds(seconds)).Networks[0].Services[0].RealServers.Single(server => server.EndpointId == "e1").Weight;
            Assert.Equal(balanced, fresh.Weight * At(seconds).Eighths);
        }
    }
}
