using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Planners;

public class WeightsTests
{
    private static readonly DateTimeOffset Start = DateTimeOffset.FromUnixTimeMilliseconds(1_750_000_000_000);

    [Theory]
    [InlineData(-5, 2)] // the manager's clock is ahead of this node's
    [InlineData(0, 2)]
    [InlineData(9.9, 2)]
    [InlineData(10, 3)]
    [InlineData(30, 5)]
    [InlineData(59.9, 7)]
    [InlineData(60, 8)]
    [InlineData(3600, 8)]
    public void An_endpoint_starts_slowly_from_what_a_recovering_one_has(double seconds, int weight)
    {
        var endpoint = Endpoint("e1", NodeA, 11) with { StateSinceUnixMs = Start.ToUnixTimeMilliseconds() };

        Assert.Equal(weight, Weights.Balanced(endpoint, null, TimeSpan.FromSeconds(60), Start.AddSeconds(seconds)));
    }

    [Fact]
    public void Without_a_window_and_without_a_date_the_weight_is_whole()
    {
        var endpoint = Endpoint("e1", NodeA, 11);

        Assert.Equal(8, Weights.Balanced(endpoint with { StateSinceUnixMs = Start.ToUnixTimeMilliseconds() }, null, TimeSpan.Zero, Start));
        Assert.Equal(8, Weights.Balanced(endpoint, null, TimeSpan.FromSeconds(60), Start));
    }

    [Fact]
    public void It_never_falls_never_leaves_its_range_and_takes_few_steps() => Prop.ForAll(ArbMap.Default.ArbFor<(NonNegativeInt Since, PositiveInt Window)>(), sample =>
    {
        var (since, window, seen) = (sample.Since.Get, sample.Window.Get, new List<int>());
        for (var i = 0; i <= 100; i++)
            seen.Add(Weights.Ramp(since, TimeSpan.FromSeconds(window), DateTimeOffset.FromUnixTimeMilliseconds(since + window * 10L * i)));
        return seen[0] == 2 && seen[^1] == 8 && seen.SequenceEqual(seen.Order()) && seen.Distinct().Count() == 7;
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void The_plan_has_the_service_s_window_and_publish_policy()
    {
        var service = Service(EndpointMode.Vip) with
        {
            SlowStartSeconds = 60,
            PublishPolicy = PublishPolicy.Local,
            Ports = [new ServicePort { Port = 80, Target = 80, Published = 8080 }],
        };
        var fresh = Endpoint("e1", NodeA, 11) with { StateSinceUnixMs = Start.ToUnixTimeMilliseconds() };
        var snapshot = With([Own(NodeA, 2), fresh, Endpoint("e2", NodeA, 12)], services: [service]);

        var planned = Assert.Single(VipPlanner.Plan(snapshot, NodeA, new HashSet<string>(), Start.AddSeconds(20)).Networks[0].Services);

        Assert.Equal([4, 8], planned.RealServers.Select(server => server.Weight));
        Assert.True(Assert.Single(planned.Ports).PublishLocalOnly);
        Assert.False(planned.Ports[0].PublishHostOnly);
    }
}
