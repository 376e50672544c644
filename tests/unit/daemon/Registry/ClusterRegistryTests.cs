using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

public sealed class ClusterRegistryTests
{
    private static async Task<ErrorBody> Refused(int status, string code, Func<Task> action)
    {
        var refusal = await Assert.ThrowsAsync<RegistryException>(action);
        Assert.Equal((status, code), (refusal.Status, refusal.Error.Code));
        Assert.NotNull(refusal.Error.Remedy);
        return refusal.Error;
    }

    [Fact]
    public async Task ANetworkGetsSubnetGatewayVniAndMac()
    {
        await using var f = await RegistryFixture.StartAsync();
        var network = await f.NetworkAsync();
        Assert.Equal(IPNetwork.Parse("10.96.0.0/24"), network.Subnet4);
        Assert.Equal(IPAddress.Parse("10.96.0.1"), network.Gateway4);
        Assert.Null(network.Subnet6);
        Assert.Equal(4096, network.Vni);
        Assert.EndsWith(":0a:60:00:01", network.GatewayMac);
        Assert.StartsWith("02:", network.GatewayMac);
        var second = await f.NetworkAsync("other");
        Assert.Equal((IPNetwork.Parse("10.96.1.0/24"), 4097), (second.Subnet4!.Value, second.Vni));
        var six = await f.NetworkAsync("six", subnet6: "fd00:6::/64");
        Assert.Null(six.Subnet4);
        Assert.Equal(IPAddress.Parse("fd00:6::1"), six.Gateway6);
        Assert.Same(f.Registry.Current.Networks[six.Id], f.Registry.Current.FindNetwork("six").Value);
    }

