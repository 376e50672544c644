using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;
using OverlayNet.UnitTests.Daemon.Registry;

namespace OverlayNet.UnitTests.Daemon.Health;

/// <summary>Checks that belong to one endpoint.</summary>
public sealed class OwnCheckTests : IAsyncLifetime
{
    private RegistryFixture _fixture = null!;

    public async Task InitializeAsync()
    {
        _fixture = await RegistryFixture.StartAsync();
        await _fixture.NetworkAsync(subnet: "10.1.0.0/16");
        await _fixture.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = "web", Network = "net", Ports = ["80"], Health = ["http:/", "interval=4s"] });
    }

    public async Task DisposeAsync() => await _fixture.DisposeAsync();

    [Fact]
    public async Task An_endpoint_may_be_checked_otherwise_than_its_services_others()
    {
        await AddAsync("a", ["http:8081/ready"]);
        await AddAsync("b", null);
        Assert.Equal(("http:8081/ready", "http:/"), (Check("a"), Check("b")));
    }

    [Fact]
    public async Task Settings_alone_change_the_services_check_for_it_and_none_gives_the_services_back()
    {
        await AddAsync("a", ["interval=1s"]);
        Assert.Equal((1000, "/", 4000), (Own("a")!.IntervalMs, Own("a")!.Path, HealthTargets.CheckOf(_fixture.Registry.Current, await Other())!.IntervalMs));
        await _fixture.Registry.UpdateEndpointAsync("a", null, new EndpointUpdateRequest { Health = ["failures=7"] });
        Assert.Equal((1000, 7), (Own("a")!.IntervalMs, Own("a")!.Failures));
        await _fixture.Registry.UpdateEndpointAsync("a", null, new EndpointUpdateRequest { Weight = 3 });
        Assert.Equal(7, Own("a")!.Failures);
        await _fixture.Registry.UpdateEndpointAsync("a", null, new EndpointUpdateRequest { Health = ["none"] });
        Assert.Null(Own("a"));
        Assert.Equal("http:/", Check("a"));
    }

    [Fact]
    public async Task It_leaves_with_its_service()
    {
        await AddAsync("a", ["tcp:81"]);
        await _fixture.Registry.UpdateEndpointAsync("a", null, new EndpointUpdateRequest { Service = "" });
        Assert.Null(Own("a"));
    }

    [Fact]
    public async Task Without_a_service_or_a_port_it_is_refused_and_nothing_is_left()
    {
        var none = await Assert.ThrowsAsync<RegistryException>(() => _fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("x") with { Health = ["tcp:80"] }));
        Assert.Equal("health-without-service", none.Error.Code);
        await _fixture.Registry.CreateServiceAsync(new ServiceCreateRequest { Name = "all", Network = "net" });
        var port = await Assert.ThrowsAsync<RegistryException>(() => _fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint("y", service: "all") with { Health = ["tcp"] }));
        Assert.Equal("health-without-port", port.Error.Code);
        Assert.DoesNotContain(_fixture.Registry.Current.Endpoints.Values, e => e.Kind == EndpointKind.Container);
    }

    private Task AddAsync(string name, List<string>? health) =>
        _fixture.Registry.CreateEndpointAsync(RegistryFixture.Endpoint(name, service: "web") with { Health = health });

    private async Task<Endpoint> Other()
    {
        await AddAsync("other", null);
        return _fixture.Registry.Current.Endpoints["id-other-net"];
    }

    private HealthCheck? Own(string name) => _fixture.Registry.Current.Endpoints[$"id-{name}-net"].Health;

    private string Check(string name) => HealthSpecs.Describe(HealthTargets.CheckOf(_fixture.Registry.Current, _fixture.Registry.Current.Endpoints[$"id-{name}-net"])!);
}
