using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>Nobody is called silent by a manager that could not have heard.</summary>
public sealed class NodeLivenessTests
{
    private readonly ManualTime _time = new();

    private static IEnumerable<Node> Nodes => Enumerable.Range(1, 3).Select(i => RegistryFixture.Node(i));

    [Fact]
    public void AfterAStallOfItsOwnEveryNodeHasItsWholeTimeAgain()
    {
        var liveness = new NodeLiveness(_time, TimeSpan.FromSeconds(30));
        Assert.Empty(liveness.Silent(Nodes));
        _time.Advance(TimeSpan.FromMinutes(4));
        Assert.Empty(liveness.Silent(Nodes));
        Pass(liveness, 29);
        Assert.Empty(liveness.Silent(Nodes));
        Pass(liveness, 2);
        Assert.Equal(3, liveness.Silent(Nodes).Count);
    }

    [Fact]
    public void AfterTimeWithoutAMajorityEveryNodeHasItsWholeTimeAgain()
    {
        var liveness = new NodeLiveness(_time, TimeSpan.FromSeconds(30));
        for (var second = 0; second < 60; second++)
        {
            // Cut off from the others, and so from what they hear: it looks at nobody.
            _time.Advance(TimeSpan.FromSeconds(1));
            liveness.ListenAnew();
        }
        Assert.Empty(liveness.Silent(Nodes));
        Pass(liveness, 10);
        liveness.HeardElsewhere(new NodeBeat { NodeId = Nodes.First().Id, AgeMs = 100 });
        Pass(liveness, 25);
        Assert.Equal(2, liveness.Silent(Nodes).Count);
    }

    [Fact]
    public void ANodeIsSilentForAPolicyOnlyAfterItsTimeOrTheWholeTimeoutOfListening()
    {
        var liveness = new NodeLiveness(_time, TimeSpan.FromSeconds(30));
        liveness.Heard(new HeartbeatRequest { NodeId = Nodes.First().Id });
        Pass(liveness, 9);
        Assert.False(liveness.IsSilent(Nodes.First().Id, 10));
        Pass(liveness, 1);
        Assert.True(liveness.IsSilent(Nodes.First().Id, 10));
        Assert.False(liveness.IsSilent(Nodes.First().Id, 600));
        Pass(liveness, 20);
        Assert.True(liveness.IsSilent(Nodes.First().Id, 600));
        _time.Advance(TimeSpan.FromMinutes(20));
        Assert.Empty(liveness.Silent(Nodes));
        Assert.False(liveness.IsSilent(Nodes.First().Id, 10));
    }

    private void Pass(NodeLiveness liveness, int seconds)
    {
        for (var second = 0; second < seconds; second++)
        {
            _time.Advance(TimeSpan.FromSeconds(1));
            liveness.Silent(Nodes);
        }
    }
}
