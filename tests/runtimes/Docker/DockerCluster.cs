using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>A cluster of nodes with a Docker on each, and the images on each Docker.</summary>
public class DockerCluster : IDisposable
{
    private const int Nodes = 2;

    public DockerCluster()
        : this(null, [])
    {
    }

    /// <param name="root">The root whose dockerd is to run; null: this machine's.</param>
    protected DockerCluster(string? root, string[] options)
    {
        Cluster = Cluster.Start(Nodes);
        try
        {
            Hosts = [.. Cluster.Nodes.Select(node => new DockerHost(node, root, options))];
            Parallel.ForEach(Hosts, host =>
            {
                host.Start();
                host.Import(Images.Busybox);
                host.Import(Images.Debian);
            });
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public IReadOnlyList<DockerHost> Hosts { get; } = [];

    public ClusterNode Manager => Cluster.Nodes[0];

    /// <param name="options">Further options of each dockerd.</param>
    public static DockerCluster With(params string[] options) => new(null, options);

    /// <summary>A network of the cluster; returns once every Docker has it.</summary>
    public void CreateNetwork(string name, params string[] options)
    {
        Manager.Cli(["network", "create", .. options, name]);
        foreach (var host in Hosts)
            Wait.Until($"network {name} in the Docker of {host.Node.Name}", () => host.TryRun("network", "inspect", name).Code == 0, seen: () => host.Node.TryCli("doctor", "--quick").Output);
    }

    /// <summary>Endpoints of containers, as the registry has them.</summary>
    public IReadOnlyList<(string Name, string Address, string State)> Endpoints(string network) =>
    [
        .. Manager.CliJson("endpoint", "ls", "--network", network).AsArray()
            .Where(endpoint => (string?)endpoint!["kind"] == "container")
            .Select(endpoint => ((string)endpoint!["name"]!, (string)endpoint["address4"]!, (string)endpoint["state"]!)),
    ];

    public void Dispose()
    {
        GC.SuppressFinalize(this);
        Parallel.ForEach(Hosts, host => host.Dispose());
        Cluster.Dispose();
    }
}
