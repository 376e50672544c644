using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Several managers: joining, losing one, losing most, coming back. Real etcd, real traffic.</summary>
public sealed class ManagerTests
{
    // The figure, and what a machine shared with other test runs may add.
    private static readonly TimeSpan ElectionGap = TimeSpan.FromSeconds(2.5), Busy = TimeSpan.FromSeconds(2.5);

    [Fact]
    public void Managers_join_while_everything_goes_on_and_any_one_of_them_may_die()
    {
        using var world = new ManagersCluster(workers: 1, managers: false);
        var nodes = world.Nodes;
        var client = world.Populate(nodes[3]);
        world.Cluster.AddBackend("web2", nodes[3], ManagersCluster.Network, "web");
        var far = client.AskSteadily("http://web/");

        // The first further manager: SQLite becomes etcd under way. Writes wait, none fails.
        using (var writer = new SteadyWriter("convert", nodes[0]))
        {
            world.Join(nodes[1], "worker");
            nodes[0].Cli("node", "promote", "node2");
            ManagersCluster.UntilVoters(nodes[0], 2);
            world.Join(nodes[2], "manager");
            ManagersCluster.UntilVoters(nodes[0], 3);
            writer.Stop();
            Assert.Empty(writer.Refusals);
            Assert.Equal(writer.Acknowledged.Order(StringComparer.Ordinal), Networks(nodes[2]).Where(n => n.StartsWith("convert", StringComparison.Ordinal)));
        }
        Assert.Equal("etcd", (string)ManagersCluster.Managers(nodes[1])["store"]!);
        Assert.Equal(1, (int)ManagersCluster.Managers(nodes[1])["canLose"]!);
        Assert.False(File.Exists($"{nodes[0].State}/registry.db"));

        // A killed daemon leaves its etcd running, and the next daemon finds it.
        var etcd = ManagersCluster.EtcdPid(nodes[1]);
        nodes[1].Kill();
        nodes[1].Start();
        Assert.Equal(etcd, ManagersCluster.EtcdPid(nodes[1]));
        ManagersCluster.UntilVoters(nodes[1], 3);

        foreach (var victim in new[] { world.Leader(), (world.Leader() + 1) % 3 })
        {
            var others = nodes.Take(3).Where(n => n != nodes[victim]).ToList();
            using var writer = new SteadyWriter($"kill{Cluster.Number(victim)}-", others);
            Wait.Until("some writes", () => writer.Acknowledged.Count > 10);
            ManagersCluster.KillManager(nodes[victim]);
            var before = writer.Acknowledged.Count;
            Wait.Until("writes go on", () => writer.Acknowledged.Count > before + 20, seen: () => string.Join('\n', writer.Refusals));
            writer.Stop();
            Assert.True(writer.LongestGap <= ElectionGap + Busy, $"no write for {writer.LongestGap.TotalSeconds:0.00} s after manager {victim + 1} was killed");
            Assert.Empty(writer.Refusals);
            Assert.All(writer.Acknowledged, name => Assert.Contains(name, Networks(others[0])));
            nodes[victim].Start();
            // It takes writes only once it has opened the store itself.
            ManagersCluster.UntilVoters(nodes[victim], 3);
            ManagersCluster.UntilVoters(others[0], 3);
        }

        // Down to two by a command, and back.
        nodes[0].Cli("node", "demote", "node3");
        ManagersCluster.UntilVoters(nodes[0], 2);
        Wait.Until("node3 is a worker", () => (string?)nodes[2].CliJson("status")["role"] == "worker");
        Wait.Until("its etcd is gone", () => !File.Exists($"{nodes[2].State}/store.json") && !Directory.EnumerateDirectories(nodes[2].State, "etcd-*").Any());
        Assert.Equal(1, (int)ManagersCluster.Managers(nodes[0])["canLose"]! + 1);

        var fared = far.Finish();
        Assert.True(fared.Failed == 0, string.Join('\n', fared.Errors));
        Assert.Null(fared.HeldError);
    }

