using System.Diagnostics;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Health with three managers, each of which is told by other nodes than the others.</summary>
public sealed class HealthOfSeveralTests(ITestOutputHelper output)
{
    [Fact]
    public void Managers_decide_by_what_all_nodes_find_and_what_one_held_the_others_hold()
    {
        using var world = new ManagersCluster(workers: 1);
        var nodes = world.Nodes;
        ManagersCluster.UntilVoters(nodes[0], 3);
        nodes[0].Cli("service", "update", "--health", "http:/", "--health-interval", "500ms", "--health-option", "ramp=1s", "--health-option", "hold=1s", "--drain", "60", "web");
        var clients = nodes.Select(world.Populate).ToList();
        foreach (var node in nodes)
            Wait.Until("all serve", () => Backends(node).All(backend => (string?)backend!["state"] == "healthy"), seen: () => Backends(node).ToJsonString());

        // Silence is confirmed by nodes that are at home with other managers, and written once.
        var web2 = Container(world, "web2");
        web2.Exec("nft", "add table inet fault; add chain inet fault in { type filter hook input priority -200; policy drop; }").Succeeded();
        Wait.Until("the black hole is out", () => nodes.All(node => State(node, "web2") == "unhealthy"), seen: () => Backends(nodes[0]).ToJsonString());
        web2.Exec("nft", "delete", "table", "inet", "fault").Succeeded();
        Wait.Until("it is back", () => nodes.All(node => State(node, "web2") == "healthy"));
        var told = Events(nodes[0], "web2");
        Assert.Contains("of 2 other nodes say", Assert.Single(told, message => message.StartsWith("healthy to unhealthy", StringComparison.Ordinal)), StringComparison.Ordinal);

        // A drain waits for flows of nodes that other managers hear of, and not for its deadline when there are none.
        var since = Stopwatch.GetTimestamp();
        nodes[0].Cli("endpoint", "drain", "web3");
        var took = Stopwatch.GetElapsedTime(since);
        output.WriteLine($"drained after {took.TotalSeconds:0.0} s");
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromSeconds(20));

        // A one-sided loss is held by every manager; the leader's death changes nothing about that.
        var own = nodes[0].CliJson("endpoint", "ls", "--network", ManagersCluster.Network).AsArray().Single(endpoint => (string?)endpoint!["name"] == "node-node4");
        Container(world, "web4").Exec("nft", $"add table inet fault; add chain inet fault out {{ type filter hook output priority -200; }}; add rule inet fault out ip daddr {(string)own!["address4"]!} drop").Succeeded();
        foreach (var manager in nodes.Take(3))
            Wait.Until($"{manager.Name} holds it", () => Held(manager), seen: () => Backends(manager).ToJsonString());
        var leader = world.Leader();
        ManagersCluster.KillManager(nodes[leader]);
        var killed = Stopwatch.GetTimestamp();
        var left = nodes.Take(3).Where(node => node != nodes[leader]).ToList();
        Wait.Until("three times the time of a verdict has gone by", () =>
        {
            Assert.All(left, node => Assert.Equal("healthy", State(node, "web4")));
            return Stopwatch.GetElapsedTime(killed) > TimeSpan.FromSeconds(6);
        });
        Assert.All(left, node => Assert.True(Held(node), Backends(node).ToJsonString()));
        Assert.Equal(20, clients[3].Ask("http://web/", 20).Count);
    }

    private static Container Container(ManagersCluster world, string name) => world.Cluster.Containers.Single(container => container.Name == name);

    private static JsonArray Backends(ClusterNode node) => node.CliJson("service", "backends", "web").AsArray();

    private static JsonNode Backend(ClusterNode node, string name) => Backends(node).Single(backend => (string?)backend!["endpoint"] == name)!;

    private static string? State(ClusterNode node, string name) => (string?)Backend(node, name)["state"];

    private static bool Held(ClusterNode node) => ((string?)Backend(node, "web4")["held"])?.Contains("one-sided", StringComparison.Ordinal) == true;

    /// <summary>Of all managers: whichever was first has written the change, and tells it.</summary>
    private static List<string> Events(ClusterNode node, string endpoint) =>
    [
        .. node.Cli("events", "--cluster", "--since", "2m", "--json").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!)
            .Where(e => (string?)e["action"] == "health" && (string?)e["object"] == endpoint).Select(e => (string)e["message"]!),
    ];
}
