using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Registry;

public class EndpointChangeTests
{
    [Fact]
    public async Task AReservedAddressBecomesAnEndpointWithNameServiceAndNamespace()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        await fixture.NetworkAsync();
        var service = await fixture.ServiceAsync();
        var lease = (await fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("lease") with { Netns = "" })).Value;
        var bound = (await fixture.Registry.UpdateEndpointAsync(lease.Id, null, new EndpointUpdateRequest
        {
            Name = "web-1",
            Service = "web",
            Aliases = ["nick"],
            Netns = "/run/docker/netns/1",
            Interface = "eth1",
            Labels = new() { ["a"] = "b" },
        })).Value;
        Assert.Equal(("web-1", service.Id, "/run/docker/netns/1", "eth1"), (bound.Name, bound.ServiceId, bound.Netns, bound.Interface));
        Assert.Equal(lease.Address4, bound.Address4);
        Assert.Contains(fixture.Registry.Current.EndpointsOf(service), member => member.Id == lease.Id);
        // The old name is free, the new one is not.
        await fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("lease", node: 2) with { Id = "second" });
        var taken = await Assert.ThrowsAsync<RegistryException>(() => fixture.Registry.UpdateEndpointAsync("second", null, new EndpointUpdateRequest { Name = "web-1" }));
        Assert.Equal("name-taken", taken.Error.Code);
    }

    [Fact]
    public async Task AnEmptyServiceLeavesAndTheSameAgainChangesNothing()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        await fixture.NetworkAsync();
        var service = await fixture.ServiceAsync();
        var member = (await fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("a", service: "web"))).Value;
        await fixture.Registry.UpdateEndpointAsync(member.Id, null, new EndpointUpdateRequest { Service = "" });
        Assert.Empty(fixture.Registry.Current.EndpointsOf(service));
        var revision = fixture.Registry.Current.Revision;
        await fixture.Registry.UpdateEndpointAsync(member.Id, null, new EndpointUpdateRequest { Name = "a", Aliases = [], Netns = member.Netns, Service = "" });
        Assert.Equal(revision, fixture.Registry.Current.Revision);
    }

    [Theory]
    [InlineData("Not A Label", null, null, "invalid-name")]
    [InlineData(null, "nothing", null, "not-found")]
    [InlineData(null, null, "relative/path", "invalid-netns")]
    public async Task WhatCannotBeIsRefusedAndChangesNothing(string? name, string? service, string? netns, string code)
    {
        await using var fixture = await RegistryFixture.StartAsync();
        await fixture.NetworkAsync();
        var endpoint = (await fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("a"))).Value;
        var refused = await Assert.ThrowsAsync<RegistryException>(() =>
            fixture.Registry.UpdateEndpointAsync(endpoint.Id, null, new EndpointUpdateRequest { Name = name, Service = service, Netns = netns }));
        Assert.Equal(code, refused.Error.Code);
        Assert.Equal(endpoint.Name, fixture.Registry.Current.Endpoints[endpoint.Id].Name);
    }

    [Fact]
    public async Task ANetworkIsRenamedWhileNothingIsOnIt()
    {
        await using var fixture = await RegistryFixture.StartAsync();
        var network = await fixture.NetworkAsync("docker-1");
        await fixture.NetworkAsync("other");
        var taken = await Assert.ThrowsAsync<RegistryException>(() => fixture.Registry.UpdateNetworkAsync(network.Id, new NetworkUpdateRequest { Name = "other" }));
        Assert.Equal("name-taken", taken.Error.Code);
        Assert.Equal("web-net", (await fixture.Registry.UpdateNetworkAsync(network.Id, new NetworkUpdateRequest { Name = "web-net" })).Value.Name);
        // The old name is free again.
        await fixture.NetworkAsync("docker-1");
        await fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("a", "web-net"));
        var used = await Assert.ThrowsAsync<RegistryException>(() => fixture.Registry.UpdateNetworkAsync(network.Id, new NetworkUpdateRequest { Name = "late" }));
        Assert.Equal("network-in-use", used.Error.Code);
    }
}
