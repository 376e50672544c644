namespace OverlayNet.ClusterTests.MainJob;

/// <summary>What reaches the backends, and what is on the wire for it.</summary>
[Collection(WebClusterTests.Name)]
public sealed class TrafficTests(WebCluster web)
{
    private const int Requests = 300;
    private const int Share = 100;
    private const int Tolerance = 20;

    [Theory]
    [InlineData(0, 4)]
    [InlineData(1, 4)]
    [InlineData(2, 4)]
    [InlineData(0, 6)]
    [InlineData(1, 6)]
    [InlineData(2, 6)]
    public void Requests_spread_evenly_and_keep_the_clients_address(int node, int family)
    {
        var client = web.Clients[node];
        var (url, address) = family == 4 ? ($"http://{web.Vip}/", client.Address!) : ($"http://[{web.Vip6}]/", client.Address6!);

        var answers = client.Ask(url, Requests);

        Assert.Equal(Requests, answers.Count);
        Assert.All(answers, answer => Assert.EndsWith($" {address}", answer, StringComparison.Ordinal));
        foreach (var backend in web.Backends)
        {
            // The backend on the client's own node and those across the underlay alike.
            Assert.InRange(answers.Count(answer => answer.StartsWith($"{backend.Name} ", StringComparison.Ordinal)), Share - Tolerance, Share + Tolerance);
            Assert.Contains($"{backend.Name} {address}\n", backend.ServerLog, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_backend_reaches_its_own_service_and_may_be_its_own_answer()
    {
        var backend = web.Backends[0];

        var answers = backend.Ask($"http://{web.Vip}/", 60);

        Assert.Equal(60, answers.Count);
        Assert.Contains(answers, answer => answer.StartsWith($"{backend.Name} ", StringComparison.Ordinal));
    }

    [Fact]
    public void Containers_reach_the_outside_and_are_not_seen_there_by_their_own_address()
    {
        using var server = Harness.BackgroundProcess.In(web.Cluster.Outside, Harness.Tree.Library("echo_server.py"), "outside", "80", Harness.Cluster.OutsideAddress, "2001:db8:51::1");
        Harness.Wait.Until("the outside server answers", () => web.Clients[0].Exec("curl", "-s", "-m", "2", "http://outside.example/").Code == 0);

        Assert.Equal($"outside {web.Cluster.Nodes[0].Address}", web.Clients[0].Exec("curl", "-s", "http://outside.example/").Text);
        Assert.Equal($"outside {web.Cluster.Nodes[2].Address6}", web.Clients[2].Exec("curl", "-s", "http://[2001:db8:51::1]/").Text);
    }

    [Fact]
    public void A_service_without_endpoints_refuses_at_once()
    {
        var node = web.Cluster.Nodes[0];
        node.Cli("service", "create", "--network", WebCluster.Network, "--port", "80", "empty");
        try
        {
            Harness.Wait.Until("the name is known", () => web.Clients[1].Exec("dig", "+short", "empty").Text.Length > 0);
            // 7: connection refused, or unreachable; 28 would be a time-out.
            Assert.Equal(7, web.Clients[1].Exec("curl", "-4", "-s", "-m", "3", "http://empty/").Code);
            Assert.Equal(7, web.Clients[1].Exec("curl", "-6", "-s", "-m", "3", "http://empty/").Code);
        }
        finally
        {
            node.Cli("service", "rm", "empty");
        }
    }
}
