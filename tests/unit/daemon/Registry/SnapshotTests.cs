using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

public class SnapshotTests
{
    private static readonly Network Web = new() { Id = "net-aaaa1111", Name = "web", Vni = 4096, GatewayMac = "02:00:00:00:00:01" };
    private static readonly Network Db = new() { Id = "net-bbbb2222", Name = "db", Vni = 4097, GatewayMac = "02:00:00:00:00:01" };
    private static readonly Node Node1 = new() { Id = "n1aaaaaa", Name = "one", Dc = "dc1", Address = IPAddress.Loopback };

    private static Service Service(string id, string name, Network network) => new() { Id = id, Name = name, NetworkId = network.Id };

    private static Endpoint Endpoint(string id, string name, Network network, string? service = null) =>
        new() { Id = id, Name = name, NetworkId = network.Id, NodeId = Node1.Id, ServiceId = service, Mac = "02:00:00:00:00:02" };

    private static Snapshot Filled() => Snapshot.From(new RegistrySnapshot
    {
        ClusterId = "c",
        ClusterDomain = "overlay.internal",
        Incarnation = 3,
        Revision = 10,
        Nodes = [Node1],
        Networks = [Web, Db],
        Services = [Service("s1aaaa", "api", Web), Service("s2aaaa", "api", Db)],
        Endpoints = [Endpoint("e1aaaa", "c1", Web, "s1aaaa"), Endpoint("e2aaaa", "c2", Web, "s1aaaa"), Endpoint("e3bbbb", "c1", Db)],
    });

    private static WatchMessage Change(long revision, params RegistryChange[] changes) =>
        new() { Incarnation = 3, Revision = revision, Changes = changes };

    [Fact]
    public void FindsByIdNameAndUniqueBeginningOfAnId()
    {
        var snapshot = Filled();
        Assert.Same(Web, snapshot.FindNetwork("web").Value);
        Assert.Same(Web, snapshot.FindNetwork("WEB").Value);
        Assert.Same(Web, snapshot.FindNetwork(Web.Id).Value);
        Assert.Same(Web, snapshot.FindNetwork("net-a").Value);
        Assert.False(snapshot.FindNetwork("net").Found);
        Assert.False(snapshot.FindNetwork("").Found);
        Assert.True(snapshot.FindNetwork("net-").Ambiguous);
        Assert.Same(Node1, snapshot.FindNode("one").Value);
    }

    [Fact]
    public void ANameOnTwoNetworksIsAmbiguousUntilTheNetworkIsGiven()
    {
        var snapshot = Filled();
        var both = snapshot.FindService("api");
        Assert.True(both.Ambiguous);
        Assert.Null(both.Value);
        Assert.Equal(2, both.Candidates.Count);
        Assert.Equal("s2aaaa", snapshot.FindService("api", Db.Id).Value!.Id);
        Assert.Equal("e1aaaa", snapshot.FindEndpoint("c1", Web.Id).Value!.Id);
        Assert.False(snapshot.FindEndpoint("e1aaaa", Db.Id).Found);
    }

    [Fact]
    public void ChangesMoveMembershipAndNames()
    {
        var before = Filled();
        var after = before.Apply(Change(
            11,
            new RegistryChange { Endpoint = Endpoint("e1aaaa", "renamed", Web) },
            new RegistryChange { DeletedKind = "endpoint", DeletedId = "e2aaaa" },
            new RegistryChange { DeletedKind = "node", DeletedId = "nobody" }));
        Assert.Equal(11, after.Revision);
        Assert.Empty(after.EndpointsOf(after.Services["s1aaaa"]));
        Assert.Equal(["e1aaaa"], after.EndpointsOf(Web).Select(e => e.Id));
        Assert.False(after.FindEndpoint("c2").Found);
        Assert.Equal("e1aaaa", after.FindEndpoint("renamed").Value!.Id);
        Assert.Equal(2, before.EndpointsOf(before.Services["s1aaaa"]).Count());
    }

    [Fact]
    public void OldChangesAreIgnoredAndAnotherIncarnationIsRefused()
    {
        var snapshot = Filled();
        Assert.Same(snapshot, snapshot.Apply(Change(10, new RegistryChange { DeletedKind = "node", DeletedId = Node1.Id })));
        Assert.Throws<InvalidOperationException>(() => snapshot.Apply(new WatchMessage { Incarnation = 4, Revision = 11 }));
        var replaced = snapshot.Apply(new WatchMessage { Incarnation = 4, Revision = 1, Snapshot = Snapshot.Empty.ToContract() });
        Assert.Empty(replaced.Nodes);
    }

    [Fact]
    public void ASignOfLifeMovesOnlyTheRevision()
    {
        var snapshot = Filled();
        var after = snapshot.Apply(new WatchMessage { Incarnation = 3, Revision = 12 });
        Assert.Equal(12, after.Revision);
        Assert.Same(snapshot.Endpoints, after.Endpoints);
    }

    [Fact]
    public void TheContractRoundTrips()
    {
        var contract = Filled().ToContract();
        var again = Snapshot.From(contract).ToContract();
        Assert.Equal(contract.Endpoints, again.Endpoints);
        Assert.Equal(contract.Services, again.Services);
        Assert.Equal(contract.Nodes, again.Nodes);
        Assert.Equal((contract.Revision, contract.Incarnation), (again.Revision, again.Incarnation));
    }
}
