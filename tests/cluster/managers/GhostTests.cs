using System.Diagnostics;
using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>What the registry has and its node has not, and the other way round, is gone within ten seconds; what was done is told by all managers in one stream.</summary>
public sealed class GhostTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(10);

    [Fact]
    public async Task Ghosts_go_both_ways_and_every_managers_events_are_in_one_stream()
    {
        using var world = new ManagersCluster(workers: 1);
        var (nodes, worker) = (world.Nodes, world.Nodes[3]);
        ManagersCluster.UntilVoters(nodes[0], 3);
        using var api = new NodeApi(nodes[1]);
        var id = (string)worker.CliJson("status")["nodeId"]!;
        var live = world.Cluster.AddBackend("live", worker, ManagersCluster.Network, "web");

        // The registry has one that its node never had.
        var (status, body, _) = await api.SendAsync(HttpMethod.Post, "/v1/endpoints", new JsonObject
        {
            ["id"] = "ghostghost01",
            ["name"] = "ghost",
            ["nodeId"] = id,
            ["network"] = ManagersCluster.Network,
            ["netns"] = "/run/netns/there-is-none",
        });
        Assert.True(status == HttpStatusCode.Created, $"{status} {body}");
        UntilGone(nodes[0], "ghost");

        // Removed at a manager: its owner takes it down, and whoever registers it late finds that it was deleted.
        var doomed = world.Cluster.AddBackend("doomed", worker, ManagersCluster.Network, "web");
        nodes[2].Cli("endpoint", "rm", "doomed");
        Wait.Until("its owner has taken it down", () => HasNoLink(doomed), Soon, () => worker.Log);
        Assert.True((await api.SendAsync(HttpMethod.Get, $"/v1/endpoints/{doomed.EndpointId}")).Status == HttpStatusCode.NotFound);

        // The same while the node's daemon is away: one ends, another is removed from the registry.
        var ended = world.Cluster.AddBackend("ended", worker, ManagersCluster.Network, "web");
        var removed = world.Cluster.AddBackend("removed", worker, ManagersCluster.Network, "web");
        worker.Kill();
        ended.Remove();
        nodes[0].Cli("endpoint", "rm", "removed");
        worker.Start();
        var back = Stopwatch.StartNew();
        UntilGone(nodes[0], "ended");
        Wait.Until("its owner has taken it down", () => HasNoLink(removed), Soon - back.Elapsed, () => worker.Log);
        Assert.False(HasNoLink(live));

        // Three managers did this; each tells of all of it.
        foreach (var node in nodes)
        {
            var told = node.Cli("events", "--cluster").Output;
            Assert.All(new[] { "remove doomed", "remove removed", "create live", "remove ghost", "remove ended" }, what => Assert.Contains(what, told, StringComparison.Ordinal));
        }
        var stream = nodes[1].Cli("events", "--cluster", "--json").Lines.Select(line => JsonNode.Parse(line)!).ToList();
        Assert.Equal(stream.Select(e => (DateTimeOffset)e["time"]!).Order(), stream.Select(e => (DateTimeOffset)e["time"]!));
        Assert.True(stream.Select(e => (string)e["node"]!).Distinct().Count() >= 3);
        Assert.DoesNotContain("remove removed", nodes[2].Cli("events").Output, StringComparison.Ordinal);
    }

    private static void UntilGone(ClusterNode manager, string name) => Wait.Until($"{name} is gone", () => !manager.CliJson("endpoint", "ls").AsArray().Any(e => (string)e!["name"]! == name), Soon, () => manager.Cli("endpoint", "ls").Output);

    private static bool HasNoLink(Container container) => container.Exec("ip", "-o", "link", "show", "type", "veth").Output.Length == 0;
}
