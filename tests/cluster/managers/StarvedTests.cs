using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net.Http;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Daemons that hardly get a processor: late is not dead.</summary>
public sealed class StarvedTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private const int Endpoints = 2000;
    private static readonly TimeSpan Starved = TimeSpan.FromMinutes(10), Stopped = TimeSpan.FromMinutes(5), Pause = TimeSpan.FromMilliseconds(250);

    [Fact]
    [Trait("Category", "Soak")]
    public async Task An_agent_with_a_twentieth_of_a_processor_is_never_called_down()
    {
        using var world = new ManagersCluster(workers: 2, managers: false, count: 1);
        var (manager, worker, other) = (world.Nodes[0], world.Nodes[1], world.Nodes[2]);
        world.Populate(worker);
        var client = world.Populate(other);
        Assert.Equal(5, client.Ask("http://web/", 5).Count);
        var steady = client.AskSteadily("http://web/");
        using var quota = new CpuQuota($"{world.Cluster.Prefix}starved", 5, worker.Pid);
        using var stress = BackgroundProcess.InHost("stress-ng", "--cpu", "4", "--timeout", $"{Starved.TotalSeconds * 2:0}s");
        using var api = new NodeApi(manager, TimeSpan.FromMinutes(1));
        var states = new ConcurrentDictionary<string, int>();
        for (var watch = Stopwatch.StartNew(); watch.Elapsed < Starved;)
        {
            var nodes = (await api.SendAsync(HttpMethod.Get, "/v1/nodes")).Body!.AsArray();
            states.AddOrUpdate((string)nodes.Single(n => (string)n!["name"]! == worker.Name)!["state"]!, 1, (_, count) => count + 1);
            await Task.Delay(Pause);
        }
        stress.End();
        var result = steady.Finish();
        output.WriteLine($"{Starved.TotalMinutes:0} minutes with 5 % of a processor: looks that found it {string.Join(", ", states)}; requests through its backend and another's: {result.Ok} answered, {result.Failed} failed");
        Assert.Equal(["ready"], states.Keys);
        Assert.Equal(0, result.Failed);
        Assert.Contains("web2", result.Backends.Keys);
    }

    [Fact]
    [Trait("Category", "Soak")]
    public async Task Nothing_is_removed_while_one_manager_stands_still_and_another_has_no_processor_left()
    {
        using var world = new ManagersCluster(workers: 3);
        var nodes = world.Nodes;
        ManagersCluster.UntilVoters(nodes[0], 3);
        nodes[0].Cli("network", "create", "--subnet", "10.60.0.0/16", "many");
        var client = world.Populate(nodes[3]);
        world.Populate(nodes[4]);
        var ids = nodes.Skip(3).Select(n => (string)n.CliJson("status")["nodeId"]!).ToList();
        using (var writer = new NodeApi(nodes[0]))
        {
            await Parallel.ForAsync(0, Endpoints, new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) =>
            {
                var id = string.Create(CultureInfo.InvariantCulture, $"kept{i:d6}");
                await writer.WriteAsync(HttpMethod.Post, "/v1/endpoints", new JsonObject { ["id"] = id, ["name"] = id, ["nodeId"] = ids[i % ids.Count], ["network"] = "many" });
            });
        }
        var leader = world.Leader();
        var (stopped, busy) = (nodes[(leader + 1) % 3], nodes[(leader + 2) % 3]);
        var steady = client.AskSteadily("http://web/");
        // The one stands still as a whole; the other shares a quarter of a processor with programs that never rest.
        int[] frozen = [stopped.Pid, ManagersCluster.EtcdPid(stopped)];
        using var spinners = BackgroundProcess.InHost("stress-ng", "--cpu", "4", "--timeout", $"{Stopped.TotalSeconds * 2:0}s");
        using var quota = new CpuQuota($"{world.Cluster.Prefix}busy", 25, busy.Pid, ManagersCluster.EtcdPid(busy));
        foreach (var pid in frozen)
            ManagersCluster.Signal(pid, "STOP");
        var fewest = int.MaxValue;
        var down = new ConcurrentDictionary<string, int>();
        using (var api = new NodeApi(nodes[leader], TimeSpan.FromMinutes(1)))
        {
            for (var watch = Stopwatch.StartNew(); watch.Elapsed < Stopped;)
            {
                fewest = Math.Min(fewest, Kept((await api.SendAsync(HttpMethod.Get, "/v1/endpoints?network=many")).Body!));
                foreach (var node in (await api.SendAsync(HttpMethod.Get, "/v1/nodes")).Body!.AsArray().Where(n => (string)n!["name"]! != stopped.Name && (string)n["state"]! == "down"))
                    down.AddOrUpdate((string)node!["name"]!, 1, (_, count) => count + 1);
                await Task.Delay(Pause);
            }
        }
        foreach (var pid in frozen)
            ManagersCluster.Signal(pid, "CONT");
        spinners.End();
        quota.Dispose();
        ManagersCluster.UntilVoters(nodes[0], 3);
        Wait.Until("all are ready again", () => nodes[0].CliJson("node", "ls").AsArray().All(n => (string)n!["state"]! == "ready"), TimeSpan.FromSeconds(60));
        var result = steady.Finish();
        var left = Kept(nodes[0].CliJson("endpoint", "ls", "--network", "many"));
        output.WriteLine($"one manager stopped for {Stopped.TotalMinutes:0} minutes, one with a quarter of a processor: {left} of {Endpoints} endpoints are left, {fewest} were at every look; nodes called down but the one that stood still: {down.Count}; {result.Ok} requests answered, {result.Failed} failed");
        Assert.Equal(Endpoints, fewest);
        Assert.Equal(Endpoints, left);
        Assert.Empty(down);
        Assert.Equal(0, result.Failed);
    }

    /// <summary>Of the test's endpoints; each node's own address in the network is one too.</summary>
    private static int Kept(JsonNode endpoints) => endpoints.AsArray().Count(endpoint => ((string)endpoint!["name"]!).StartsWith("kept", StringComparison.Ordinal));
}
