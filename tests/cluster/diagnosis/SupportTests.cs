using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary><c>overlaynet bundle</c> and <c>overlaynet top</c> on a real cluster.</summary>
[Collection(GalleryClusterTests.Name)]
public sealed class SupportTests(GalleryCluster world) : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("overlaynet-test-support-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    /// <summary>All of it is unpacked by tar and searched: no token, no private key, nothing of the key's body.</summary>
    [Fact]
    public void A_bundle_has_everything_but_what_lets_somebody_in()
    {
        var node = world.Manager;
        var secrets = File.ReadAllLines($"{node.State}/identity/node.pem").SkipWhile(line => !line.Contains("PRIVATE KEY", StringComparison.Ordinal)).Where(line => line.Length > 16).ToList();
        Assert.NotEmpty(secrets);
        string[] tokens = [node.Cli("token", "show", "--quiet", "worker").Text, node.Cli("token", "show", "--quiet", "manager").Text];
        secrets.AddRange(tokens);
        secrets.AddRange(tokens.Select(token => token.Split('-')[^1]));
        // Somebody may have put one where it does not belong.
        node.Cli("network", "create", "--subnet", "10.30.0.0/24", "--label", $"note={tokens[0]}", "--label", "dbPassword=hunter2hunter2", "labelled");
        try
        {
            Unpack(node);
        }
        finally
        {
            node.Cli("network", "rm", "labelled");
        }
        var texts = Directory.EnumerateFiles(_directory, "*", SearchOption.AllDirectories).Where(file => !file.EndsWith(".gz", StringComparison.Ordinal)).ToDictionary(file => file, File.ReadAllText);
        foreach (var (file, text) in texts)
        {
            Assert.False(secrets.Any(secret => text.Contains(secret, StringComparison.Ordinal)), $"a secret is in {file}");
            Assert.DoesNotContain("PRIVATE KEY", text, StringComparison.Ordinal);
            Assert.DoesNotContain("hunter2", text, StringComparison.Ordinal);
        }
        string Text(string name) => texts.Single(entry => entry.Key.EndsWith("/" + name, StringComparison.Ordinal)).Value;
        Assert.Equal("node1", (string)JsonNode.Parse(Text("status.json"))!["nodeName"]!);
        Assert.Contains(JsonNode.Parse(Text("snapshot.json"))!["services"]!.AsArray(), service => (string)service!["name"]! == "web");
        Assert.NotNull(JsonNode.Parse(Text("doctor.json"))!["checked"]);
        Assert.Contains(JsonNode.Parse(Text("network-app/links.json"))!.AsArray(), link => (string)link!["ifname"]! == "vx0");
        Assert.Contains("overlaynet-vip-", Text("endpoint-client1/rules.json"), StringComparison.Ordinal);
        Assert.NotEmpty(JsonNode.Parse(Text("network-app/fdb.json"))!.AsArray());
    }

    [Fact]
    public void A_bundle_is_written_without_a_daemon()
    {
        var node = world.Cluster.Nodes[1];
        var fault = Fault.Inject(world, f => f.Freeze(2));
        try
        {
            Unpack(node);
        }
        finally
        {
            fault.Heal();
        }
        var doctor = JsonNode.Parse(File.ReadAllText(Path.Combine(_directory, "overlaynet-node2", "doctor.json")))!;
        Assert.Contains(doctor["findings"]!.AsArray(), finding => (string)finding!["check"]! == "daemon.frozen");
        Assert.True(File.Exists(Path.Combine(_directory, "overlaynet-node2", "events.ndjson")));
        GalleryCluster.AwaitHealthy(node);
    }

    /// <summary>Traffic is seen at the network, and the flow at its backend.</summary>
    [Fact]
    public void Top_counts_traffic_and_flows()
    {
        var client = world.Clients[0];
        var steady = client.AskSteadily($"http://{world.Vip}/");
        JsonNode report;
        try
        {
            report = JsonNode.Parse(world.Manager.Cli("top", "--once", "--json").Output)!;
        }
        finally
        {
            steady.Finish();
        }
        Assert.Equal("node1", (string)report["node"]!);
        Assert.True((double)report["networks"]!.AsArray().Single(network => (string)network!["name"]! == "app")!["sentBitsPerSecond"]! > 0, report.ToString());
        var service = report["services"]!.AsArray().Single(service => (string)service!["name"]! == "web")!;
        Assert.Equal(3, service["backends"]!.AsArray().Count);
        Assert.Equal(1.0, service["backends"]!.AsArray().Sum(backend => (double)backend!["share"]!), 3);
        Assert.True((long)service["liveFlows"]! > 0, report.ToString());
        Assert.Equal(3, report["nodes"]!.AsArray().Count);
        Assert.Contains("SERVICE", world.Manager.Cli("top", "--once", "--interval", "1").Output, StringComparison.Ordinal);
    }

    private void Unpack(ClusterNode node)
    {
        var file = Path.Combine(_directory, "bundle.tar.gz");
        Commands.In(node.Netns, Path.Combine(Tree.Out, "overlaynet"), "--socket", node.Socket, "bundle", "--state", node.State, file).Succeeded();
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        Commands.Run("tar", "-xzf", file, "-C", _directory).Succeeded();
    }
}
