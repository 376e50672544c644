using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.UnitTests.Daemon.Planners;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>What becomes of endpoints on nodes that are cut off.</summary>
public sealed class DisconnectionTests
{
    private static readonly DateTimeOffset Now = DateTimeOffset.FromUnixTimeSeconds(1_000_000);

    private sealed record World(int LostAfter, OnReturn OnReturn, int StopAfter, EndpointState State, int StateAge, NodeState Node, int CutOff)
    {
        public Snapshot Registry => Snapshot.From(new RegistrySnapshot
        {
            ClusterId = "c",
            ClusterDomain = "overlay.internal",
            Nodes = [TestRegistry.Node(TestRegistry.NodeA, "a", "192.0.2.1") with { State = Node }],
            Networks = [TestRegistry.Network()],
            Services = [TestRegistry.Service() with { Disconnect = new DisconnectPolicy { LostAfterSeconds = LostAfter, OnReturn = OnReturn, StopOnClientAfterSeconds = StopAfter } }],
            Endpoints =
            [
                TestRegistry.Endpoint("e1", TestRegistry.NodeA, 11, State) with { StateSinceUnixMs = Now.ToUnixTimeMilliseconds() - (StateAge * 1000L) },
                TestRegistry.Endpoint("alone", TestRegistry.NodeA, 12, State, service: null) with { StateSinceUnixMs = Now.ToUnixTimeMilliseconds() - (StateAge * 1000L) },
            ],
        });
    }

    private static Arbitrary<World> Worlds() => (
        from lostAfter in Gen.Elements(0, 10, 60, 600)
        from onReturn in Gen.Elements(Enum.GetValues<OnReturn>())
        from stopAfter in Gen.Elements(0, 10, 60, 600)
        from state in Gen.Elements(Enum.GetValues<EndpointState>())
        from age in Gen.Choose(0, 700)
        from node in Gen.Elements(Enum.GetValues<NodeState>())
        from cutOff in Gen.Choose(0, 700)
        select new World(lostAfter, onReturn, stopAfter, state, age, node, cutOff)).ToArbitrary();

