using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>Two clusters on one machine, with the same names and subnets: neither notices the other.</summary>
[Collection(WebClusterTests.Name)]
public sealed class TwoClustersTests(WebCluster web)
{
    [Fact]
    public void A_second_cluster_lives_beside_the_first_and_goes_without_a_trace()
    {
        var before = web.Cluster.Nodes.Select(node => node.KernelDump()).ToList();
        string[] made;
        using (var second = WebCluster.OnIPv6())
        {
            made = [.. second.Cluster.Nodes.SelectMany(node => (string[])[node.Netns, .. node.NetworkNamespaces]), .. second.Cluster.Containers.Select(container => container.Netns), second.Cluster.Lan, second.Cluster.Outside];
            Assert.All(made, name => Assert.True(File.Exists($"/run/netns/{name}"), name));
            Assert.Equal(web.Vip.Split('.')[..3], second.Vip.Split('.')[..3]);
            var first = web.Clients[0].Ask($"http://{web.Vip}/", 60);
            // Same names, same addresses even: told apart by what the servers of each have seen.
            var seen = second.Backends.Sum(backend => backend.ServerLog.Length);
            Assert.Equal(60, first.Count);
            Assert.Equal(seen, second.Backends.Sum(backend => backend.ServerLog.Length));
            foreach (var client in second.Clients)
            {
                Assert.Equal(60, client.Ask("http://web/", 60).Count);
                Assert.Equal(60, client.Ask($"http://[{second.Vip6}]/", 60).Count);
            }
        }
        Assert.DoesNotContain(made, name => File.Exists($"/run/netns/{name}") || Directory.Exists($"/etc/netns/{name}"));
        Assert.Equal(before, web.Cluster.Nodes.Select(node => node.KernelDump()));
    }
}