    [Fact]
    public async Task Without_a_majority_everything_but_writing_goes_on_and_one_survivor_recovers_it()
    {
        using var world = new ManagersCluster(workers: 1);
        var nodes = world.Nodes;
        var clients = new[] { world.Populate(nodes[0]), world.Populate(nodes[3]) };
        ManagersCluster.UntilVoters(nodes[0], 3);
        Wait.Until("the survivor has everything", () => (long)nodes[0].CliJson("status")["appliedRevision"]! >= (long)nodes[1].CliJson("status")["registryRevision"]!);
        var before = Networks(nodes[0]);
        var steady = clients.Select(c => c.AskSteadily("http://web/")).ToList();

        ManagersCluster.KillManager(nodes[1]);
        ManagersCluster.KillManager(nodes[2]);
        using var api = new NodeApi(nodes[0]);
        Wait.Until("reads say that they are stale", () => api.SendAsync(HttpMethod.Get, "/v1/networks").GetAwaiter().GetResult() is { Status: HttpStatusCode.OK, Read: "stale" });
        var (status, error, _) = await api.CreateNetworkAsync("refused", "10.99.0.0/24");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Equal("no-store", (string)error!["code"]!);
        var refused = nodes[0].TryCli("network", "create", "--subnet", "10.99.0.0/24", "refused");
        Assert.Equal(1, refused.Code);
        Assert.Contains("remedy:", refused.Error, StringComparison.Ordinal);
        Assert.Contains("stale", nodes[0].TryCli("network", "ls").Succeeded().Error, StringComparison.Ordinal);
        Assert.Contains("writes are refused", nodes[0].Cli("node", "ls").Output, StringComparison.Ordinal);

        // On the survivor itself everything went on; its own daemon is taken down next, for longer than a resolver waits.
        var survivor = steady[0].Finish();
        Assert.True(survivor.Failed == 0, string.Join('\n', survivor.Errors));

        // No manager at all, and a worker's daemon starts anew: it serves what it has on disk.
        ManagersCluster.KillManager(nodes[0]);
        nodes[3].Kill();
        nodes[3].Start();
        Assert.Equal(20, clients[1].Ask("http://web/", 20).Count);
        Assert.Equal("stale", (await new NodeApi(nodes[3]).SendAsync(HttpMethod.Get, "/v1/services")).Read);

        // The survivor is back, alone: its etcd serves nobody, and what it had is all that is left.
        nodes[0].Start();
        Assert.Equal(20, clients[0].Ask("http://web/", 20).Count);
        var unsaid = nodes[0].TryCli("recover");
        Assert.Equal(2, unsaid.Code);
        Assert.Contains("--destroyed node2 --destroyed node3", unsaid.Error, StringComparison.Ordinal);
        var watch = System.Diagnostics.Stopwatch.StartNew();
        var recovered = nodes[0].Cli("recover", "--destroyed", "node2", "node3");
        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(15) + Busy + Busy, $"recover took {watch.Elapsed.TotalSeconds:0.0} s:\n{recovered.Output}");
        Assert.Equal(before, Networks(nodes[0]));
        nodes[0].Cli("network", "create", "--subnet", "10.98.0.0/24", "after");
        // Both nodes that live have said what they have; then addresses are given out again.
        Wait.Until("addresses are given out", () => nodes[0].TryCli("service", "create", "--network", "after", "late").Code == 0);
        Wait.Until("the worker follows", () => nodes[3].CliJson("service", "ls").AsArray().Any(s => (string)s!["name"]! == "late"));
        var worker = steady[1].Finish();
        Assert.True(worker.Failed == 0, string.Join('\n', worker.Errors));

        // A machine that was only thought destroyed comes back with its old data: a stranger to the new cluster, which it joins.
        nodes[1].Start();
        ManagersCluster.UntilVoters(nodes[0], 2);
        Wait.Until("it has the recovered registry", () => Networks(nodes[1]).Contains("after"));
        var alive = nodes[0].TryCli("recover", "--destroyed", "node3");
        Assert.Equal(2, alive.Code);
        Assert.Contains("majority", alive.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_backup_restores_what_was_there_and_what_lives_comes_back()
    {
        using var world = new ManagersCluster(workers: 0, managers: false);
        var node = world.Nodes[0];
        var early = world.Populate(node);
        var file = $"{world.Cluster.Directory}/registry.backup";
        Assert.Contains("restored it into a store that was thrown away", node.Cli("backup", "--output", file).Output, StringComparison.Ordinal);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        var late = world.Cluster.AddBackend("late", node, ManagersCluster.Network, "web");
        var address = late.Address;

        Assert.Equal(2, node.TryCli("restore", file).Code);
        var incarnation = (long)node.CliJson("backup")["incarnation"]!;
        var report = node.CliJson("restore", "--force", file);

        Assert.True((long)report["incarnation"]! > incarnation);
        // What came after the backup and lives has its record and its address again, before anybody else could have it.
        Wait.Until("the late endpoint is back", () => node.CliJson("endpoint", "ls").AsArray().Any(e => (string)e!["name"]! == "late" && (string)e["address4"]! == address));
        Assert.Equal(20, early.Ask("http://web/", 20).Count);
        var next = Wait.Until("addresses are given out", () => node.TryCli("service", "create", "--network", ManagersCluster.Network, "next").Code == 0);
        Assert.NotEqual(address, (string)node.CliJson("service", "inspect", "next")[0]!["vip4"]!);

        // The disk is lost: the backup makes an empty machine of that name the manager again.
        var id = (string)node.CliJson("status")["nodeId"]!;
        node.Kill();
        Directory.Delete(node.State, recursive: true);
        Directory.CreateDirectory(node.State);
        node.Start();
        node.Cli("restore", file);
        Assert.Equal(id, (string)node.CliJson("status")["nodeId"]!);
        Assert.Contains(ManagersCluster.Network, Networks(node));

        File.AppendAllText(file, "x");
        var damaged = node.TryCli("restore", "--force", file);
        Assert.Equal(2, damaged.Code);
    }

    [Fact]
    public void A_manager_rebuilt_with_an_empty_disk_takes_its_old_place()
    {
        using var world = new ManagersCluster(workers: 0);
        var nodes = world.Nodes;
        ManagersCluster.UntilVoters(nodes[0], 3);
        ManagersCluster.KillManager(nodes[2]);
        Directory.Delete(nodes[2].State, recursive: true);
        Directory.CreateDirectory(nodes[2].State);
        nodes[2].Start();
        Wait.Until("node3 may join again", () => nodes[2].TryCli("join", "--token", nodes[0].Cli("token", "show", "--quiet", "manager").Text, "--address", nodes[2].Address, "--name", "node3", nodes[0].Address).Code == 0, TimeSpan.FromSeconds(60));
        ManagersCluster.UntilVoters(nodes[0], 3);
        Assert.Equal(3, nodes[0].CliJson("node", "ls").AsArray().Count);

        // One that will not come back is removed for good, its place in the store with it.
        ManagersCluster.KillManager(nodes[2]);
        nodes[0].Cli("node", "rm", "--force", "node3");
        ManagersCluster.UntilVoters(nodes[0], 2);
        Assert.Equal(2, nodes[0].CliJson("node", "ls").AsArray().Count);
    }

    private static List<string> Networks(ClusterNode node) =>
        [.. node.CliJson("network", "ls").AsArray().Select(n => (string)n!["name"]!).Order(StringComparer.Ordinal)];
}
