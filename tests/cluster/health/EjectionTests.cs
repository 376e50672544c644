using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Health;

/// <summary>A backend that clients fare badly with is out before its checks alone would take it out, whatever path leads to it.</summary>
[Collection(HealthClusterTests.Name)]
public sealed class EjectionTests(HealthCluster health, ITestOutputHelper output)
{
    [Fact]
    public void Unanswered_connections_and_one_failed_check_eject_a_backend() => Eject("auto");

    [Fact]
    [Trait("Category", "Soak")]
    public void Unanswered_connections_through_nft_and_one_failed_check_eject_a_backend() => Eject("nft");

    private void Eject(string balancer)
    {
        using var service = health.Empty("http:/", "--balancer", balancer, "--health-option", "eject=10", "--health-option", "hold=2s");
        for (var i = 0; i < 10; i++)
            service.Add($"{service.Name}-{Cluster.Number(i)}", health.Cluster.Nodes[i % 3]);
        foreach (var backend in service.Backends)
            service.AwaitState(backend.Name, "healthy");
        var bad = service.Backends[4];
        using var clients = health.Clients[2].Start(Tree.Library("paced_client.py"), service.Name, "80", "60").Says("running");
        using var late = new Lateness();
        var since = CheckedService.BlackHole(bad);
        var took = service.AwaitOut(bad, since, TimeSpan.FromSeconds(30));
        output.WriteLine($"{balancer}: out everywhere after {took.TotalSeconds:0.00} s, machine late by {late.Worst.TotalMilliseconds:0} ms");
        Assert.Contains("ejected: clients have trouble", health.Manager.Cli("events", "--since", "1m").Output, StringComparison.Ordinal);
        // A look of 3 s at clients and one check of 5 s; three failures alone take 10 s at least.
        Assert.InRange(took, TimeSpan.Zero, late.Allow(TimeSpan.FromSeconds(9)));
    }
}
