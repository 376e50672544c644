using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Health;

/// <summary>Many endpoints come at once while a node is dead: the others follow without delay.</summary>
public sealed class RegistrationTests(ITestOutputHelper output)
{
    [Fact]
    [Trait("Category", "Soak")]
    public async Task Six_hundred_registrations_at_once_reach_a_healthy_node_while_another_is_frozen()
    {
        const int count = 600, writers = 8;
        using var cluster = Cluster.Start();
        var (manager, peer, frozen) = (cluster.Nodes[0], cluster.Nodes[1], cluster.Nodes[2]);
        manager.Cli("network", "create", "--subnet", "10.20.0.0/20", "app");
        manager.Cli("service", "create", "--network", "app", "--port", "80", "web");
        cluster.Attach("client", peer, "app");
        using var api = new NodeApi(manager);
        using var seen = new NodeApi(peer);
        var id = (string)manager.CliJson("node", "ls").AsArray().Single(node => (string?)node!["name"] == frozen.Name)!["id"]!;
        Commands.Run("kill", "-STOP", Cluster.Number(frozen.Pid)).Succeeded();
        try
        {
            using var late = new Lateness();
            var written = new ConcurrentBag<(long Revision, long At)>();
            var applied = new List<(long Revision, long At)>();
            using var done = new CancellationTokenSource();
            var watcher = Task.Run(() =>
            {
                for (var last = 0L; !done.IsCancellationRequested || last < written.Max(one => one.Revision); Thread.Sleep(5))
                {
                    if (seen.AppliedRevision() is var revision && revision > last)
                        applied.Add((last = revision, Stopwatch.GetTimestamp()));
                }
            });
            var begun = Stopwatch.GetTimestamp();
            await Parallel.ForEachAsync(Enumerable.Range(0, count), new ParallelOptions { MaxDegreeOfParallelism = writers }, async (i, _) =>
            {
                var body = new JsonObject
                {
                    ["id"] = $"many{Cluster.Number(i)}",
                    ["name"] = $"many{Cluster.Number(i)}",
                    ["nodeId"] = id,
                    ["network"] = "app",
                    ["service"] = "web",
                    ["netns"] = $"/run/netns/none{Cluster.Number(i)}",
                };
                written.Add((await api.PostAsync("/v1/endpoints", body), Stopwatch.GetTimestamp()));
            });
            var took = Stopwatch.GetElapsedTime(begun);
            await done.CancelAsync();
            await watcher.WaitAsync(TimeSpan.FromSeconds(30));
            var lags = written.Select(one => Stopwatch.GetElapsedTime(one.At, applied.First(at => at.Revision >= one.Revision).At)).Select(lag => lag < TimeSpan.Zero ? TimeSpan.Zero : lag).Order().ToList();
            output.WriteLine($"{count} registered within {took.TotalSeconds:0.0} s; lag of a healthy node: median {lags[count / 2].TotalMilliseconds:0} ms, p99 {lags[count * 99 / 100].TotalMilliseconds:0} ms, at most {lags[^1].TotalMilliseconds:0} ms; machine late by {late.Worst.TotalMilliseconds:0} ms");
            Assert.InRange(lags[count * 99 / 100], TimeSpan.Zero, late.Allow(TimeSpan.FromSeconds(1)));
        }
        finally
        {
            Commands.Run("kill", "-CONT", Cluster.Number(frozen.Pid));
        }
    }
}
