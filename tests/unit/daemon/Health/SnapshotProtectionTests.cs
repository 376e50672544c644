using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using static OverlayNet.UnitTests.Daemon.Planners.TestRegistry;

namespace OverlayNet.UnitTests.Daemon.Health;

public sealed class SnapshotProtectionTests
{
    private static readonly Endpoint[] Four = [Tagged("e1", 11), Endpoint("e2", NodeA, 12), Endpoint("e3", NodeB, 13), Endpoint("e4", NodeB, 14)];
    private static readonly Endpoint[] Own = [Own(NodeA, 2), Own(NodeB, 3)];

    [Fact]
    public void All_but_the_tagged_gone_from_one_view_the_others_stay()
    {
        var held = SnapshotProtection.Held(With([.. Four, .. Own]), Restored([Four[0], Own[0]]));
        Assert.Equal(["e2", "e3", "e4", Snapshot.NodeEndpointId(NodeB, Net)], held.Keys.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_only_one_with_a_tag_stays_although_most_others_are_there()
    {
        var held = SnapshotProtection.Held(With([.. Four, .. Own]), Restored([.. Four[1..], .. Own]));
        Assert.Equal(["e1"], held.Keys);
    }

    [Fact]
    public void What_may_well_have_been_removed_is_let_go() =>
        Assert.Empty(SnapshotProtection.Held(With([.. Four, .. Own]), Restored([.. Four[..3], .. Own])));

    [Fact]
    public void Within_one_incarnation_everything_that_is_gone_was_removed() =>
        Assert.Empty(SnapshotProtection.Held(With([.. Four, .. Own]), With([])));

    [Fact]
    public void What_comes_back_what_is_removed_and_what_a_newcomer_replaces_is_held_no_longer()
    {
        var held = SnapshotProtection.Held(With([.. Four, .. Own]), Restored([]));
        Assert.Equal(6, held.Count);
        var started = Restored([Four[0] with { State = EndpointState.Starting }]);
        Assert.True(SnapshotProtection.StillHeld(held, started, []).ContainsKey("e1"));
        Assert.False(SnapshotProtection.StillHeld(held, Restored([Four[0]]), []).ContainsKey("e1"));
        Assert.False(SnapshotProtection.StillHeld(held, Restored([]), [new RegistryChange { DeletedKind = "endpoint", DeletedId = "e2" }]).ContainsKey("e2"));
        Assert.False(SnapshotProtection.StillHeld(held, Restored([Endpoint("newcomer", NodeA, 13)]), []).ContainsKey("e3"));
    }

    private static Endpoint Tagged(string id, int host) => Endpoint(id, NodeA, host) with { Labels = new Dictionary<string, string> { ["tag"] = "gray" } };

    private static Snapshot Restored(IEnumerable<Endpoint> endpoints) => Snapshot.From(With(endpoints).ToContract() with { Incarnation = 1 });
}
