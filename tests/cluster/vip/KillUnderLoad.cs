using System.Net;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>
/// Daemons killed with SIGKILL and started again, one after the other, while 10,000 connections a minute go through a
/// VIP: not one may fail, whichever writer carries it. Runs on the host for nft and ebpf and in the guest for ipvs.
/// </summary>
public static class KillUnderLoad
{
    private const string Network = "app", Service = "web";
    private const int Port = 80;

    /// <param name="balancer">The writer the service asks for; it must be the first of its path.</param>
    /// <param name="duration">At least so long; every daemon is killed at least once.</param>
    /// <param name="pause">Between a daemon's start and the next one's end.</param>
    public static void Run(string balancer, TimeSpan duration, TimeSpan pause, ITestOutputHelper output)
    {
        using var cluster = Cluster.Start(2);
        var manager = cluster.Nodes[0];
        manager.Cli("network", "create", "--subnet", "10.10.0.0/24", Network);
        manager.Cli("service", "create", "--network", Network, "--port", "80", "--balancer", balancer, Service);
        var backends = cluster.Nodes.Select(node => cluster.Attach($"web{node.Index}", node, Network, Service)).ToList();
        var servers = backends.Select(backend => new OctetServer(backend.Netns, IPAddress.Parse(backend.Address!), Port)).ToList();
        // Its own daemon, the manager, has the most to lose.
        var client = cluster.Attach("client", manager, Network);
        foreach (var node in cluster.Nodes)
        {
            Wait.Until($"{node.Name} has both backends", () => node.CliJson("service", "backends", Service).AsArray().Count(backend => (double)backend!["share"]! > 0) == 2);
            Settle(node);
        }
        var vip = IPAddress.Parse((string)manager.CliJson("service", "inspect", Service)[0]!["vip4"]!);
        var path = manager.CliJson("status")["services"]!.AsArray().Single(entry => (string)entry!["name"]! == Service)!;
        Assert.Equal(balancer, ((string)path["balancer"]!).Split('+')[0]);

        using var load = new ConnectionLoad(client.Netns, new IPEndPoint(vip, Port));
        var kills = 0;
        Wait.Until("load runs", () => load.Begun > 100);
        while (load.Elapsed < duration || kills < cluster.Nodes.Count)
        {
            var node = cluster.Nodes[kills++ % cluster.Nodes.Count];
            node.Kill();
            Thread.Sleep(pause);
            node.Start();
            Settle(node);
            // A reconciliation of the successor's own, not only its first.
            Thread.Sleep(pause);
        }
        var result = load.Finish();
        output.WriteLine($"{balancer}: {kills} kills; {result}");
        Assert.True(result.Errors.Count == 0, result.ToString());
        Assert.True(result.PerMinute > ConnectionLoad.PerMinute * 0.9, result.ToString());
        Assert.All(servers, server => Assert.True(server.Accepted > result.Succeeded / 4, $"{server.Accepted} of {result.Succeeded} connections came to one of two servers"));
        foreach (var server in servers)
            server.Dispose();
    }

    private static void Settle(ClusterNode node) => Wait.Until($"{node.Name} is up to date", () => node.CliJson("status") is var status
        && (bool)status["managersReachable"]!
        && (long)status["appliedRevision"]! == (long)status["registryRevision"]!, TimeSpan.FromSeconds(60));
}