    [Fact]
    public void OnlyWhatNobodyReachedForLongOnASilentNodeIsLostAndOnlyAReplacementRemovesIt() => Prop.ForAll(Worlds(), world =>
    {
        var registry = world.Registry;
        var lost = world is { LostAfter: > 0, State: EndpointState.Unreachable, Node: not NodeState.Ready } && world.StateAge >= world.LostAfter;
        return Disconnection.IsLost(registry, registry.Endpoints["e1"], Now) == lost
            && !Disconnection.IsLost(registry, registry.Endpoints["alone"], Now)
            && Disconnection.ToReplace(registry, Now).Select(e => e.Id).SequenceEqual(lost && world.OnReturn == OnReturn.Replace ? ["e1"] : []);
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void WhatIsLostStaysLostAndWhatIsStoppedStaysStoppedAsTimeGoesOn() => Prop.ForAll(Worlds(), world =>
    {
        var later = (world with { StateAge = world.StateAge + 1, CutOff = world.CutOff + 1 }).Registry;
        var stopped = Disconnection.ToStop(world.Registry, TimeSpan.FromSeconds(world.CutOff)).Count;
        return (!Disconnection.IsLost(world.Registry, world.Registry.Endpoints["e1"], Now) || Disconnection.IsLost(later, later.Endpoints["e1"], Now))
            && stopped == (world.StopAfter > 0 && world.CutOff >= world.StopAfter ? 1 : 0)
            && Disconnection.ToStop(later, TimeSpan.FromSeconds(world.CutOff + 1)).Count >= stopped;
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void APolicyThatIsAcceptedNeverReplacesWhatMayStillRun() => Prop.ForAll(Worlds(), world =>
    {
        DisconnectPolicy? policy;
        try
        {
            policy = Disconnection.Policy(null, $"{world.LostAfter}s", world.OnReturn, $"{world.StopAfter}");
        }
        catch (RegistryException refused)
        {
            return refused is { Status: 400, Error: { Code: "lost-before-stopped", Field: "lostAfter", Remedy: not null } }
                && world.LostAfter > 0 && world.StopAfter > 0 && world.LostAfter <= world.StopAfter;
        }
        // Whoever is lost has been cut off for longer than its node let it run.
        return policy is null
            ? world is { LostAfter: 0, StopAfter: 0, OnReturn: OnReturn.Reconcile }
            : policy.LostAfterSeconds == 0 || policy.StopOnClientAfterSeconds == 0 || policy.LostAfterSeconds > policy.StopOnClientAfterSeconds;
    }).QuickCheckThrowOnFailure();

    [Theory]
    [InlineData("90s", 90)]
    [InlineData("10m", 600)]
    [InlineData("2h", 7200)]
    [InlineData("1d", 86400)]
    [InlineData("45", 45)]
    [InlineData("0", 0)]
    public void DurationsAreReadAsPeopleWriteThem(string text, int seconds) => Assert.Equal(seconds, Names.Duration("lostAfter", text, 10));

    [Theory]
    [InlineData("")]
    [InlineData("9s")]
    [InlineData("-1m")]
    [InlineData("soon")]
    [InlineData("1.5h")]
    [InlineData("400d")]
    [InlineData("99999999999999d")]
    public void OthersAreRefusedWithFieldValueAndRemedy(string text)
    {
        var refused = Assert.Throws<RegistryException>(() => Names.Duration("lostAfter", text, 10));
        Assert.Equal((400, "lostAfter", text), (refused.Status, refused.Error.Field, refused.Error.Value));
        Assert.NotNull(refused.Error.Remedy);
    }

    [Fact]
    public async Task AReplacedOneIsRemovedAndAKeptOneMakesRoomForWhoeverAsksForItsPlace()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync(subnet: "10.1.0.0/24");
        foreach (var (name, onReturn) in new[] { ("swap", OnReturn.Replace), ("keep", OnReturn.Reconcile) })
            await f.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = name, Network = "net", LostAfter = "10m", OnReturn = onReturn });
        await f.EndpointAsync("s1", node: 2, service: "swap");
        var kept = await f.EndpointAsync("k1", node: 2, service: "keep");
        await f.EndpointAsync("k2", node: 2, service: "keep");
        await LoseAsync(f, "s1", "k1", "k2");
        await f.Registry.RemoveLostAsync();
        Assert.Equal(3, f.Registry.Current.Endpoints.Values.Count(e => e.Kind == EndpointKind.Container));

        f.Time.Advance(TimeSpan.FromMinutes(10));
        // The clock jumped, which is a stall of this manager: it has to listen for a while first, on timers of its own.
        await ListenAsync(f, async () =>
        {
            await f.Registry.RemoveLostAsync();
            return !f.Registry.Current.Endpoints.ContainsKey("id-s1-net");
        });
        Assert.Equal(["id-k1-net", "id-k2-net"], f.Registry.Current.Endpoints.Values.Where(e => e.Kind == EndpointKind.Container).Select(e => e.Id).Order());
        var again = await Assert.ThrowsAsync<RegistryException>(() => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("k1", node: 1) with { Id = "other", Network = "nowhere" }));
        Assert.Equal(404, again.Status);

        var newcomer = RegistryFixture.Endpoint("k1", node: 1, service: "keep") with { Id = "newcomer", Ip = $"{kept.Address4}" };
        await ListenAsync(f, async () =>
        {
            try
            {
                return (await f.Registry.CreateEndpointAsync(newcomer)).Value.Address4!.Equals(kept.Address4);
            }
            catch (RegistryException e) when (e.Status == 409)
            {
                // Taken still: this manager has not listened for long enough.
                return false;
            }
        });
        Assert.DoesNotContain("id-k1-net", f.Registry.Current.Endpoints.Keys);
        Assert.Contains("id-k2-net", f.Registry.Current.Endpoints.Keys);
    }

    /// <summary>Second by second, with time for the registry's own timers in between: one that comes late is a stall, after which it listens anew.</summary>
    private static async Task ListenAsync(RegistryFixture f, Func<Task<bool>> done)
    {
        for (var second = 0; second < 600; second++)
        {
            if (await done())
                return;
            f.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Delay(20);
        }
        Assert.Fail("not within 600 seconds of the test's clock");
    }

    private static async Task LoseAsync(RegistryFixture f, params string[] names)
    {
        await f.Registry.ApplyHealthAsync([.. names.Select(name => new HealthChange($"id-{name}-net", EndpointState.Starting, EndpointState.Unreachable, 0, f.Time.GetUtcNow().ToUnixTimeMilliseconds(), "test"))]);
        Assert.True(await f.Registry.MarkDownAsync(RegistryFixture.Node(2).Id, TimeSpan.Zero, "test"));
    }
}
