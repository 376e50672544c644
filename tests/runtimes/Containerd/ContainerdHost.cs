using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Cni;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Containerd;

/// <summary>
/// containerd on one node. ctr reads its networks and plugins from fixed places, so that it runs in mounts of its own where
/// those are the test's.
/// </summary>
public sealed class ContainerdHost : IDisposable
{
    private readonly string _directory;
    private readonly BackgroundProcess _daemon;

    public ContainerdHost(ClusterNode node, string network)
    {
        Programs.Require("containerd", "containerd");
        _directory = Directory.CreateTempSubdirectory($"overlaynet-test-containerd-{node.Name}-").FullName;
        foreach (var name in new[] { "root", "state", "networks" })
            Directory.CreateDirectory(Path.Combine(_directory, name));
        foreach (var fixedPlace in new[] { "/etc/cni/net.d", "/opt/cni/bin" })
            Directory.CreateDirectory(fixedPlace);
        File.WriteAllText(Path.Combine(_directory, "networks", $"{network}.conflist"), node.Cli("cni", "config", "--network", network).Output);
        File.WriteAllText(Path.Combine(_directory, "config.toml"),
            $"version = 2\nroot = \"{_directory}/root\"\nstate = \"{_directory}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{_directory}/containerd.sock\"\n");
        var script = $"mount --bind {_directory}/networks /etc/cni/net.d && mount --bind {CniPlugin.Directory} /opt/cni/bin && exec nsenter --net=/run/netns/{node.Netns} containerd -c {_directory}/config.toml";
        // Not 'ip netns exec': it mounts a /sys of its own, without cgroups.
        _daemon = BackgroundProcess.InHost("unshare", "--mount", "--propagation", "slave", "sh", "-c", script).Says("successfully booted");
    }

    public CommandResult Ctr(params string[] arguments) =>
        Commands.Run("nsenter", ["--target", Cluster.Number(_daemon.Pid), "--mount", "--net", "ctr", "--address", $"{_directory}/containerd.sock", .. arguments]);

    public void Dispose()
    {
        foreach (var task in Ctr("task", "ls", "-q").Lines)
        {
            Ctr("task", "kill", "--signal", "KILL", task);
            Wait.Until($"task {task} is gone", () => Ctr("task", "rm", "--force", task).Code == 0 || !Ctr("task", "ls", "-q").Lines.Contains(task));
        }
        _daemon.End("TERM");
        _daemon.Dispose();
        Wait.Until("containerd's shims have ended", () => Processes.Naming(_directory).Count == 0);
        Directory.Delete(_directory, recursive: true);
    }
}
