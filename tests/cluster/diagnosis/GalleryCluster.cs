using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary>The cluster that faults are put into: three nodes, a dual-stack network, service web, a floating VIP held by node 1, an upstream resolver.</summary>
public sealed class GalleryCluster : IDisposable
{
    public const string Network = "app", VipName = "floating", FloatingAddress = "192.0.2.100";
    private const int Vrid = 51;
    private BackgroundProcess? _nameServer;

    public GalleryCluster()
    {
        Cluster = Cluster.Start(3);
        try
        {
            StartNameServer();
            Manager.Cli("network", "create", "--subnet", "10.10.0.0/24", "--subnet6", "fd00:10::/64", Network);
            Manager.Cli("service", "create", "--network", Network, "--port", "80", "web");
            Backends = [.. Cluster.Nodes.Select(node => Cluster.AddBackend($"web{node.Index}", node, Network, "web"))];
            Clients = [.. Cluster.Nodes.Take(2).Select(node => Cluster.Attach($"client{node.Index}", node, Network))];
            Vip = (string)Manager.CliJson("service", "inspect", "web")[0]!["vip4"]!;
            Vni = (int)Manager.CliJson("network", "inspect", Network)[0]!["vni"]!;
            Manager.Cli("vip", "create", "--address", $"{FloatingAddress}/24", "--vrid", Vrid.ToString(CultureInfo.InvariantCulture), "--interface", "eth0", "--priority", "node1=150", "--priority", "node2=100", "--priority", "node3=90", "--advert", "200", VipName);
            Wait.Until("node 1 holds the VIP", () => (string?)Manager.CliJson("vip", "ls")[0]!["holder"] == "node1" || Commands.In(Manager.Netns, "ip", "-o", "addr", "show").Output.Contains(FloatingAddress, StringComparison.Ordinal));
            foreach (var node in Cluster.Nodes)
            {
                // Asked for while its daemon can answer.
                node.NetworkNamespace(Network);
                AwaitHealthy(node);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public ClusterNode Manager => Cluster.Nodes[0];

    public IReadOnlyList<Container> Backends { get; } = [];

    public IReadOnlyList<Container> Clients { get; } = [];

    /// <summary>Of service web.</summary>
    public string Vip { get; } = "";

    public int Vni { get; }

    /// <summary>As a person runs it on the node: nothing is said of its daemon that it could not find out.</summary>
    public static CommandResult Doctor(ClusterNode node, params IEnumerable<string> arguments) =>
        Commands.In(node.Netns, Path.Combine(Tree.Out, "overlaynet"), ["--socket", node.Socket, "doctor", "--json", "--state", node.State, .. arguments]);

    public static JsonArray Findings(CommandResult result) => JsonNode.Parse(result.Output)!["findings"]!.AsArray();

    /// <summary>Nothing is found any more.</summary>
    public static void AwaitHealthy(ClusterNode node)
    {
        CommandResult? last = null;
        Wait.Until($"{node.Name} is healthy", () => Findings(last = Doctor(node)).Count == 0, TimeSpan.FromSeconds(60), () => last?.ToString() ?? "");
    }

    public void StartNameServer() => _nameServer = BackgroundProcess.In(
        Cluster.Outside, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces",
        $"--listen-address={Cluster.OutsideAddress}", $"--address=/outside.example/{Cluster.OutsideAddress}").Says("started");

    public void StopNameServer() => _nameServer?.Dispose();

    public void Dispose()
    {
        _nameServer?.Dispose();
        Cluster.Dispose();
    }
}

/// <summary>Tests that share one cluster and leave it as they found it.</summary>
[CollectionDefinition(Name)]
public sealed class GalleryClusterTests : ICollectionFixture<GalleryCluster>
{
    public const string Name = "gallery cluster";
}
