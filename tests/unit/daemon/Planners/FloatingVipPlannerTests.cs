using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Planners;

/// <summary>From a snapshot to one node's floating VIPs.</summary>
public sealed class FloatingVipPlannerTests
{
    private static readonly FloatingVip Vip = new()
    {
        Id = "0123456789ab",
        Name = "front",
        Addresses = ["192.0.2.100/24", "2001:db8::100/64"],
        Vrid = 51,
        Interface = "eth0",
        Priorities = new Dictionary<string, int> { [TestRegistry.NodeA] = 150 },
    };

    private static Snapshot With(params FloatingVip[] vips) => With([], vips);

    private static Snapshot With(IReadOnlyList<Endpoint> endpoints, params FloatingVip[] vips) =>
        Snapshot.From(TestRegistry.With(endpoints).ToContract() with { Vips = vips });

    [Fact]
    public void Both_families_are_one_virtual_router_each_behind_one_gate()
    {
        var plan = Assert.Single(FloatingVipPlanner.Plan(With(Vip), TestRegistry.NodeA));
        Assert.Equal(150, plan.Priority);
        Assert.Equal(2, plan.Members.Count);
        // RFC 9568: an IPv6 virtual router's first address is link-local.
        Assert.Equal("fe80::200:5eff:fe00:233", plan.Members[1].Config.Addresses[0].Address.ToString());
        Assert.Contains(IPAddress.Parse("2001:db8::100"), plan.Gate.Addresses);
        Assert.Contains(IPAddress.Parse("fe80::200:5eff:fe00:233"), plan.Gate.Addresses);
        Assert.Equal("aaaaaa-0123456789ab", plan.Gate.Name);
    }

    [Fact]
    public void Who_takes_part_is_said_by_priorities_and_labels()
    {
        Assert.Equal(100, Assert.Single(FloatingVipPlanner.Plan(With(Vip), TestRegistry.NodeB)).Priority);
        Assert.Empty(FloatingVipPlanner.Plan(With(Vip with { Priority = 0 }), TestRegistry.NodeB));
        Assert.Empty(FloatingVipPlanner.Plan(With(Vip with { NodeLabels = new Dictionary<string, string> { ["edge"] = "yes" } }), TestRegistry.NodeB));
    }

    [Fact]
    public void A_group_is_one_set_and_long_names_make_short_gates()
    {
        var group = new string('g', 60);
        var other = Vip with { Id = "ba9876543210", Name = "back", Addresses = ["192.0.2.101/24"], Vrid = 52, SyncGroup = group };
        var plan = Assert.Single(FloatingVipPlanner.Plan(With(Vip with { SyncGroup = group }, other), TestRegistry.NodeA));
        Assert.Equal((2, 3), (plan.Vips.Count, plan.Members.Count));
        Assert.InRange(plan.Gate.Name.Length, 1, 40);
    }

    [Fact]
    public void A_front_needs_the_services_network_and_is_answered_on_every_candidate()
    {
        var front = Vip with { ServiceId = TestRegistry.Web, Ports = [new FloatingVipPort { Port = 8000, Target = 80 }] };
        Assert.Contains("attach a container", Assert.Single(FloatingVipPlanner.Plan(With(front), TestRegistry.NodeA)).Unfit);
        var snapshot = With([TestRegistry.Own(TestRegistry.NodeA, 2), TestRegistry.Own(TestRegistry.NodeB, 3)], front);
        Assert.Null(Assert.Single(FloatingVipPlanner.Plan(snapshot, TestRegistry.NodeA)).Unfit);
        foreach (var node in new[] { TestRegistry.NodeA, TestRegistry.NodeB })
        {
            var fronts = VipPlanner.Plan(snapshot, node, new HashSet<string>(), DateTimeOffset.UnixEpoch).Networks[0].Services[0].Fronts;
            Assert.Equal(["192.0.2.100", "2001:db8::100"], fronts.Select(f => f.Address.ToString()));
            Assert.All(fronts, f => Assert.Equal((8000, 8080, 65535), (f.Port, f.Target, f.Inside)));
        }
    }

    [Fact]
    public void What_does_not_matter_to_an_instance_keeps_its_fingerprint()
    {
        var before = FloatingVipPlanner.Plan(With(Vip), TestRegistry.NodeA)[0];
        var more = Snapshot.From(With(Vip).ToContract() with { Nodes = [.. With(Vip).ToContract().Nodes, TestRegistry.Node("cccccccccccc", "c", "192.0.2.3")] });
        Assert.Equal(before.Fingerprint, FloatingVipPlanner.Plan(more, TestRegistry.NodeA)[0].Fingerprint);
        Assert.NotEqual(before.Fingerprint, FloatingVipPlanner.Plan(With(Vip with { AdvertMs = 500 }), TestRegistry.NodeA)[0].Fingerprint);
    }
}
