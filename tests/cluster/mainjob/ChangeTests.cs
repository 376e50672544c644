using System.Diagnostics;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>Containers come and go while clients go on asking.</summary>
[Collection(WebClusterTests.Name)]
public sealed class ChangeTests(WebCluster web)
{
    [Fact]
    public void A_container_that_is_attached_is_balanced_to_on_every_node_and_gone_again_when_it_ends()
    {
        var node = web.Cluster.Nodes[2];
        var extra = web.Cluster.AddBackend("extra", node, WebCluster.Network, "web");
        foreach (var other in web.Cluster.Nodes)
            Wait.Until($"{other.Name} balances to it", () => Has(other, "extra"));
        foreach (var client in web.Clients)
            Assert.Contains(client.Ask($"http://{web.Vip}/", 80), answer => answer.StartsWith("extra ", StringComparison.Ordinal));

        extra.Remove();

        foreach (var other in web.Cluster.Nodes)
            Wait.Until($"{other.Name} has withdrawn it", () => !Has(other, "extra"));
        foreach (var client in web.Clients)
        {
            Wait.Until("no name points at it", () => !client.Exec("dig", "+short", "tasks.web").Output.Contains(extra.Address!, StringComparison.Ordinal));
            Assert.Equal(60, client.Ask($"http://{web.Vip}/", 60).Count);
        }
    }

