using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.MainJob;

namespace OverlayNet.ClusterTests.Versions;

/// <summary>Daemons of neighbouring releases in one cluster: upgraded and downgraded one at a time, and one too far away is refused.</summary>
[Collection(WebClusterTests.Name)]
public sealed class MixedVersionTests(WebCluster web, OtherRelease next) : IClassFixture<OtherRelease>
{
    // The manager is neither first nor last: it works with nodes before and behind it.
    private static readonly int[] _order = [1, 0, 2];

    private ClusterNode Manager => web.Cluster.Nodes[0];

    [Fact]
    public void Nodes_are_upgraded_and_downgraded_one_by_one_under_requests()
    {
        var release = (string)Manager.CliJson("status")["version"]!;
        Settle();
        var before = web.Cluster.Nodes.Select(node => node.KernelDump()).ToList();
        var steady = web.Clients.Select(client => client.AskSteadily("http://web/")).ToList();
        Container? ofNext = null;
        try
        {
            foreach (var index in _order)
            {
                Exchange(web.Cluster.Nodes[index], next.Programs, OtherRelease.Name);
                if (index == _order[0])
                    Work(index);
            }
            // Written by a manager of the next release, with a field that the present one does not know.
            ofNext = web.Cluster.Attach("of-next", web.Cluster.Nodes[2], WebCluster.Network);
            Assert.Equal("of 9.1.0", News());
            foreach (var index in _order)
            {
                Exchange(web.Cluster.Nodes[index], null, release);
                if (index == _order[0])
                    Work(index);
            }
            // A manager that does not know the field writes the object, and the field is still there.
            Manager.Cli("endpoint", "set-weight", "of-next", "7");
            Assert.Equal(7, (int)Manager.CliJson("endpoint", "inspect", "of-next")[0]!["weight"]!);
            Assert.Equal("of 9.1.0", News());
        }
        finally
        {
            ofNext?.Remove();
            Restore();
        }
        foreach (var result in steady.Select(client => client.Finish()))
        {
            Assert.True(result.Failed == 0, string.Join('\n', result.Errors));
            Assert.Null(result.HeldError);
            Assert.Equal(3, result.Backends.Count);
        }
        Wait.Until("the last endpoint is gone everywhere", () => before.SequenceEqual(web.Cluster.Nodes.Select(node => node.KernelDump())));
    }

    [Fact]
    public void A_node_two_protocol_versions_ahead_is_refused_and_serves_on()
    {
        var node = web.Cluster.Nodes[2];
        var environment = $"{node.Directory}/environment";
        node.Stop();
        node.Programs = next.Programs;
        File.WriteAllText(environment, $"{OtherRelease.Ahead}=2\n");
        try
        {
            node.Start();
            Wait.Until("it says why no manager takes it", () => node.TryCli("status").Output is var status
                && status.Contains("protocol version", StringComparison.Ordinal) && status.Contains("one version more or less", StringComparison.Ordinal), seen: () => node.TryCli("status").ToString());
            // Its names and VIPs are those of its last snapshot.
            Assert.Equal(30, web.Clients[2].Ask("http://web/", 30).Count);
            // Two versions apart, the command line and the daemon do not talk either.
            node.Programs = null;
            var refused = node.TryCli("network", "ls");
            Assert.Equal(2, refused.Code);
            Assert.Contains("protocol version", refused.Error, StringComparison.Ordinal);
            Assert.Contains("upgrade", refused.Error, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(environment);
            Restore();
        }
    }

    private string? News() => (string?)Manager.CliJson("endpoint", "inspect", "of-next")[0]![OtherRelease.News];

    private void Exchange(ClusterNode node, string? programs, string release)
    {
        node.Stop();
        node.Programs = programs;
        node.Start();
        Wait.Until($"{node.Name} is {release} to the manager", () => Manager.CliJson("node", "ls").AsArray().Any(known => (string?)known!["name"] == node.Name && (string?)known["version"] == release),
            seen: () => Manager.TryCli("node", "ls").ToString());
        Settle();
    }

    /// <summary>What a node of one release and a node of the other write is known to all, whatever release they are of.</summary>
    private void Work(int one)
    {
        foreach (var node in new[] { one, _order[^1] }.Select(index => web.Cluster.Nodes[index]))
        {
            var name = $"mixed{node.Index}";
            var container = web.Cluster.Attach(name, node, WebCluster.Network);
            foreach (var client in web.Clients)
                Wait.Until($"{client.Name} knows {name}", () => client.Exec("dig", "+short", $"@{web.Dns}", name).Text == container.Address);
            container.Remove();
            foreach (var client in web.Clients)
                Wait.Until($"{client.Name} has forgotten {name}", () => client.Exec("dig", "+short", $"@{web.Dns}", name).Text.Length == 0);
        }
    }

    /// <summary>The other tests of the cluster find it as they left it.</summary>
    private void Restore()
    {
        foreach (var node in web.Cluster.Nodes.Where(node => node.Programs is not null || node.TryCli("status").Code != 0))
        {
            node.Stop();
            node.Programs = null;
            node.Start();
        }
        Settle();
    }

    private void Settle()
    {
        foreach (var node in web.Cluster.Nodes)
        {
            Wait.Until($"{node.Name} is up to date", () => node.TryCli("status", "--json") is { Code: 0 } answer && JsonNode.Parse(answer.Output) is var status
                && (bool)status!["managersReachable"]!
                && (long)status["appliedRevision"]! == (long)status["registryRevision"]!);
        }
    }
}
