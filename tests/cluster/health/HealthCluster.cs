using System.Diagnostics;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Health;

/// <summary>Three nodes and a network, on which each test makes a service of its own.</summary>
public sealed class HealthCluster : IDisposable
{
    public const string Network = "app";
    private int _services;

    public HealthCluster()
    {
        Cluster = Cluster.Start();
        try
        {
            Cluster.Nodes[0].Cli("network", "create", "--subnet", "10.20.0.0/22", "--subnet6", "fd00:20::/64", Network);
            Clients = [.. Cluster.Nodes.Select(node => Cluster.Attach($"client{node.Index}", node, Network))];
            Apis = [.. Cluster.Nodes.Select(node => new NodeApi(node))];
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public IReadOnlyList<Container> Clients { get; } = [];

    internal IReadOnlyList<NodeApi> Apis { get; } = [];

    public ClusterNode Manager => Cluster.Nodes[0];

    /// <summary>Number of the service made last.</summary>
    public int LastService => _services;

    /// <summary>A service with a backend on each node, all of them healthy on every node.</summary>
    internal CheckedService Service(string health, params string[] more)
    {
        var service = Empty(health, more);
        foreach (var node in Cluster.Nodes)
            service.Add($"{service.Name}-{Cluster.Number(node.Index)}", node);
        foreach (var backend in service.Backends)
            service.AwaitState(backend.Name, "healthy");
        return service;
    }

    /// <summary>A service without backends.</summary>
    internal CheckedService Empty(string health, params string[] more)
    {
        var name = $"s{Interlocked.Increment(ref _services)}";
        Manager.Cli(["service", "create", "--network", Network, "--port", "80", "--health", health, .. more, name]);
        return new CheckedService(this, name);
    }

    public void Dispose()
    {
        foreach (var api in Apis)
            api.Dispose();
        Cluster.Dispose();
    }
}

/// <summary>A service of a test; takes its backends and itself away at the end.</summary>
internal sealed class CheckedService(HealthCluster health, string name) : IDisposable
{
    private readonly List<Container> _backends = [];

    public string Name { get; } = name;

    public IReadOnlyList<Container> Backends => _backends;

    public Container Add(string name, ClusterNode node, bool serve = true, params string[] more)
    {
        var container = health.Cluster.Attach(name, node, HealthCluster.Network, Name, more);
        _backends.Add(container);
        if (serve)
            container.Serve(80);
        return container;
    }

    public void Remove(Container container)
    {
        _backends.Remove(container);
        container.Remove();
    }

    public void AwaitState(string endpoint, string state, TimeSpan? patience = null)
    {
        foreach (var api in health.Apis)
            Wait.Until($"{endpoint} is {state} on {api.Node.Name}", () => api.State(Name, endpoint) == state, patience, () => api.Backends(Name).ToJsonString());
    }

    /// <summary>Waits until the end of the endpoint's server would be heard, and the managers know that.</summary>
    public void AwaitWatched(string endpoint) => Wait.Until(
        $"the process of {endpoint} is watched", () => health.Apis[0].Backend(Name, endpoint)["probers"]!.AsArray().Any(prober => (bool)prober!["watched"]!), seen: () => health.Apis[0].Backends(Name).ToJsonString());

    /// <summary>Waits until no node leads to an endpoint any more.</summary>
    /// <returns>When the last node had let it go, counted from <paramref name="since"/>.</returns>
    public TimeSpan AwaitOut(Container backend, long since, TimeSpan patience)
    {
        // All nodes at once: one that is asked late must not look late.
        var times = new TimeSpan?[health.Apis.Count];
        Parallel.For(0, times.Length, new ParallelOptions { MaxDegreeOfParallelism = times.Length }, i => Wait.Until(
            $"{backend.Name} is out on {health.Apis[i].Node.Name}",
            () => health.Apis[i].IsOut(Name, backend.Name, backend.Address!) && (times[i] = Stopwatch.GetElapsedTime(since)) is not null,
            patience,
            () => health.Apis[i].Backends(Name).ToJsonString()));
        return times.Max()!.Value;
    }

    /// <summary>Everything that reaches the container is lost, from now on.</summary>
    public static long BlackHole(Container container)
    {
        container.Exec("nft", "add table inet fault; add chain inet fault in { type filter hook input priority -200; policy drop; }").Succeeded();
        return Stopwatch.GetTimestamp();
    }

    /// <summary>What the container sends to an address is lost.</summary>
    public static long LoseRepliesTo(Container container, string address)
    {
        container.Exec("nft", $"add table inet fault; add chain inet fault out {{ type filter hook output priority -200; }}; add rule inet fault out ip daddr {address} drop").Succeeded();
        return Stopwatch.GetTimestamp();
    }

    public static void Mend(Container container) => container.Exec("nft", "delete", "table", "inet", "fault").Succeeded();

    public void Dispose()
    {
        foreach (var backend in _backends.ToList())
            Remove(backend);
        health.Manager.TryCli("service", "rm", "--force", Name);
    }
}

[CollectionDefinition(Name)]
public sealed class HealthClusterTests : ICollectionFixture<HealthCluster>
{
    public const string Name = "health cluster";
}
