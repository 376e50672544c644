using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.UnitTests.Daemon.Planners;

namespace OverlayNet.UnitTests.Daemon.Registry;

public sealed class ResidualEndpointTests
{
    [Fact]
    public void OnlyWhatHasBeenUnreachableForLongOnASilentNodeIsLeftOver()
    {
        var now = DateTimeOffset.FromUnixTimeMilliseconds(10_000_000);
        Endpoint At(string id, string node, int host, EndpointState state, int secondsAgo) =>
            TestRegistry.Endpoint(id, node, host, state) with { StateSinceUnixMs = now.ToUnixTimeMilliseconds() - (secondsAgo * 1000L) };
        var snapshot = TestRegistry.With([
            At("gone", "silent", 10, EndpointState.Unreachable, 4000), At("recent", "silent", 11, EndpointState.Unreachable, 60),
            At("reached", "silent", 12, EndpointState.Healthy, 4000), At("elsewhere", TestRegistry.NodeA, 13, EndpointState.Unreachable, 4000)]);
        Assert.Equal(["gone"], ResidualEndpoints.Of(snapshot, null, TimeSpan.FromHours(1), now).Select(e => e.Id));
        Assert.Equal(["gone", "recent"], ResidualEndpoints.Of(snapshot, snapshot.Services.Values.First(), TimeSpan.Zero, now).Select(e => e.Id));
    }
}
