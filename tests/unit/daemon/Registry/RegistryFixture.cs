using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.UnitTests.Daemon.Registry;

/// <summary>A registry on a SQLite store in a directory of its own, with a clock that tests move.</summary>
public sealed class RegistryFixture : IAsyncDisposable
{
    private RegistryFixture(TempDirectory directory, ManualTime time, SqliteStore store, ClusterRegistry registry, EventLog events) =>
        (Directory, Time, Store, Registry, Events) = (directory, time, store, registry, events);

    public TempDirectory Directory { get; }
    public ManualTime Time { get; }
    public SqliteStore Store { get; }
    public ClusterRegistry Registry { get; private set; }
    public EventLog Events { get; }

    public static async Task<RegistryFixture> StartAsync(int nodes = 2, int feedRevisions = 4096)
    {
        var (directory, time) = (new TempDirectory(), new ManualTime());
        var store = SqliteStore.Open(new SqliteStoreOptions { Path = directory.File("registry.db"), Time = time });
        var events = EventLog.Open(directory.Path, "n1", time);
        var registry = await ClusterRegistry.StartAsync(
            store, new ClusterRegistryOptions { Time = time, Events = events, FeedRevisions = feedRevisions });
        for (var i = 1; i <= nodes; i++)
            await registry.RegisterNodeAsync(Node(i));
        return new RegistryFixture(directory, time, store, registry, events);
    }

    /// <summary>Another manager on the same store.</summary>
    public Task<ClusterRegistry> AnotherAsync() =>
        ClusterRegistry.StartAsync(Store, new ClusterRegistryOptions { Time = Time });

    public static Node Node(int number) => new()
    {
        Id = $"node{number:d8}",
        Name = $"n{number}",
        Dc = "dc1",
        Role = number == 1 ? NodeRole.Manager : NodeRole.Worker,
        Address = new IPAddress([192, 0, 2, (byte)number]),
        HostRoutes = [IPNetwork.Parse("192.0.2.0/24"), IPNetwork.Parse("172.17.0.0/16")],
    };

    public async Task<Network> NetworkAsync(string name = "net", string? subnet = null, string? subnet6 = null) =>
        (await Registry.CreateNetworkAsync(new NetworkCreateRequest { Name = name, Subnet = subnet, Subnet6 = subnet6 })).Value;

    public async Task<Service> ServiceAsync(string name = "web", string network = "net", params string[] ports) =>
        (await Registry.CreateServiceAsync(new ServiceCreateRequest { Name = name, Network = network, Ports = [.. ports] })).Value;

    public static EndpointCreateRequest Endpoint(string name, string network = "net", int node = 1, string? service = null) => new()
    {
        Id = $"id-{name}-{network}",
        Name = name,
        NodeId = Node(node).Id,
        Network = network,
        Service = service,
        Netns = $"/run/netns/{name}",
    };

    public async Task<Endpoint> EndpointAsync(string name, string network = "net", int node = 1, string? service = null) =>
        (await Registry.CreateEndpointAsync(Endpoint(name, network, node, service))).Value;

    public async ValueTask DisposeAsync()
    {
        await Registry.DisposeAsync();
        await Store.DisposeAsync();
        Events.Dispose();
        Directory.Dispose();
    }
}
