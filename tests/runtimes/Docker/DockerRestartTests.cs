using System.Diagnostics;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>dockerd and our daemon end in every way and order: what lives goes on, what ended is gone, nothing is left over.</summary>
public sealed class DockerRestartTests(DockerCluster cluster, ITestOutputHelper output) : IClassFixture<DockerCluster>
{
    private const int Seed = 20261126;

    // Host and order of each.
    private readonly int[] _rounds = [.. Enumerable.Range(0, 16)];

    public static TheoryData<bool, bool, bool> Orders
    {
        get
        {
            var orders = new TheoryData<bool, bool, bool>();
            foreach (var order in Enumerable.Range(0, 8).Where(order => order is 0 or 3 or 5 or 6))
                orders.Add((order & 1) != 0, (order & 2) != 0, (order & 4) != 0);
            return orders;
        }
    }

    /// <param name="killDocker">Killed rather than stopped.</param>
    /// <param name="killOurs">Killed rather than stopped.</param>
    /// <param name="dockerFirst">Which ends, and starts again, first.</param>
    [Theory]
    [MemberData(nameof(Orders))]
    public void Restarts_leave_nothing_behind(bool killDocker, bool killOurs, bool dockerFirst)
    {
        Prepare();
        Round(cluster.Hosts[1], killDocker, killOurs, dockerFirst);
    }

    /// <summary>Every order of ends and starts on either host, three times over, and between them containers that end in each way Docker has.</summary>
    [Fact]
    [Trait("Category", "Soak")]
    public void Fifty_rounds_of_restarts_leave_nothing_behind()
    {
        var random = new Random(Seed);
        Prepare();
        for (var round = 0; round < 50; round++)
        {
            if (round % 16 == 0)
                random.Shuffle(_rounds);
            var (host, order) = (cluster.Hosts[_rounds[round % 16] % 2], _rounds[round % 16] / 2);
            var watch = Stopwatch.StartNew();
            try
            {
                Round(host, (order & 1) != 0, (order & 2) != 0, (order & 4) != 0);
                EndContainers(host, random);
            }
            catch (Exception e) when (e is TimeoutException or InvalidOperationException)
            {
                throw new InvalidOperationException($"seed {Seed}, round {round}, {host.Node.Name}, order {order}: {e.Message}", e);
            }
            output.WriteLine($"round {round}: {host.Node.Name}, order {order}, {watch.Elapsed.TotalSeconds:F1} s");
        }
    }

    [Fact]
    public void Only_ours_restarts_and_containers_do_not_notice()
    {
        Prepare();
        var host = cluster.Hosts[1];
        var before = cluster.Endpoints("round-net");
        host.Node.Kill();
        // Docker takes one away and starts one while nobody answers its driver: the first goes, the second fails and says why.
        cluster.Hosts[0].Exec("far", "ping", "-c", "2", "-W", "2", host.Address("round-1", "round-net")).Succeeded();
        host.Node.Start();
        Ledger.Balances(cluster, "round-net");
        Assert.Equal(before, cluster.Endpoints("round-net"));
        cluster.Hosts[0].Exec("far", "ping", "-c", "2", "-W", "2", host.Address("round-1", "round-net")).Succeeded();
    }

    private void Prepare()
    {
        if (cluster.Manager.TryCli("network", "inspect", "round-net").Code == 0)
            return;
        cluster.CreateNetwork("round-net");
        cluster.Manager.Cli("service", "create", "--network", "round-net", "--port", "80", "round");
        foreach (var (host, name) in new[] { (cluster.Hosts[0], "far"), (cluster.Hosts[1], "round-1"), (cluster.Hosts[1], "round-2") })
            host.Run("run", "-d", "--restart", "always", "--name", name, "--network", "round-net", "--label", "overlaynet.service=round", Images.Busybox, "sleep", "1d");
        Ledger.Balances(cluster, "round-net");
    }

    /// <summary>A host's containers are stopped and started, restarted or killed by Docker, one after the other in any order.</summary>
    private void EndContainers(DockerHost host, Random random)
    {
        foreach (var name in host == cluster.Hosts[1] ? new[] { "round-1", "round-2" } : ["far"])
        {
            string[][] commands = random.Next(3) switch
            {
                0 => [["stop", "-t", "0", name], ["start", name]],
                1 => [["restart", "-t", "0", name]],
                _ => [["kill", name], ["start", name]],
            };
            foreach (var command in commands)
                host.Run(command);
        }
        Ledger.Balances(cluster, "round-net");
    }

    private void Round(DockerHost host, bool killDocker, bool killOurs, bool dockerFirst)
    {
        Action endDocker = killDocker ? host.Kill : host.Stop;
        Action endOurs = killOurs ? host.Node.Kill : host.Node.Stop;
        foreach (var end in dockerFirst ? [endDocker, endOurs] : new[] { endOurs, endDocker })
            end();
        // dockerd waits for its driver for some seconds when it starts first.
        var starts = dockerFirst ? [host.Start, host.Node.Start] : new Action[] { host.Node.Start, host.Start };
        var first = Task.Run(starts[0]);
        if (!dockerFirst)
            first.GetAwaiter().GetResult();
        starts[1]();
        first.GetAwaiter().GetResult();
        Wait.Until("containers run again", () => cluster.Hosts.Sum(each => each.TryRun("ps", "-q").Lines.Count) >= 3, TimeSpan.FromSeconds(90), () => host.LogTail());
        Ledger.Balances(cluster, "round-net");
        Wait.Until("all members are back", () => cluster.Manager.CliJson("service", "backends", "--network", "round-net", "round").AsArray().Count == 3);
        var other = cluster.Hosts.First(each => each != host);
        var (from, to) = host == cluster.Hosts[1] ? ("far", "round-1") : ("round-1", "far");
        Wait.Until("the other host resolves the new address", () => other.Exec(from, "nslookup", to).Output.Contains(host.Address(to, "round-net"), StringComparison.Ordinal));
        other.Exec(from, "ping", "-c", "2", "-W", "2", host.Address(to, "round-net")).Succeeded();
    }
}

/// <summary>The same with dockerd's live-restore: containers outlive it.</summary>
public sealed class DockerLiveRestoreTests
{
    [Fact]
    public void Containers_outlive_a_killed_dockerd_with_their_endpoints()
    {
        using var cluster = DockerCluster.With("--live-restore");
        cluster.CreateNetwork("live-net");
        var (one, two) = (cluster.Hosts[0], cluster.Hosts[1]);
        one.Run("run", "-d", "--name", "near", "--network", "live-net", Images.Busybox, "sleep", "1d");
        two.Run("run", "-d", "--name", "live", "--network", "live-net", Images.Busybox, "sleep", "1d");
        Ledger.Balances(cluster, "live-net");
        var before = cluster.Endpoints("live-net");
        two.Kill();
        two.Node.Kill();
        var address = before.First(endpoint => endpoint.Name == "live").Address;
        one.Exec("near", "ping", "-c", "2", "-W", "2", address).Succeeded();
        two.Node.Start();
        two.Start();
        Ledger.Balances(cluster, "live-net");
        Assert.Equal(before, cluster.Endpoints("live-net"));
        one.Exec("near", "ping", "-c", "2", "-W", "2", address).Succeeded();
        two.Run("rm", "-f", "live");
        Ledger.Balances(cluster, "live-net");
    }
}
