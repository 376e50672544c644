using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>What one node's daemon costs while nothing happens.</summary>
public sealed class FootprintTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private const int Services = 100;
    private static readonly TimeSpan Settling = TimeSpan.FromSeconds(30), Measured = TimeSpan.FromSeconds(30);

    [Fact]
    [Trait("Category", "Soak")]
    public async Task Footprint_of_an_agent_with_a_hundred_services()
    {
        using var cluster = Cluster.Start(2);
        var (manager, worker) = (cluster.Nodes[0], cluster.Nodes[1]);
        manager.Cli("network", "create", "--subnet", "10.20.0.0/22", "app");
        using var api = new NodeApi(manager);
        var client = cluster.Attach("client", worker, "app");
        for (var i = 0; i < Services; i++)
        {
            var name = string.Create(CultureInfo.InvariantCulture, $"svc{i:d3}");
            Assert.Equal(HttpStatusCode.Created, (await api.SendAsync(HttpMethod.Post, "/v1/services", new JsonObject { ["name"] = name, ["network"] = "app", ["ports"] = new JsonArray("80") })).Status);
        }
        manager.Cli("service", "create", "--network", "app", "--port", "80", "web");
        cluster.AddBackend("web1", manager, "app", "web");
        Assert.Equal(5, client.Ask("http://web/", 5).Count);

        // What it costs when it has just begun, and when it has been idle for a while.
        worker.Stop();
        var watch = Stopwatch.StartNew();
        worker.Start();
        var ready = watch.Elapsed;
        Wait.Until("it has applied the registry", () => (long)worker.CliJson("status")["appliedRevision"]! >= (long)manager.CliJson("status")["registryRevision"]!);
        await Task.Delay(Settling);
        var cpu = RegistryScale.Cpu(worker.Pid);
        var idle = Stopwatch.StartNew();
        await Task.Delay(Measured);
        var used = (RegistryScale.Cpu(worker.Pid) - cpu) / idle.Elapsed.TotalSeconds;
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"one agent, {Services} services of one network: ready {ready.TotalSeconds:0.00} s after its start, RSS {RegistryScale.Rss(worker.Pid)} MB, idle {used * 100:0.0} % of a processor"));
        output.WriteLine($"machine: {Environment.ProcessorCount} processors, load {File.ReadAllText("/proc/loadavg").Split(' ')[0]}");
        Assert.Equal(5, client.Ask("http://web/", 5).Count);
    }
}
