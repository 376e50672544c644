using System.Diagnostics;
using System.Globalization;
using System.Net;
using OverlayNet.ClusterTests.FloatingVip;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.Bench.Failover;

/// <summary>
/// Nodes 2 (priority 150) and 3 (100) with a virtual router between them. A graceful hand-over is a drained node, or SIGTERM for
/// keepalived; a crash is a host that is gone: its switch port loses everything, both ways, without its carrier going down.
/// </summary>
internal sealed class NodePair : IDisposable
{
    private const string Vip = "192.0.2.150";
    private readonly Cluster _cluster;
    private readonly UnderlayJudge _judge;
    private readonly string _files = Directory.CreateTempSubdirectory("overlaynet-failover-").FullName;
    private readonly Process?[] _keepalived = new Process?[4];
    private int _vips;

    public NodePair(Cluster cluster)
    {
        _cluster = cluster;
        _judge = new UnderlayJudge(cluster.Lan, cluster.Outside, IPAddress.Parse(Vip), IPAddress.Parse("192.0.2.254"));
    }

    public (double Graceful, double Crash) WithDaemons(int advert, params string[] options)
    {
        var manager = _cluster.Nodes[0];
        // A VRID of its own each time: nothing of the round before can be heard.
        var (name, vrid) = ($"v{_vips}", $"{1 + _vips++ % 200}");
        string[] create = ["vip", "create", "--address", $"{Vip}/24", "--vrid", vrid, "--interface", "eth0", "--priority", "node2=150", "--priority", "node3=100", "--advert", advert.ToString(CultureInfo.InvariantCulture), .. options, name];
        Wait.Until("the address is free again", () => manager.TryCli(create).Code == 0);
        try
        {
            AwaitOwner("n2");
            manager.Cli("node", "drain", "node2");
            var graceful = Gap();
            manager.Cli("node", "activate", "node2");
            AwaitOwner("n2");
            return (graceful, Crash());
        }
        finally
        {
            manager.Cli("vip", "rm", name);
            AwaitNobody();
        }
    }

    public (double Graceful, double Crash) WithKeepalived(int advert)
    {
        StartKeepalived(2, 150, advert);
        StartKeepalived(3, 100, advert);
        try
        {
            AwaitOwner("n2");
            StopKeepalived(2);
            var graceful = Gap();
            StartKeepalived(2, 150, advert);
            AwaitOwner("n2");
            return (graceful, Crash());
        }
        finally
        {
            StopKeepalived(2);
            StopKeepalived(3);
            AwaitNobody();
        }
    }

    public void Dispose()
    {
        StopKeepalived(2);
        StopKeepalived(3);
        _judge.Dispose();
        Directory.Delete(_files, recursive: true);
    }

    private double Crash()
    {
        Commands.In(_cluster.Lan, "nft", "add table netdev cut; add chain netdev cut in { type filter hook ingress device n2 priority 0; policy drop; }; add chain netdev cut out { type filter hook egress device n2 priority 0; policy drop; }").Succeeded();
        var cut = UnderlayJudge.Now;
        try
        {
            Wait.Until("node 3 took over", () => _judge.Since(cut).Any(seen => seen.Port == "n3"));
            return (_judge.Since(cut).First(seen => seen.Port == "n3").At - cut) * 1000;
        }
        finally
        {
            Commands.In(_cluster.Lan, "nft", "delete table netdev cut").Succeeded();
        }
    }

    // From the old owner's last frame to the new one's first.
    private double Gap()
    {
        var since = UnderlayJudge.Now - 20;
        Wait.Until("node 3 took over", () => _judge.Since(since).LastOrDefault() is { Port: "n3" });
        var seen = _judge.Since(since);
        var last = seen.ToList().FindLastIndex(s => s.Port == "n2");
        return (seen[last + 1].At - seen[last].At) * 1000;
    }

    private void AwaitOwner(string port) => Wait.Until($"{port} alone answers", () =>
        _judge.Owner() == port && _judge.Since(UnderlayJudge.Now - 0.6) is { Count: > 20 } seen && seen.All(s => s.Port == port), TimeSpan.FromSeconds(60));

    private void AwaitNobody() => Wait.Until("nobody answers", () => _judge.Owner(0.5) is null, TimeSpan.FromSeconds(60));

    private void StartKeepalived(int node, int priority, int advert)
    {
        var config = $"{_files}/{node}.conf";
        File.WriteAllText(config, string.Create(CultureInfo.InvariantCulture, $$"""
            global_defs {
              max_auto_priority 0
            }
            vrrp_instance V {
              state BACKUP
              interface eth0
              version 3
              virtual_router_id 250
              priority {{priority}}
              advert_int {{advert / 1000.0}}
              virtual_ipaddress {
                {{Vip}}/24 dev eth0
              }
            }

            """));
        _keepalived[node] = Process.Start("nsenter", [$"--net=/run/netns/{_cluster.Nodes[node - 1].Netns}", "--", "keepalived", "--dont-fork", "--no-syslog", "--dont-respawn", "--vrrp", "--use-file", config, "--pid", $"{config}.pid", "--vrrp_pid", $"{config}.vrrp"]);
    }

    private void StopKeepalived(int node)
    {
        if (_keepalived[node] is not { } process)
            return;
        Commands.Run("kill", "-TERM", process.Id.ToString(CultureInfo.InvariantCulture));
        if (!process.WaitForExit(10_000))
            process.Kill(entireProcessTree: true);
        process.Dispose();
        _keepalived[node] = null;
    }
}
