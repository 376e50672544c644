using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>The outage of Nacos: everything is registered again while one peer swallows what it is sent. It must delay and expire nobody else.</summary>
public sealed class BlackholeTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private const int Endpoints = 2000, AtOnce = 8;

    [Fact]
    [Trait("Category", "Soak")]
    public async Task A_blackholed_manager_and_agent_delay_nobody_during_two_thousand_registrations()
    {
        using var world = new ManagersCluster(workers: 3);
        var nodes = world.Nodes;
        ManagersCluster.UntilVoters(nodes[0], 3);
        // Nobody needs an address of a /24 here.
        nodes[0].Cli("network", "create", "--subnet", "10.60.0.0/16", "many");
        var ids = nodes.Skip(3).Select(n => (string)n.CliJson("status")["nodeId"]!).ToList();
        var apis = nodes.Take(2).Select(n => new NodeApi(n)).ToList();
        await EachAsync(i => apis[i % 2].WriteAsync(HttpMethod.Post, "/v1/endpoints", new JsonObject { ["id"] = Id(i), ["name"] = Id(i), ["nodeId"] = ids[i % ids.Count], ["network"] = "many" }));

        using var stop = new CancellationTokenSource();
        var healthy = new[] { nodes[0], nodes[1], nodes[3], nodes[4] };
        var heard = healthy.Select(_ => new ConcurrentDictionary<long, long>()).ToList();
        var followers = healthy.Take(2).Select((node, i) => FollowAsync(node, heard[i], stop.Token)).ToList();
        Wait.Until("both managers are followed", () => heard.Take(2).All(h => !h.IsEmpty));

        // One manager and one agent are cut off, and stay so for the whole of it.
        var heal = new[] { ManagersCluster.CutOff(nodes[2]), ManagersCluster.CutOff(nodes[5]) };
        var acknowledged = new ConcurrentBag<(long Revision, long Sent)>();
        var watch = Stopwatch.StartNew();
        var refused = await EachAsync(async i =>
        {
            var sent = Stopwatch.GetTimestamp();
            var answer = await apis[i % 2].WriteAsync(HttpMethod.Patch, $"/v1/endpoints/{Id(i)}", new JsonObject { ["weight"] = 2 + (i % 90) });
            acknowledged.Add((answer.Revision, sent));
            return answer;
        });
        var took = watch.Elapsed;
        var last = acknowledged.Max(a => a.Revision);
        Wait.Until("both have everything", () => heard.Take(2).All(h => h.Keys.Max() >= last));
        Wait.Until("healthy agents have applied it", () => healthy.All(n => (long)n.CliJson("status")["appliedRevision"]! >= last));
        var lags = heard.Take(2).SelectMany(h => acknowledged.Where(a => h.ContainsKey(a.Revision)).Select(a => Stopwatch.GetElapsedTime(a.Sent, h[a.Revision]).TotalMilliseconds)).Order().ToList();
        var states = nodes[0].CliJson("node", "ls").AsArray().ToDictionary(n => (string)n!["name"]!, n => (string)n!["state"]!);
        var left = nodes[0].CliJson("endpoint", "ls", "--network", "many").AsArray().Count(e => ((string)e!["name"]!).StartsWith("again", StringComparison.Ordinal));
        output.WriteLine($"{Endpoints} registrations again in {took.TotalSeconds:0.0} s, {refused} refused; lag at healthy managers from before the request: p50 {lags[lags.Count / 2]:0} ms, p99 {lags[(int)(lags.Count * 0.99)]:0} ms, max {lags[^1]:0} ms ({lags.Count} samples); states {string.Join(' ', states)}");
        Assert.Equal(0, refused);
        Assert.Equal(Endpoints, left);
        Assert.All(healthy, n => Assert.Equal("ready", states[n.Name]));
        Assert.Equal(Endpoints * 2, lags.Count);
        Assert.True(lags[(int)(lags.Count * 0.99)] < 1000, $"p99 {lags[(int)(lags.Count * 0.99)]:0} ms");
        foreach (var end in heal)
            end();
        ManagersCluster.UntilVoters(nodes[0], 3);
        Wait.Until("all are ready again", () => nodes[0].CliJson("node", "ls").AsArray().All(n => (string)n!["state"]! == "ready"));
        await stop.CancelAsync();
        foreach (var follower in followers)
            await follower.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        apis.ForEach(a => a.Dispose());
    }

    private static string Id(int i) => string.Create(CultureInfo.InvariantCulture, $"again{i:d6}");

    /// <returns>How many were refused.</returns>
    private static async Task<int> EachAsync(Func<int, Task<(HttpStatusCode Status, JsonNode? Body, long Revision)>> write)
    {
        var refused = 0;
        await Parallel.ForAsync(0, Endpoints, new ParallelOptions { MaxDegreeOfParallelism = AtOnce }, async (i, _) =>
        {
            if ((await write(i)).Status is not (HttpStatusCode.OK or HttpStatusCode.Created))
                Interlocked.Increment(ref refused);
        });
        return refused;
    }

    private static async Task FollowAsync(ClusterNode node, ConcurrentDictionary<long, long> heard, CancellationToken cancel)
    {
        using var api = new NodeApi(node, Timeout.InfiniteTimeSpan);
        await foreach (var line in api.LinesAsync("/v1/watch", cancel))
            heard.TryAdd((long)JsonNode.Parse(line)!["revision"]!, Stopwatch.GetTimestamp());
    }
}
