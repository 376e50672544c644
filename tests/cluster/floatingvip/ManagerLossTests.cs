using System.Globalization;
using System.Net;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.Managers;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>A fenced VIP of the default profile over three managers with real etcd: the death of any one of them, the store's leader included, is nothing to it.</summary>
public sealed class ManagerLossTests(ITestOutputHelper output)
{
    private const string Vip4 = "192.0.2.100", Vip6 = "2001:db8:2::100";

    [Fact]
    public void One_manager_of_three_dies_and_the_vip_is_not_dropped()
    {
        using var world = new ManagersCluster(workers: 2);
        ManagersCluster.UntilVoters(world.Nodes[0], 3);
        world.Nodes[0].Cli("vip", "create", "--address", $"{Vip4}/24", "--address", $"{Vip6}/64", "--vrid", "51", "--interface", "eth0",
            "--priority", "node4=150", "--priority", "node5=100", "--no-preempt", "--profile", "default", "front");
        using var judge = new UnderlayJudge(
            world.Cluster.Lan, world.Cluster.Outside, IPAddress.Parse(Vip4), IPAddress.Parse("192.0.2.254"), IPAddress.Parse(Vip6), IPAddress.Parse("2001:db8:2::fe"));
        Wait.Until("the VIP is held", () => judge.Owner() is not null, TimeSpan.FromSeconds(60));
        var owner = judge.Owner(1)!;
        var holder = world.Nodes[owner == "n4" ? 3 : 4];
        var epoch = Epoch(holder);
        var begin = UnderlayJudge.Now;

        var leader = world.Leader();
        foreach (var victim in new[] { leader, (leader + 1) % 3 })
        {
            ManagersCluster.KillManager(world.Nodes[victim]);
            var killed = UnderlayJudge.Now;
            // Longer than a lease lasts: it has been renewed without the dead one, or the VIP is gone.
            Wait.Until("a lease's time and more without that manager", () => UnderlayJudge.Now > killed + 8);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"manager {victim + 1}{(victim == leader ? " (the leader)" : "")} killed: longest time between two of the owner's frames {judge.LongestGapMs(killed):0} ms"));
            world.Nodes[victim].Start();
            ManagersCluster.UntilVoters(world.Nodes[(victim + 1) % 3], 3);
        }

        var reigns = UnderlayJudge.Reigns(judge.Since(begin));
        Assert.Equal(owner, Assert.Single(reigns).Port);
        // The same epoch: it was neither given up nor taken anew. A VIP that is down for a moment would come back with the next.
        Assert.Equal(epoch, Epoch(holder));
        Assert.DoesNotContain("Holder -> ", holder.Log, StringComparison.Ordinal);
    }

    private static string Epoch(ClusterNode node) => node.CliJson("vip", "explain", "front")[0]!["epoch"]!.ToString();
}
