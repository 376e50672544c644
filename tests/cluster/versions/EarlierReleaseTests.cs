using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.Managers;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Versions;

/// <summary>The programs of an earlier commit of this repository beside the present ones, under three managers on etcd.</summary>
public sealed class EarlierReleaseTests(ITestOutputHelper output)
{
    private const int Rounds = 3;

    /// <summary>The commit: OVERLAYNET_PREVIOUS, else fifty before the present one.</summary>
    private static string Commit => Environment.GetEnvironmentVariable("OVERLAYNET_PREVIOUS") is { Length: > 0 } commit ? commit : "HEAD~50";

    [Fact]
    [Trait("Category", "Soak")]
    public void Managers_go_from_an_earlier_release_to_this_one_and_back_under_requests()
    {
        var directory = Directory.CreateTempSubdirectory("overlaynet-test-earlier-").FullName;
        var tree = Path.Combine(directory, "tree");
        Commands.Run("git", "-C", Tree.Root, "worktree", "add", "--detach", "--force", tree, Commit).Succeeded();
        try
        {
            Commands.Run(TimeSpan.FromMinutes(14), Path.Combine(tree, "tools", "build")).Succeeded();
            output.WriteLine($"earlier: {Commands.Run("git", "-C", tree, "log", "-1", "--format=%h %ad %s", "--date=iso").Text}");
            using var managers = new ManagersCluster(workers: 1);
            var clients = managers.Nodes.Select(managers.Populate).ToList();
            ManagersCluster.UntilVoters(managers.Nodes[0], 3);
            foreach (var client in clients)
                Wait.Until($"{client.Name} is answered", () => client.Exec("curl", "-s", "-m", "2", "http://web/").Code == 0);
            var steady = clients.Select(client => client.AskSteadily("http://web/")).ToList();
            for (var round = 0; round < Rounds; round++)
            {
                foreach (var programs in new[] { Path.Combine(tree, "out"), null })
                {
                    foreach (var node in managers.Nodes)
                    {
                        node.Stop();
                        node.Programs = programs;
                        node.Start();
                        ManagersCluster.UntilVoters(node, 3);
                        var name = $"r{round}{(programs is null ? "n" : "o")}{node.Index}";
                        var container = managers.Cluster.Attach(name, node, ManagersCluster.Network);
                        foreach (var client in clients)
                            Wait.Until($"{client.Name} knows {name}", () => client.Exec("dig", "+short", name).Text == container.Address);
                        container.Remove();
                        foreach (var client in clients)
                            Wait.Until($"{client.Name} has forgotten {name}", () => client.Exec("dig", "+short", name).Text.Length == 0);
                    }
                }
            }
            foreach (var result in steady.Select(client => client.Finish()))
            {
                output.WriteLine($"{result.Ok} answered, {result.Failed} failed, slowest {result.SlowestMs:F0} ms; held connection: {result.HeldExchanges} exchanges, {result.HeldError ?? "never lost"}");
                Assert.True(result.Failed == 0, string.Join('\n', result.Errors));
                Assert.Null(result.HeldError);
            }
        }
        finally
        {
            Commands.Run("git", "-C", Tree.Root, "worktree", "remove", "--force", tree);
            Directory.Delete(directory, recursive: true);
        }
    }
}
