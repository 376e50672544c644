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
    public void Names_asked_for_before_are_answered_by_the_kernel_while_no_daemon_runs()
    {
        var (node, client) = (web.Cluster.Nodes[1], web.Clients[1]);
        string Ask(string server, string type = "A") => client.Exec("dig", "+short", "+nocookie", "+tries=1", "+time=2", $"@{server}", "web.app", type).Text;
        string Answered() => Commands.Run("curl", "-s", "-m", "5", "--unix-socket", node.Socket, "http://localhost/metrics").Succeeded()
            .Lines.First(line => line.StartsWith("overlaynet_dns_kernel_answers_total", StringComparison.Ordinal));
        Settle();
        // The first answer is the daemon's, the second need not be: a container attached a moment ago has its program soon.
        var before = Answered();
        Wait.Until("the kernel answers", () => Ask(web.Dns) == web.Vip && Ask(web.Dns6, "AAAA") == web.Vip6 && Answered() != before);
        Assert.Contains("given by: the kernel, without the daemon", node.Cli("dns", "query", "--explain", "web.app", "--from", client.EndpointId).Output, StringComparison.Ordinal);
        Ask(web.Dns6);
        Ask(web.Dns, "AAAA");

        node.Kill();
        try
        {
            foreach (var server in new[] { web.Dns, web.Dns6 })
            {
                Assert.Equal(web.Vip, Ask(server));
                Assert.Equal(web.Vip6, Ask(server, "AAAA"));
            }

            // What nobody asked for waits for the successor.
            Assert.NotEqual(0, client.Exec("dig", "+short", "+tries=1", "+time=1", $"@{web.Dns}", "tasks.web").Code);
        }
        finally
        {
            node.Start();
            Settle();
        }

        before = Answered();
        Wait.Until("the successor's program answers", () => Ask(web.Dns) == web.Vip && Answered() != before);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_container_that_ends_leaves_nothing_with_the_keeper(bool whileNoDaemonRuns)
    {
        var node = web.Cluster.Nodes[2];
        Settle();
        var keeper = Commands.Run("pgrep", "-f", $"keeper {node.State}/keeper.sock").Succeeded().Lines.Single();
        string[] Held() => [.. Directory.GetFiles($"/proc/{keeper}/fd").Select(fd => new FileInfo(fd).LinkTarget ?? "").Where(target => target.Contains("bpf", StringComparison.Ordinal))];
        var before = Held();
        Assert.NotEmpty(before);
        var container = web.Cluster.Attach(whileNoDaemonRuns ? "unseen" : "seen", node, WebCluster.Network);
        Wait.Until("the keeper holds the link at its port", () => Held().Length == before.Length + 1, seen: () => string.Join(' ', Held()));

        if (whileNoDaemonRuns)
            node.Kill();
        container.Remove();
        if (whileNoDaemonRuns)
            node.Start();

        Wait.Until("the keeper has let go of it", () => Held().Length == before.Length, seen: () => string.Join(' ', Held()));
        Settle();
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
