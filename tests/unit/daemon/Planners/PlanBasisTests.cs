using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.UnitTests.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Planners;

/// <summary>A plan takes over only what nothing has changed for: else it is the plan of a fresh start.</summary>
public sealed class PlanBasisTests
{
    private static readonly HashSet<string> Nobody = [];

    [Fact]
    public async Task OnlyTheNetworkOfAChangeIsPlannedAgain()
    {
        await using var f = await RegistryFixture.StartAsync();
        var a = await f.NetworkAsync("a");
        var b = await f.NetworkAsync("b");
        await f.ServiceAsync("web", "a");
        await f.EndpointAsync("c1", "a", service: "web");
        await f.EndpointAsync("c2", "b");
        var before = new PlanBasis(f.Registry.Current, Nobody);
        Assert.True(before.IsSame(before, a));

        await f.EndpointAsync("c3", "a", node: 2);
        var after = new PlanBasis(f.Registry.Current, Nobody);
        Assert.False(after.IsSame(before, a));
        Assert.True(after.IsSame(before, b));

        await f.Registry.UpdateEndpointAsync("c2", null, new EndpointUpdateRequest { Weight = 3 });
        Assert.False(new PlanBasis(f.Registry.Current, Nobody).IsSame(after, b));
        var suppressed = new PlanBasis(f.Registry.Current, new HashSet<string> { f.Registry.Current.FindEndpoint("c1").Value!.Id });
        var listed = new PlanBasis(f.Registry.Current, Nobody);
        Assert.False(suppressed.IsSame(listed, a));
        Assert.False(listed.IsSame(suppressed, a));
        Assert.True(suppressed.IsSame(listed, b));
    }

    [Fact]
    public async Task ANodeThatChangesConcernsEveryNetwork()
    {
        await using var f = await RegistryFixture.StartAsync();
        var a = await f.NetworkAsync("a");
        var before = new PlanBasis(f.Registry.Current, Nobody);
        await f.Registry.UpdateNodeAsync("n2", new NodeUpdateRequest { Availability = NodeAvailability.Drain });
        Assert.False(new PlanBasis(f.Registry.Current, Nobody).IsSame(before, a));
    }
}
