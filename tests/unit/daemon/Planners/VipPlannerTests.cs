using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Planners;

public class VipPlannerTests
{
    private static readonly HashSet<string> NoneGone = [];
    private static readonly DateTimeOffset Now = DateTimeOffset.UnixEpoch.AddYears(56);

    [Fact]
    public void A_node_without_an_endpoint_on_the_network_plans_nothing()
    {
        var plan = VipPlanner.Plan(With([Own(NodeB, 2), Endpoint("e1", NodeB, 11)]), NodeA, NoneGone, Now);

        Assert.Empty(plan.Networks);
        Assert.Equal(7, plan.Revision);
    }

    [Theory]
    [InlineData(EndpointState.Healthy, 8)]
    [InlineData(EndpointState.Recovering, 2)]
    [InlineData(EndpointState.Draining, 0)]
    [InlineData(EndpointState.Unhealthy, 0)]
    public void Weight_follows_from_state(EndpointState state, int weight)
    {
        // Beside one that is well: with none, all of them are used.
        var plan = VipPlanner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11, state), Endpoint("e2", NodeB, 12)]), NodeA, NoneGone, Now);

        var server = Assert.Single(plan.Networks[0].Services).RealServers[0];
        Assert.Equal(weight, server.Weight);
        Assert.True(server.Local);
    }

    [Fact]
    public void When_none_passes_all_that_fail_are_used()
    {
        var failing = new[] { Endpoint("e1", NodeA, 11, EndpointState.Unhealthy), Endpoint("e2", NodeB, 12, EndpointState.Unreachable), Endpoint("e3", NodeB, 13, EndpointState.Draining) };
        var plan = VipPlanner.Plan(With([Own(NodeA, 2), .. failing]), NodeA, NoneGone, Now);

        Assert.Equal([8, 8, 0], plan.Networks[0].Services[0].RealServers.Select(server => server.Weight));
    }

    [Fact]
    public void A_drained_node_takes_no_new_connections()
    {
        var snapshot = With([Own(NodeA, 2), Endpoint("e1", NodeA, 11)]).Apply(new WatchMessage
        {
            Revision = 8,
            Changes = [new RegistryChange { Node = Node(NodeA, "a", "192.0.2.1") with { Availability = NodeAvailability.Drain } }],
        });

        Assert.Equal(0, Assert.Single(VipPlanner.Plan(snapshot, NodeA, NoneGone, Now).Networks[0].Services[0].RealServers).Weight);
    }

    [Fact]
    public void An_endpoint_whose_path_is_not_there_yet_takes_no_traffic()
    {
        var plan = VipPlanner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11, EndpointState.Starting)]), NodeA, NoneGone, Now);

        Assert.Empty(Assert.Single(plan.Networks[0].Services).RealServers);
        Assert.Single(plan.Networks[0].Tasks);
    }

    [Fact]
    public void Dnsrr_services_have_no_balancer()
    {
        var plan = VipPlanner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11)], services: [Service(EndpointMode.Dnsrr)]), NodeA, NoneGone, Now);

        Assert.Empty(plan.Networks[0].Services);
    }

    [Fact]
    public void The_union_keeps_a_removed_service_until_its_name_is_gone()
    {
        var endpoints = new[] { Own(NodeA, 2), Endpoint("e1", NodeA, 11, service: null) };
        var before = VipPlanner.Plan(With(endpoints), NodeA, NoneGone, Now);
        var after = VipPlanner.Plan(With(endpoints, services: []), NodeA, NoneGone, Now);

        Assert.Empty(after.Networks[0].Services);
        Assert.Equal("web", Assert.Single(VipPlanner.Union(before, after).Networks[0].Services).Name);
    }

    [Fact]
    public void Only_new_or_heavier_real_servers_add()
    {
        var two = VipPlanner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11), Endpoint("e2", NodeB, 12)]), NodeA, NoneGone, Now);
        var drained = VipPlanner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11), Endpoint("e2", NodeB, 12, EndpointState.Draining)]), NodeA, NoneGone, Now);
        var one = VipPlanner.Plan(With([Own(NodeA, 2), Endpoint("e1", NodeA, 11)]), NodeA, NoneGone, Now);

        Assert.False(VipPlanner.Adds(two, two));
        Assert.False(VipPlanner.Adds(two, drained));
        Assert.False(VipPlanner.Adds(two, one));
        Assert.True(VipPlanner.Adds(one, two));
        Assert.True(VipPlanner.Adds(drained, two));
        Assert.True(VipPlanner.Adds(OverlayNet.Vip.VipConfig.Empty, one));
    }
}