    [Fact]
    public void Changes_leave_nothing_for_the_comparison_with_the_kernel_to_mend()
    {
        var before = web.Cluster.Nodes.Select(node => (Node: node, Logged: node.Log.Length, Tables: Tables(node))).ToList();

        for (var round = 0; round < 3; round++)
        {
            var killed = web.Cluster.AddBackend("killed", web.Cluster.Nodes[round], WebCluster.Network, "web");
            var detached = web.Cluster.AddBackend("detached", web.Cluster.Nodes[(round + 1) % 3], WebCluster.Network, "web");
            foreach (var (node, _, tables) in before)
            {
                Wait.Until($"{node.Name} has both", () => Has(node, "killed") && Has(node, "detached"));
                Wait.Until($"{node.Name} has ways to both", () => Tables(node) != tables && Tables(node).Contains(killed.Address!, StringComparison.Ordinal) == (node != web.Cluster.Nodes[round]));
            }
            killed.Remove();
            web.Cluster.Nodes[(round + 1) % 3].Cli("detach", "--network", WebCluster.Network, "--netns", detached.NetnsPath);
            detached.Remove();
            foreach (var (node, _, tables) in before)
                Wait.Until($"{node.Name}'s tables are as before", () => Tables(node) == tables, seen: () => $"before:\n{tables}\nnow:\n{Tables(node)}");
        }

        foreach (var (node, logged, _) in before)
        {
            Wait.Until($"{node.Name} has compared everything since", () => node.CliJson("status") is var status && (long)status["comparedRevision"]! >= (long)status["registryRevision"]!);
            Assert.DoesNotContain("mended", node.Log[logged..], StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_drained_endpoint_gets_no_new_connection_and_no_request_fails()
    {
        var manager = web.Cluster.Nodes[0];
        var steady = web.Clients[1].AskSteadily("http://web/");
        try
        {
            manager.Cli("endpoint", "drain", "--detach", "web2");
            foreach (var node in web.Cluster.Nodes)
                Wait.Until($"{node.Name} gives it no share", () => !Has(node, "web2"));

            foreach (var client in web.Clients)
                Assert.DoesNotContain(client.Ask($"http://{web.Vip}/", 60), answer => answer.StartsWith("web2 ", StringComparison.Ordinal));
            var result = steady.Finish();
            Assert.True(result.Failed == 0 && result.HeldError is null, $"{string.Join('\n', result.Errors)} {result.HeldError}");
        }
        finally
        {
            manager.Cli("endpoint", "activate", "web2");
        }
        foreach (var node in web.Cluster.Nodes)
            Wait.Until($"{node.Name} balances to it again", () => Has(node, "web2"));
    }

    [Fact]
    public void Weights_are_shares()
    {
        var manager = web.Cluster.Nodes[0];
        manager.Cli("endpoint", "set-weight", "web1", "4");
        try
        {
            foreach (var node in web.Cluster.Nodes)
                Wait.Until($"{node.Name} has the weight", () => Backends(node).Any(backend => (string?)backend!["endpoint"] == "web1" && Math.Abs((double)backend["share"]! - 4.0 / 6) < 0.02));
            Assert.InRange(web.Clients[2].Ask($"http://{web.Vip}/", 300).Count(answer => answer.StartsWith("web1 ", StringComparison.Ordinal)), 170, 230);
        }
        finally
        {
            manager.Cli("endpoint", "set-weight", "web1", "1");
        }
    }

    [Fact]
    public void Run_gives_a_command_a_container_of_its_own_and_passes_its_exit_code()
    {
        var node = web.Cluster.Nodes[1];
        var namespaces = ScratchNamespaces();

        var fine = node.Cli("run", "--network", WebCluster.Network, "--name", "once", "--", "curl", "-s", "-m", "5", "http://web/");
        var wrong = node.TryCli("run", "--network", WebCluster.Network, "--", "sh", "-c", "echo to-stdout; echo to-stderr >&2; exit 37");

        Assert.Matches("^web[123] (10\\.10\\.0\\.\\d+|fd00:10::[0-9a-f]+)$", fine.Text);
        Assert.Equal((37, "to-stdout", "to-stderr"), (wrong.Code, wrong.Text, wrong.Error.Trim()));
        Assert.Equal(namespaces, ScratchNamespaces());
        Assert.DoesNotContain("\"once\"", node.Cli("endpoint", "ls", "--json").Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("TERM", 143)]
    [InlineData("INT", 130)]
    public void Run_passes_signals_on_and_cleans_up(string signal, int code)
    {
        var node = web.Cluster.Nodes[1];
        var namespaces = ScratchNamespaces();
        var start = new ProcessStartInfo(Path.Combine(Tree.Out, "overlaynet"), ["--socket", node.Socket, "run", "--network", WebCluster.Network, "--name", "waiting", "--", "sh", "-c", "echo started; exec sleep 60"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        using var run = Process.Start(start)!;
        Assert.Equal("started", run.StandardOutput.ReadLine());

        Commands.Run("kill", $"-{signal}", Cluster.Number(run.Id)).Succeeded();

        Assert.True(run.WaitForExit(TimeSpan.FromSeconds(15)));
        Assert.Equal(code, run.ExitCode);
        Assert.Equal(namespaces, ScratchNamespaces());
        Assert.DoesNotContain("\"waiting\"", node.Cli("endpoint", "ls", "--json").Output, StringComparison.Ordinal);
    }

    /// <summary>Where the network's frames go from a node: entries of the VXLAN device, and neighbours.</summary>
    private static string Tables(ClusterNode node)
    {
        var netns = node.NetworkNamespace(WebCluster.Network);
        var fdb = Commands.In(netns, "bridge", "fdb", "show", "dev", "vx0").Succeeded().Lines;
        var neighbours = Commands.In(netns, "ip", "neigh", "show", "nud", "permanent", "dev", "br0").Succeeded().Lines;
        return string.Join('\n', fdb.Concat(neighbours).Select(line => line.Trim()).Order(StringComparer.Ordinal));
    }

    private static JsonArray Backends(ClusterNode node) => node.CliJson("service", "backends", "web").AsArray();

    private static bool Has(ClusterNode node, string endpoint) =>
        Backends(node).Any(backend => (string?)backend!["endpoint"] == endpoint && (double)backend["share"]! > 0);

    /// <summary>Namespaces of commands that this machine's <c>overlaynet run</c> have under way.</summary>
    private static string[] ScratchNamespaces() => Directory.GetFiles("/run/netns", "run-*");
}
