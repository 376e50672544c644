using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.MainJob;

/// <summary>
/// A power cut on one node: /run and every namespace are gone, the disk is as it was, and the manager is away as well. The
/// node comes back with what it knew of the others and without ghosts of its own.
/// </summary>
public sealed class ColdBootTests
{
    private const string Resolver = "169.254.53.53";

    [Fact]
    public void A_node_that_boots_without_any_manager_serves_the_others_and_none_of_its_dead()
    {
        using var world = new WebCluster();
        var (manager, cut) = (world.Cluster.Nodes[0], world.Cluster.Nodes[1]);
        var dead = world.Backends[1];

        manager.Kill();
        CutPower(world, cut);
        cut.Start();

        Wait.Until("the name answers on the node", () => Ask(cut, "web.app.overlay.internal").Contains(world.Vip), seen: () => cut.Log);
        Wait.Until("another node's container is known by name", () => Ask(cut, $"{world.Backends[2].Name}.app.overlay.internal").Contains(world.Backends[2].Address!));
        Wait.Until("the dead container is not", () => !Ask(cut, $"{dead.Name}.app.overlay.internal").Contains(dead.Address!));
        string[] living = [world.Backends[0].Name, world.Backends[2].Name];
        Wait.Until("the VIP leads to living backends only", () =>
        {
            var answers = Enumerable.Range(0, 10).Select(_ => Commands.In(cut.Netns, "curl", "-s", "-m", "2", $"http://{world.Vip}/")).ToList();
            return answers.All(answer => answer.Code == 0 && living.Contains(answer.Text.Split(' ')[0]));
        });

        manager.Start();
        Wait.Until("no node has its endpoints any more", () => world.Cluster.Nodes.All(node =>
            node.CliJson("endpoint", "ls").AsArray().All(endpoint => (string)endpoint!["name"]! != dead.Name && (string)endpoint["name"]! != world.Clients[1].Name)));
        // The runtime after us: the container is started anew under its name.
        var again = world.Cluster.AddBackend(dead.Name, cut, WebCluster.Network, "web");
        Wait.Until("it takes its share", () => world.Clients[2].Ask("http://web/", 30).Any(answer => answer.StartsWith(again.Name + " ", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_namespace_that_is_there_again_before_the_daemon_is_attached_again()
    {
        using var world = new WebCluster();
        var cut = world.Cluster.Nodes[1];
        var container = world.Backends[1];

        CutPower(world, cut);
        // The runtime before us: a namespace of the same name, empty.
        Commands.Run("ip", "netns", "add", container.Netns).Succeeded();
        Commands.Run("ip", "-n", container.Netns, "link", "set", "lo", "up").Succeeded();
        cut.Start();

        Wait.Until("it has its address again", () => container.Exec("ip", "addr", "show", "eth0").Output.Contains(container.Address!, StringComparison.Ordinal));
        container.Serve(80);
        Wait.Until("it takes its share", () => world.Clients[2].Ask("http://web/", 30).Any(answer => answer.StartsWith(container.Name + " ", StringComparison.Ordinal)));
        // Its client's namespace did not come back.
        Wait.Until("the other is gone", () => world.Cluster.Nodes[0].CliJson("endpoint", "ls").AsArray().All(endpoint => (string)endpoint!["name"]! != world.Clients[1].Name));
    }

    /// <summary>What a power cut leaves of a node: its disk.</summary>
    private static void CutPower(WebCluster world, ClusterNode node)
    {
        var made = node.NetworkNamespaces;
        var keeper = Commands.Run("pgrep", "--full", $"keeper {node.State}/keeper.sock").Lines;
        node.Kill();
        foreach (var pid in keeper)
            Commands.Run("kill", "-KILL", pid);
        foreach (var container in world.Cluster.Containers.Where(container => container.Node == node).ToList())
        {
            container.Dispose();
            Commands.Run("ip", "netns", "del", container.Netns).Succeeded();
        }
        foreach (var netns in made)
            Commands.Run("ip", "netns", "del", netns).Succeeded();
        foreach (var link in Commands.In(node.Netns, "ip", "-o", "link", "show").Succeeded().Lines.Select(line => line.Split(": ")[1].Split('@')[0]).Where(link => link is not ("lo" or "eth0")))
            Commands.In(node.Netns, "ip", "link", "del", link);
        Commands.In(node.Netns, "nft", "flush", "ruleset").Succeeded();
        foreach (var file in new[] { node.Socket, $"{node.State}/keeper.sock" })
            File.Delete(file);
    }

    private static IReadOnlyList<string> Ask(ClusterNode node, string name) =>
        Commands.In(node.Netns, "dig", "+short", "+time=1", "+tries=1", name, $"@{Resolver}").Lines;
}
