using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Cni;

/// <summary>Two nodes, a dual-stack network with a service, and an internal network of IPv4 only.</summary>
public sealed class CniCluster : IDisposable
{
    public const string Network = "app", Internal = "backend", Service = "web";
    private int _containers;

    public CniCluster()
    {
        Cluster = Cluster.Start(2);
        Manager.Cli("network", "create", "--subnet", "10.10.0.0/24", "--subnet6", "fd00:10::/64", Network);
        Manager.Cli("network", "create", "--subnet", "10.20.0.0/24", "--internal", Internal);
        Manager.Cli("service", "create", "--network", Network, "--port", "80", Service);
        foreach (var node in Cluster.Nodes)
            Wait.Until($"{node.Name} knows the service", () => node.CliJson("service", "ls").AsArray().Count == 1);
    }

    public Cluster Cluster { get; }

    public ClusterNode Manager => Cluster.Nodes[0];

    /// <summary>An empty container, and an id that no other has.</summary>
    public (Container Container, string Id) AddContainer(ClusterNode? node = null)
    {
        var number = Interlocked.Increment(ref _containers);
        return (Cluster.AddContainer($"cni{number}", node ?? Manager), $"container-{number}");
    }

    /// <summary>A configuration as a runtime passes it, for a node's daemon.</summary>
    public string Config(string version = "1.1.0", string name = Network, string more = "", ClusterNode? node = null) =>
        $$"""{"cniVersion":"{{version}}","name":"{{name}}","type":"overlaynet","socket":"{{(node ?? Manager).Socket}}"{{more}}}""";

    /// <summary>The endpoints that came by CNI, by their container's id.</summary>
    public IReadOnlyDictionary<string, JsonNode> Endpoints() => Manager.CliJson("endpoint", "ls").AsArray()
        .Where(endpoint => endpoint!["labels"]?["overlaynet.cni.container"] is not null)
        .ToDictionary(endpoint => (string)endpoint!["labels"]!["overlaynet.cni.container"]!, endpoint => endpoint!);

    public void Dispose() => Cluster.Dispose();
}
