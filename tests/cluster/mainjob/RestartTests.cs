using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>A daemon's end is not a client's business.</summary>
[Collection(WebClusterTests.Name)]
public sealed class RestartTests(WebCluster web)
{
    [Theory]
    [InlineData(0, true)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(1, false)]
    public void Restart_loses_no_request_and_no_connection_and_changes_nothing_in_the_kernel(int index, bool kill)
    {
        var node = web.Cluster.Nodes[index];
        // The client whose own resolver and balancer belong to that daemon has the most to lose.
        var client = web.Clients[index];
        Settle();
        var before = web.Cluster.Nodes.Select(n => n.KernelDump()).ToList();
        var steady = client.AskSteadily("http://web/");
        var far = web.Clients[(index + 1) % 3].AskSteadily("http://web/");

        if (kill)
            node.Kill();
        else
            node.Stop();
        node.Start();
        Settle();

        foreach (var result in new[] { steady.Finish(), far.Finish() })
        {
            Assert.True(result.Failed == 0, string.Join('\n', result.Errors));
            Assert.Null(result.HeldError);
            Assert.True(result.HeldExchanges > 5, $"{result.HeldExchanges} exchanges on the held connection");
            Assert.Equal(3, result.Backends.Count);
        }
        Assert.Equal(before, web.Cluster.Nodes.Select(n => n.KernelDump()));
    }

    [Fact]
    public void Status_of_a_dead_daemon_comes_from_kernel_and_disk()
    {
        var node = web.Cluster.Nodes[2];
        // Asks the daemon for its id.
        var netns = node.NetworkNamespace(WebCluster.Network);
        node.Kill();
        try
        {
            var status = node.TryCli("status", "--state", node.State);

            Assert.Equal(1, status.Code);
            Assert.Contains("dead", status.Lines[0], StringComparison.Ordinal);
            Assert.Contains(netns, status.Output, StringComparison.Ordinal);
            Assert.Contains("web", status.Output, StringComparison.Ordinal);
        }
        finally
        {
            node.Start();
            Settle();
        }
    }

    [Fact]
    public void A_second_daemon_on_the_same_state_is_refused_and_told_who_holds_it()
    {
        var node = web.Cluster.Nodes[1];

        var second = Commands.Run("nsenter", $"--net=/run/netns/{node.Netns}", Path.Combine(Tree.Out, "overlaynetd"), "--config", $"{node.Directory}/config.yaml");

        Assert.NotEqual(0, second.Code);
        Assert.Contains(Cluster.Number(node.Pid), second.Output + second.Error, StringComparison.Ordinal);
        Assert.Equal(0, node.TryCli("status").Code);
    }

    /// <summary>Every node has applied the registry's newest revision.</summary>
    private void Settle()
    {
        foreach (var node in web.Cluster.Nodes)
        {
            Wait.Until($"{node.Name} is up to date", () => node.CliJson("status") is var status
                && (bool)status["managersReachable"]!
                && (long)status["appliedRevision"]! == (long)status["registryRevision"]!);
        }
    }
}
