using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>The cluster that most of these tests look at: three nodes, a dual-stack network, service web with a backend and a client on every node.</summary>
public sealed class WebCluster : IDisposable
{
    public const string Network = "app";
    public const string Subnet = "10.10.0.0/24";

    private readonly BackgroundProcess _nameServer;

    public WebCluster()
        : this(underlayFamily: 4)
    {
    }

    private WebCluster(int underlayFamily)
    {
        Cluster = Cluster.Start(3, underlayFamily);
        try
        {
            _nameServer = BackgroundProcess.In(
                Cluster.Outside, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces",
                $"--listen-address={Cluster.OutsideAddress}", $"--address=/outside.example/{Cluster.OutsideAddress}").Says("started");
            var manager = Cluster.Nodes[0];
            manager.Cli("network", "create", "--subnet", Subnet, "--subnet6", "fd00:10::/64", Network);
            manager.Cli("service", "create", "--network", Network, "--port", "80", "web");
            Backends = [.. Cluster.Nodes.Select(node => Cluster.AddBackend($"web{node.Index}", node, Network, "web"))];
            Clients = [.. Cluster.Nodes.Select(node => Cluster.Attach($"client{node.Index}", node, Network))];
            var service = manager.CliJson("service", "inspect", "web")[0]!;
            (Vip, Vip6) = ((string)service["vip4"]!, (string)service["vip6"]!);
            var network = manager.CliJson("network", "inspect", Network)[0]!;
            (Dns, Dns6) = ((string)network["gateway4"]!, (string)network["gateway6"]!);
            foreach (var node in Cluster.Nodes)
                Wait.Until($"{node.Name} has all backends", () => node.CliJson("service", "backends", "web").AsArray().Count(backend => (double)backend!["share"]! > 0) == Backends.Count);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public IReadOnlyList<Container> Backends { get; }

    public IReadOnlyList<Container> Clients { get; }

    public string Vip { get; }

    public string Vip6 { get; }

    public string Dns { get; }

    public string Dns6 { get; }

    /// <summary>The same on VTEPs of IPv6 addresses.</summary>
    public static WebCluster OnIPv6() => new(underlayFamily: 6);

    public void Dispose()
    {
        _nameServer?.Dispose();
        Cluster.Dispose();
    }
}

/// <summary>Tests that share one cluster and leave it as they found it.</summary>
[CollectionDefinition(Name)]
public sealed class WebClusterTests : ICollectionFixture<WebCluster>
{
    public const string Name = "web cluster";
}
