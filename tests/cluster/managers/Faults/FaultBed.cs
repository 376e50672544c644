using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers.Faults;

/// <summary>Three managers, each with its state on a file system of its own that can be filled and frozen, and with a clock that can be set.</summary>
public sealed class FaultBed : IDisposable
{
    private const string FakeTime = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    private static readonly TimeSpan Healed = TimeSpan.FromSeconds(90);

    public FaultBed()
    {
        Cluster = Cluster.Lay(3);
        try
        {
            foreach (var node in Nodes)
            {
                Prepare(node);
                node.Start();
            }
            Nodes[0].Cli("init", "--address", Nodes[0].Address, "--name", "node1");
            foreach (var node in Nodes.Skip(1))
                node.Cli("join", "--token", Nodes[0].Cli("token", "show", "--quiet", "manager").Text, "--address", node.Address, "--name", node.Name, Nodes[0].Address);
            Nodes[0].Cli("network", "create", "--subnet", "10.20.0.0/16", "faults");
            ManagersCluster.UntilVoters(Nodes[0], 3);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public IReadOnlyList<ClusterNode> Nodes => Cluster.Nodes;

    /// <summary>The daemon's clock can be stepped: libfaketime is there. etcd reads the clock past libc and is never stepped.</summary>
    public static bool HasClock => File.Exists(FakeTime);

    /// <summary>What is killed is started when everything else is healed: a daemon that begins on a full or frozen disk is another test's matter.</summary>
    public static bool HealsLast(FaultKind kind) => kind is FaultKind.KillDaemon or FaultKind.KillBoth;

    /// <summary>Begins a fault.</summary>
    /// <returns>What ends it.</returns>
    public Action Strike(Fault fault)
    {
        var index = fault.OnLeader && Leader() is var leader and >= 0 ? leader : fault.Manager;
        var node = Nodes[index];
        switch (fault.Kind)
        {
            case FaultKind.KillEtcd:
                KillEtcd(node);
                return () => { };
            case FaultKind.KillDaemon:
                node.Kill();
                return () => Revive(node);
            case FaultKind.KillBoth:
                KillEtcd(node);
                node.Kill();
                return () => Revive(node);
            case FaultKind.FreezeEtcd:
                return Freeze(Etcd(node));
            case FaultKind.FreezeDaemon:
                return Freeze(Daemon(node));
            case FaultKind.FreezeBoth:
                return Freeze([.. Daemon(node), .. Etcd(node)]);
            case FaultKind.CutOff:
                return Cut(node, "input", "output");
            case FaultKind.CutIn:
                return Cut(node, "input");
            case FaultKind.CutOut:
                return Cut(node, "output");
            case FaultKind.DiskFull:
                return Fill(node);
            case FaultKind.DiskFullAndKill:
                var empty = Fill(node);
                KillEtcd(node);
                return empty;
            case FaultKind.FrozenDisk:
                Commands.Run("fsfreeze", "--freeze", node.State).Succeeded();
                return () => Commands.Run("fsfreeze", "--unfreeze", node.State).Succeeded();
            default:
                Clock(node, fault.Length % 2 == 0 ? "+90s" : "-90s");
                return () => Clock(node, "+0s");
        }
    }

    /// <summary>Until every manager votes and answers, and a write passes at each.</summary>
    public void UntilWell(string said)
    {
        foreach (var node in Nodes)
        {
            Wait.Until($"{said}: all is well at {node.Name}",
                () => node.TryCli("node", "ls", "--managers", "--json") is { Code: 0 } answer && JsonNode.Parse(answer.Output)! is var report && (int)report["reachable"]! == 3 && (bool)report["writable"]!,
                Healed, () => string.Join('\n', Nodes.Select(n => $"{n.TryCli("node", "ls")}\n{string.Join('\n', File.ReadLines(n.LogFile).TakeLast(15))}")));
        }
    }

    public void Dispose()
    {
        foreach (var node in Cluster.Nodes)
            Commands.Run("fsfreeze", "--unfreeze", node.State);
        Cluster.Dispose();
    }

    private static void Prepare(ClusterNode node)
    {
        var image = $"{node.Directory}/disk";
        // etcd takes 64 MB for a piece of its log before it is written to, and the next one with it.
        Commands.Run("truncate", "-s", "400M", image).Succeeded();
        Commands.Run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", image).Succeeded();
        Commands.Run("mount", "-o", "loop", image, node.State).Succeeded();
        if (!HasClock)
            return;
        Clock(node, "+0s");
        // With its own "fix" of waits on the monotonic clock they end at once: .NET's finalizer thread spins, in the daemon and in its keeper.
        File.WriteAllText($"{node.Directory}/environment",
            $"LD_PRELOAD={FakeTime}\nFAKETIME_TIMESTAMP_FILE={node.Directory}/clock\nFAKETIME_CACHE_DURATION=1\nFAKETIME_DONT_FAKE_MONOTONIC=1\nFAKETIME_FORCE_MONOTONIC_FIX=0\nFAKETIME_SKIP_CMDS=setsid,sh,etcd,nsenter,env,kill\n");
    }

    private static void Clock(ClusterNode node, string offset)
    {
        if (HasClock)
            File.WriteAllText($"{node.Directory}/clock", offset + "\n");
    }

    // A blow that falls before the last one is over may find nothing to strike any more.
    private static int[] Daemon(ClusterNode node) => File.Exists($"{node.Directory}/daemon.pid") ? [node.Pid] : [];

    private static int[] Etcd(ClusterNode node) => File.Exists($"{node.State}/etcd.pid") ? [ManagersCluster.EtcdPid(node)] : [];

    private static void KillEtcd(ClusterNode node)
    {
        foreach (var pid in Etcd(node))
            ManagersCluster.Signal(pid, "KILL");
    }

    private static void Revive(ClusterNode node)
    {
        if (Daemon(node).Length == 0)
            node.Start();
    }

    private static Action Freeze(int[] pids)
    {
        foreach (var pid in pids)
            ManagersCluster.Signal(pid, "STOP");
        return () =>
        {
            foreach (var pid in pids)
                ManagersCluster.Signal(pid, "CONT");
        };
    }

    private static Action Cut(ClusterNode node, params string[] hooks)
    {
        var table = $"cut_{Guid.NewGuid():N}";
        var chains = string.Join("; ", hooks.Select(hook => $"add chain inet {table} {hook} {{ type filter hook {hook} priority -300; }}; add rule inet {table} {hook} {(hook == "input" ? "iifname" : "oifname")} \"eth0\" drop"));
        Commands.In(node.Netns, "nft", $"add table inet {table}; {chains}").Succeeded();
        return () => Commands.In(node.Netns, "nft", $"delete table inet {table}").Succeeded();
    }

    private static Action Fill(ClusterNode node)
    {
        var ballast = $"{node.State}/ballast-{Guid.NewGuid():N}";
        // What fallocate leaves in the last blocks goes by writing.
        var free = new DriveInfo(node.State).AvailableFreeSpace;
        Commands.Run("fallocate", "-l", free.ToString(CultureInfo.InvariantCulture), ballast);
        Commands.Run("dd", "if=/dev/zero", $"of={ballast}-2", "bs=4k", "status=none");
        return () =>
        {
            File.Delete(ballast);
            File.Delete(ballast + "-2");
        };
    }

    private int Leader()
    {
        foreach (var node in Nodes)
        {
            using var api = new NodeApi(node, TimeSpan.FromSeconds(2));
            try
            {
                var (_, body, _) = api.SendAsync(HttpMethod.Get, "/v1/managers").GetAwaiter().GetResult();
                var name = (string?)body?["managers"]?.AsArray().FirstOrDefault(m => (bool)m!["leader"]!)?["name"];
                if (name is not null)
                    return Nodes.ToList().FindIndex(n => n.Name == name);
            }
            catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
            {
                // Struck already; the next one knows.
            }
        }
        return -1;
    }
}