    [Fact]
    public async Task ARemovedNetworksVniIsNotTheNextOne()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync("a");
        await f.Registry.RemoveNetworkAsync("a");
        Assert.Equal(4097, (await f.NetworkAsync("a")).Vni);
    }

    [Fact]
    public async Task AnEndpointGetsAddressesAndTheNodeItsOwn()
    {
        await using var f = await RegistryFixture.StartAsync();
        var network = await f.NetworkAsync(subnet: "10.1.0.0/24", subnet6: "fd00:1::/64");
        var service = await f.ServiceAsync();
        Assert.Equal((IPAddress.Parse("10.1.0.2"), IPAddress.Parse("fd00:1::2")), (service.Vip4!, service.Vip6!));
        var before = f.Registry.Current.Revision;
        var c1 = await f.EndpointAsync("c1", service: "web");
        Assert.Equal(before + 1, f.Registry.Current.Revision);
        Assert.Equal((IPAddress.Parse("10.1.0.3"), IPAddress.Parse("fd00:1::3")), (c1.Address4!, c1.Address6!));
        Assert.Equal(EndpointState.Starting, c1.State);
        var own = f.Registry.Current.NodeEndpoint(RegistryFixture.Node(1).Id, network.Id)!;
        Assert.Equal((IPAddress.Parse("10.1.0.4"), EndpointKind.Node), (own.Address4!, own.Kind));
        await f.EndpointAsync("c2");
        await f.EndpointAsync("c3", node: 2);
        Assert.Equal(2, f.Registry.Current.EndpointsOf(network).Count(e => e.Kind == EndpointKind.Node));
        Assert.Equal(["id-c1-net"], f.Registry.Current.EndpointsOf(service).Select(e => e.Id));
        Assert.Equal(5, f.Registry.Current.EndpointsOf(network).Select(e => e.Mac).Append(network.GatewayMac).Distinct().Count() - 1);
    }

    [Fact]
    public async Task TheSameEndpointAgainIsTheSameEndpoint()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        var first = await f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1"));
        var again = await f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1"));
        Assert.Equal(first.Revision, again.Revision);
        Assert.Equal(first.Value.Address4, again.Value.Address4);
        await Refused(409, "id-taken", () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1", node: 2)));
        var error = await Refused(409, "name-taken",
            () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1", node: 2) with { Id = "another" }));
        Assert.Contains("'n1'", error.Message);
    }

    [Fact]
    public async Task TheNodesOwnEndpointGoesWithTheLastContainer()
    {
        await using var f = await RegistryFixture.StartAsync();
        var network = await f.NetworkAsync();
        for (var i = 0; i < 12; i++)
            await f.EndpointAsync($"c{i}");
        await Refused(409, "node-endpoint", () => f.Registry.RemoveEndpointAsync("node-n1", "net"));
        await Task.WhenAll(Enumerable.Range(0, 12).Select(i => f.Registry.RemoveEndpointAsync($"c{i}", "net")));
        Assert.Empty(f.Registry.Current.EndpointsOf(network));
        await f.Registry.RemoveNetworkAsync("net");
    }

    [Fact]
    public async Task ANetworkInUseIsNotRemovedAndItsUsersAreNamed()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        await f.ServiceAsync();
        await f.EndpointAsync("c1");
        var error = await Refused(409, "network-in-use", () => f.Registry.RemoveNetworkAsync("net"));
        Assert.Contains("service 'web'", error.Message);
        Assert.Contains("endpoint 'c1'", error.Message);
        Assert.Empty((await f.Registry.PruneNetworksAsync()).Value);
        await f.NetworkAsync("idle");
        Assert.Equal(["idle"], (await f.Registry.PruneNetworksAsync()).Value.Select(n => n.Name));
    }

    [Fact]
    public async Task SubnetsDoNotOverlapUnlessAllowedAndHostRoutesNever()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync("a", "10.1.0.0/16");
        var error = await Refused(409, "subnet-overlap", () => f.NetworkAsync("b", "10.1.2.0/24"));
        Assert.Contains("'a'", error.Message);
        Assert.Contains("10.1.0.0/16", error.Message);
        await f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "b", Subnet = "10.1.2.0/24", AllowOverlap = true });
        error = await Refused(409, "subnet-overlaps-host", () => f.Registry.CreateNetworkAsync(
            new NetworkCreateRequest { Name = "c", Subnet = "172.16.0.0/12", AllowOverlap = true }));
        Assert.Contains("172.17.0.0/16", error.Message);
        Assert.Contains("'n", error.Message);
        Assert.Equal(2, f.Registry.Current.Networks.Count);
    }

    [Fact]
    public async Task OfTwoManagersThatCreateTheSameOnlyOneSucceeds()
    {
        await using var f = await RegistryFixture.StartAsync();
        await using var other = await f.AnotherAsync();
        for (var i = 0; i < 20; i++)
        {
            var request = new NetworkCreateRequest { Name = $"net{i}", Subnet = $"10.{i}.0.0/24", Vni = 100 + i };
            var sameName = request with { Subnet = $"10.{100 + i}.0.0/24", Vni = 200 + i };
            var sameSubnet = request with { Name = $"x{i}", Vni = 300 + i };
            var sameVni = request with { Name = $"y{i}", Subnet = $"10.{150 + i}.0.0/24" };
            foreach (var rival in new[] { sameName, sameSubnet, sameVni })
            {
                var results = await Task.WhenAll(
                    Try(() => f.Registry.CreateNetworkAsync(request)), Try(() => other.CreateNetworkAsync(rival)));
                Assert.Single(results, won => won);
                foreach (var network in f.Registry.Current.Networks.Values.Where(n => n.Vni != 0).ToList())
                    await f.Registry.RemoveNetworkAsync(network.Id);
                await Eventually.True(() => other.Current.Networks.IsEmpty);
            }
        }
    }

    private static async Task<bool> Try(Func<Task> action)
    {
        try
        {
            await Task.Run(action);
            return true;
        }
        catch (RegistryException e)
        {
            Assert.Equal(409, e.Status);
            return false;
        }
    }

    [Fact]
    public async Task ConcurrentEndpointsOnTwoManagersShareNoAddress()
    {
        await using var f = await RegistryFixture.StartAsync();
        await using var other = await f.AnotherAsync();
        await f.NetworkAsync(subnet: "10.1.0.0/25", subnet6: "fd00:1::/64");
        await Eventually.True(() => other.Current.Networks.Count == 1);
        await Task.WhenAll(Enumerable.Range(0, 100).Select(i => Task.Run(() =>
            (i % 2 == 0 ? f.Registry : other).CreateEndpointAsync(RegistryFixture.Endpoint($"c{i}", node: 1 + (i % 2))))));
        var endpoints = f.Registry.Current.Endpoints.Values.ToList();
        Assert.Equal(102, endpoints.Count);
        Assert.Equal(102, endpoints.Select(e => e.Address4).Distinct().Count());
        Assert.Equal(102, endpoints.Select(e => e.Address6).Distinct().Count());
        Assert.Equal(102, endpoints.Select(e => e.Mac).Distinct().Count());
        Assert.All(endpoints, e => Assert.Equal(e.Address4!.GetAddressBytes()[3], e.Address6!.GetAddressBytes()[15]));
    }

    [Fact]
    public async Task AServiceFollowsItsUpdates()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        var web = await f.ServiceAsync("web", "net", "http=8080:80", "53/udp");
        Assert.Equal((80, 80, 8080, "http"), (web.Ports[0].Port, web.Ports[0].Target, web.Ports[0].Published, web.Ports[0].Name));
        var error = await Refused(409, "port-taken", () => f.ServiceAsync("other", "net", "8080:81"));
        Assert.Contains("'web'", error.Message);
        await f.ServiceAsync("udp", "net", "8080:80/udp");

        var dnsrr = await f.Registry.UpdateServiceAsync("web", null, new ServiceUpdateRequest
        {
            EndpointMode = EndpointMode.Dnsrr,
            Ports = ["80"],
            Aliases = ["www"],
        });
        Assert.Null(dnsrr.Value.Vip4);
        await f.ServiceAsync("other", "net", "8080:81");
        await Refused(409, "name-taken", () => f.ServiceAsync("www"));
        var back = await f.Registry.UpdateServiceAsync("web", null, new ServiceUpdateRequest
        {
            EndpointMode = EndpointMode.Vip,
            Aliases = [],
        });
        Assert.NotNull(back.Value.Vip4);
        Assert.NotEqual(web.Vip4, back.Value.Vip4);
        await f.ServiceAsync("www");
    }

    [Fact]
    public async Task AServiceWithEndpointsIsRemovedOnlyByForce()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        await f.ServiceAsync();
        for (var i = 0; i < 45; i++)
            await f.EndpointAsync($"c{i}", service: "web");
        var error = await Refused(409, "service-in-use", () => f.Registry.RemoveServiceAsync("web", null));
        Assert.Contains("'c0'", error.Message);
        await f.Registry.RemoveServiceAsync("web", "net", force: true);
        Assert.Equal(46, f.Registry.Current.Endpoints.Count);
        Assert.All(f.Registry.Current.Endpoints.Values, e => Assert.Null(e.ServiceId));
    }

    [Fact]
    public async Task ANodeThatFallsSilentIsUnmanagedAndKeepsItsEndpoints()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        await f.EndpointAsync("c1", node: 2);
        for (var i = 0; i < 35; i++)
        {
            f.Time.Advance(TimeSpan.FromSeconds(1));
            await f.Registry.HeartbeatAsync(new HeartbeatRequest { NodeId = RegistryFixture.Node(1).Id, AppliedRevision = 3 });
            await Task.Delay(5);
        }
        var n2 = RegistryFixture.Node(2).Id;
        await Eventually.True(() => f.Registry.Current.Nodes[n2].State == NodeState.Unmanaged);
        Assert.Equal(NodeState.Ready, f.Registry.Current.Nodes[RegistryFixture.Node(1).Id].State);
        Assert.True(f.Registry.Current.FindEndpoint("c1").Found);
        var lag = f.Registry.NodeLags();
        Assert.Equal(("n1", 3, f.Registry.Current.Revision - 3), (lag[0].Name, lag[0].AppliedRevision, lag[0].Lag));
        Assert.Null(lag[1].SecondsSinceHeartbeat);
        Assert.Contains(f.Events.Since(0), e => e is { Kind: "node", Action: "unmanaged", Object: "n2" });

        var answer = await f.Registry.HeartbeatAsync(new HeartbeatRequest { NodeId = n2 });
        Assert.Equal(NodeState.Ready, answer.State);
        Assert.Equal(NodeState.Ready, f.Registry.Current.Nodes[n2].State);
    }

    [Fact]
    public async Task AHeartbeatWritesOnlyNews()
    {
        await using var f = await RegistryFixture.StartAsync();
        var heartbeat = new HeartbeatRequest
        {
            NodeId = RegistryFixture.Node(2).Id,
            HostRoutes = [IPNetwork.Parse("10.9.0.0/16")],
            UnderlayMtu = 1400,
            Features = ["ipvs"],
            Version = "1",
        };
        var first = await f.Registry.HeartbeatAsync(heartbeat);
        Assert.Equal(first.Revision, (await f.Registry.HeartbeatAsync(heartbeat)).Revision);
        Assert.Equal(1400, f.Registry.Current.Nodes[heartbeat.NodeId].UnderlayMtu);
        await Refused(409, "subnet-overlaps-host", () => f.NetworkAsync("a", "10.9.1.0/24"));
        await Refused(400, "mtu-too-large", () => f.Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = "a", Mtu = 1400 }));
        await Refused(410, "node-unknown", () => f.Registry.HeartbeatAsync(new HeartbeatRequest { NodeId = "nobody" }));
    }

    [Fact]
    public async Task NodesHaveNamesAndAddressesOfTheirOwn()
    {
        await using var f = await RegistryFixture.StartAsync();
        var n3 = RegistryFixture.Node(3);
        await Refused(409, "name-taken", () => f.Registry.RegisterNodeAsync(n3 with { Name = "n2" }));
        await Refused(409, "address-taken", () => f.Registry.RegisterNodeAsync(n3 with { Address = IPAddress.Parse("192.0.2.2") }));
        await f.Registry.RegisterNodeAsync(n3);
        await f.Registry.RegisterNodeAsync(n3 with { Address = IPAddress.Parse("192.0.2.33"), Name = "n33" });
        await f.Registry.RegisterNodeAsync(RegistryFixture.Node(4) with { Address = IPAddress.Parse("192.0.2.3"), Name = "n3" });
    }

    [Fact]
    public async Task ARemovedNodeTakesItsEndpointsWithIt()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        for (var i = 0; i < 30; i++)
            await f.EndpointAsync($"c{i}", node: 2);
        await Refused(409, "node-ready", () => f.Registry.RemoveNodeAsync("n2"));
        await Refused(409, "last-manager", () => f.Registry.RemoveNodeAsync("n1", force: true));
        await f.Registry.RemoveNodeAsync("n2", force: true);
        Assert.Empty(f.Registry.Current.Endpoints);
        await Refused(410, "node-unknown", () => f.EndpointAsync("late", node: 2));
        await f.Registry.RegisterNodeAsync(RegistryFixture.Node(2));
    }

    [Fact]
    public async Task APausedNodeTakesNoEndpoints()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        await f.Registry.UpdateNodeAsync("n2", new NodeUpdateRequest { Availability = NodeAvailability.Pause });
        var error = await Refused(409, "node-not-active", () => f.EndpointAsync("c1", node: 2));
        Assert.Contains("activate", error.Remedy);
    }

    [Fact]
    public async Task EverythingIsThereAfterARestartAndQuarantineHolds()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync(subnet: "10.1.0.0/29");
        var c1 = await f.EndpointAsync("c1");
        await f.EndpointAsync("c2");
        await f.Registry.RemoveEndpointAsync("c1", null);
        await using var restarted = await f.AnotherAsync();
        Assert.Equal(f.Registry.Current.Revision, restarted.Current.Revision);
        Assert.Equal(f.Registry.Current.Endpoints.Keys.Order(), restarted.Current.Endpoints.Keys.Order());
        var c3 = await restarted.CreateEndpointAsync(RegistryFixture.Endpoint("c3"));
        Assert.NotEqual(c1.Address4, c3.Value.Address4);
        await restarted.CreateEndpointAsync(RegistryFixture.Endpoint("c4"));
        // Nothing else is left: the oldest freed address ends its quarantine early.
        var c5 = await restarted.CreateEndpointAsync(RegistryFixture.Endpoint("c5"));
        Assert.Equal((c1.Address4, c1.Mac), (c5.Value.Address4, c5.Value.Mac));
        var error = await Refused(409, "subnet-full", () => restarted.CreateEndpointAsync(RegistryFixture.Endpoint("c6")));
        Assert.Contains("10.1.0.0/29", error.Message);
    }

    [Fact]
    public async Task FreedAddressesAreForgottenOnceTheirQuarantineIsOver()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync();
        await f.EndpointAsync("c1");
        await f.Registry.RemoveEndpointAsync("c1", null);
        Assert.Equal(2, (await f.Store.RangeAsync("idx/addr/")).Items.Count);
        await Eventually.True(async () =>
        {
            f.Time.Advance(TimeSpan.FromSeconds(31));
            return (await f.Store.RangeAsync("idx/addr/")).Items.Count == 0;
        });
    }

    [Fact]
    public async Task NothingIsLeftOfARefusedCreation()
    {
        await using var f = await RegistryFixture.StartAsync();
        await f.NetworkAsync(subnet: "10.1.0.0/24");
        var before = await f.Store.RangeAsync("");
        await Refused(409, "name-taken", () => f.NetworkAsync());
        await Refused(404, "not-found", () => f.ServiceAsync("web", "nowhere"));
        await Refused(404, "not-found", () => f.EndpointAsync("c1", service: "nothing"));
        await Refused(400, "address-outside-subnet",
            () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1") with { Ip = "10.2.0.5" }));
        await Refused(400, "address-reserved",
            () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1") with { Ip = "10.1.0.1" }));
        await Refused(400, "no-such-family",
            () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1") with { Ip6 = "fd00::1" }));
        Assert.Equal(before.Revision, (await f.Store.RangeAsync("")).Revision);
        var c1 = await f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c1") with { Ip = "10.1.0.77" });
        Assert.Equal(IPAddress.Parse("10.1.0.77"), c1.Value.Address4);
        var taken = await Refused(409, "address-taken",
            () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c2") with { Ip = "10.1.0.77" }));
        Assert.Contains("endpoint 'c1'", taken.Message);
    }

    [Fact]
    public async Task AnIPv6OnlyNetworkHasAddressesAndMacsOfItsOwn()
    {
        await using var f = await RegistryFixture.StartAsync();
        var network = await f.NetworkAsync(subnet6: "fd00:6::/64");
        var c1 = await f.EndpointAsync("c1");
        Assert.Null(c1.Address4);
        Assert.Equal(IPAddress.Parse("fd00:6::2"), c1.Address6);
        Assert.StartsWith("06:", c1.Mac);
        var error = await Refused(409, "mac-taken",
            () => f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c2") with { Ip6 = "fd00:6::1:0:2" }));
        Assert.Equal("ip6", error.Field);
        await f.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("c2") with { Ip6 = "fd00:6::1:0:99" });
        Assert.Equal(3, f.Registry.Current.EndpointsOf(network).Select(e => e.Mac).Append(network.GatewayMac).Distinct().Count() - 1);
        await f.Registry.RemoveEndpointAsync("c1", null);
        await f.Registry.RemoveEndpointAsync("c2", null);
        Assert.Empty(f.Registry.Current.Endpoints);
        Assert.Empty((await f.Store.RangeAsync("idx/mac/")).Items);
    }
}
