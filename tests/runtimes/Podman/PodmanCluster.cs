using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Cni;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Podman;

/// <summary>A podman on each of two nodes, with networks <c>app</c> and <c>app-web</c> (whose containers are backends of service web).</summary>
public sealed class PodmanCluster : IDisposable
{
    public const string Image = "localhost/busybox:test", Serve = "echo $(hostname) > /www/index.html; exec httpd -f -p 80 -h /www";
    private readonly CniCluster _world = new();

    public PodmanCluster()
    {
        ImageRoot = Path.Combine(_world.Cluster.Directory, "busybox.tar");
        try
        {
            BusyboxImage.WriteRoot(ImageRoot);
            foreach (var node in _world.Cluster.Nodes)
            {
                var host = new PodmanHost(node);
                Hosts.Add(host);
                host.ImportImage(ImageRoot, Image);
                host.AddNetwork(CniCluster.Network, "--portmap");
                host.AddNetwork(CniCluster.Network, "--service", CniCluster.Service, "--name", "app-web");
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster => _world.Cluster;

    public string ImageRoot { get; }

    public List<PodmanHost> Hosts { get; } = [];

    public IEnumerable<string> EndpointNames => _world.Endpoints().Values.Select(endpoint => (string)endpoint["name"]!);

    public void Dispose()
    {
        foreach (var host in Hosts)
            host.Dispose();
        _world.Dispose();
    }
}
