using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Diagnosis;

/// <summary><c>overlaynet trace</c>: a whole way in both families, the hop that is at fault, and the point behind which a packet is lost.</summary>
[Collection(GalleryClusterTests.Name)]
public sealed class TraceTests(GalleryCluster world)
{
    [Fact]
    public void The_whole_way_is_fine_in_both_families()
    {
        var result = Trace(1, "client1", "web");
        Assert.True(result.Code == 0, result.ToString());
        var paths = JsonNode.Parse(result.Output)!["paths"]!.AsArray();
        Assert.Equal(2, paths.Count);
        foreach (var path in paths)
        {
            var probe = path!["probe"]!;
            Assert.Equal("answered", (string)probe["outcome"]!);
            Assert.StartsWith("web", (string)probe["backend"]!, StringComparison.Ordinal);
            Assert.Contains(probe["seen"]!.AsArray(), seen => (string)seen!["point"]! == "client1" && !(bool)seen["request"]!);
            Assert.Superset(new HashSet<string> { "target", "balancer", "route", "neighbour", "fdb", "tunnel", "underlay", "endpoint" }, path["hops"]!.AsArray().Select(hop => (string)hop!["hop"]!).ToHashSet());
        }
    }

    /// <summary>To a container on another node: seen at its port too, as its namespace is on this machine.</summary>
    [Fact]
    public void A_datagram_is_followed_to_its_end()
    {
        var probe = JsonNode.Parse(Trace(1, "client1", $"{world.Backends[1].Address}:9", "--udp").Output)!["paths"]![0]!["probe"]!;
        Assert.Equal("refused", (string)probe["outcome"]!);
        Assert.Equal(["client1", "app/vxlan", "underlay", "node2:app/vxlan", "node2:web2"], probe["seen"]!.AsArray().Where(seen => (bool)seen!["request"]!).Select(seen => (string)seen!["point"]!));
    }

    [Fact]
    public void What_is_blocked_is_lost_behind_the_tunnel()
    {
        var fault = Fault.Inject(world, f => f.Rule(f.Node(2).Netns, "input", "udp dport 4789 drop"));
        try
        {
            var result = Commands.In(world.Manager.Netns, Path.Combine(Tree.Out, "overlaynet"), "--socket", world.Manager.Socket, "trace", "client1", world.Backends[1].Address!, "-4");
            Assert.Equal(1, result.Code);
            Assert.Contains("lost behind underlay", result.Output, StringComparison.Ordinal);
        }
        finally
        {
            fault.Heal();
        }
        GalleryCluster.AwaitHealthy(world.Cluster.Nodes[1]);
    }

    /// <summary>With the daemon frozen, from disk and kernel: the wrong VTEP is named, and the right one.</summary>
    [Fact]
    public void A_wrong_vtep_is_named_without_a_daemon()
    {
        var mac = (string)world.Manager.CliJson("endpoint", "inspect", "web1")[0]!["mac"]!;
        var fault = Fault.Inject(world, f =>
        {
            f.Freeze(2);
            f.Do(f.Node(2).NetworkNamespace(GalleryCluster.Network), $"bridge fdb replace {mac} dev vx0 dst 192.0.2.99 self static");
        });
        try
        {
            var result = Trace(2, "client2", world.Backends[0].Address!, "--no-probe");
            Assert.Equal(1, result.Code);
            var hop = Assert.Single(JsonNode.Parse(result.Output)!["paths"]![0]!["hops"]!.AsArray(), hop => !(bool)hop!["ok"]!)!;
            Assert.Equal(("fdb", "web1"), ((string)hop["hop"]!, (string)hop["object"]!));
            Assert.Contains("dst 192.0.2.1", (string)hop["remedy"]!, StringComparison.Ordinal);
        }
        finally
        {
            fault.Heal();
        }
        GalleryCluster.AwaitHealthy(world.Cluster.Nodes[1]);
    }

    [Theory]
    [InlineData("is no endpoint of this node", "nobody", "web")]
    [InlineData("not on this one", "client2", "web")]
    [InlineData("is no port", "client1", "web:99999")]
    public void Bad_input_is_refused_with_a_remedy(string message, string from, string to)
    {
        var result = Trace(1, from, to);
        Assert.Equal(2, result.Code);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
        Assert.Contains("remedy: ", result.Error, StringComparison.Ordinal);
    }

    private CommandResult Trace(int node, params IEnumerable<string> arguments) => Commands.In(
        world.Cluster.Nodes[node - 1].Netns, Path.Combine(Tree.Out, "overlaynet"), ["--socket", world.Cluster.Nodes[node - 1].Socket, "trace", "--json", "--state", world.Cluster.Nodes[node - 1].State, .. arguments]);
}
