using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Docker;

namespace OverlayNet.RuntimeTests.Package;

/// <summary>The image of the Dockerfile, built on a Debian of debootstrap's and run as its head says.</summary>
public sealed class DockerfileTests
{
    private const string Base = "overlaynet-test-base", Image = "overlaynet-test";

    // linux/capability.h; the ones of the Dockerfile's head.
    private static readonly (string Name, int Bit)[] Capabilities =
    [
        ("NET_ADMIN", 12), ("NET_RAW", 13), ("NET_BIND_SERVICE", 10), ("SYS_ADMIN", 21), ("SYS_CHROOT", 18), ("SYS_PTRACE", 19), ("SYS_RESOURCE", 24), ("SYS_NICE", 23),
        ("IPC_LOCK", 14), ("DAC_OVERRIDE", 1), ("DAC_READ_SEARCH", 2),
    ];

    /// <summary>Those of them that this machine has itself: no others can be given.</summary>
    private static IEnumerable<string> Given()
    {
        var bounding = Convert.ToUInt64(File.ReadLines("/proc/self/status").First(line => line.StartsWith("CapBnd:", StringComparison.Ordinal))[7..].Trim(), 16);
        return Capabilities.Where(capability => (bounding >> capability.Bit & 1) != 0).Select(capability => capability.Name);
    }

    [Fact]
    public void The_image_builds_without_a_network_and_serves_a_host()
    {
        using var packages = new BuiltPackages(buildNewer: false);
        using var cluster = Cluster.Lay(1);
        var node = cluster.Nodes[0];
        using var docker = new DockerHost(node);
        docker.Start();
        var context = Path.Combine(docker.Directory, "context");
        Directory.CreateDirectory(Path.Combine(context, "out"));
        File.Copy(Path.Combine(Tree.Root, "Dockerfile"), Path.Combine(context, "Dockerfile"));
        File.Copy(packages.Older, Path.Combine(context, "out", Path.GetFileName(packages.Older)));
        var root = Commands.Run(TimeSpan.FromMinutes(10), "bash", Path.Combine(Tree.Root, "tools", "lib", "debian-root")).Succeeded().Text;
        Commands.Run(TimeSpan.FromMinutes(5), "sh", "-c", $"tar -C '{root}' --exclude=./usr/share/doc --exclude=./usr/share/locale -c . | docker -H unix://{docker.Socket} import - {Base}").Succeeded();

        Commands.Run(TimeSpan.FromMinutes(5), "env", "DOCKER_BUILDKIT=0", "docker", "-H", $"unix://{docker.Socket}", "build", "--network", "none", "--build-arg", $"BASE={Base}", "-t", Image, context).Succeeded();

        // The daemon in its container, with the capabilities of the Dockerfile's head and no others.
        string[] state = ["/run/overlaynet", "/var/lib/overlaynet"];
        foreach (var directory in state)
            Directory.CreateDirectory(docker.Directory + directory);
        docker.Run([
            "run", "-d", "--name", "overlaynetd", "--network", "host", "--pid", "host", "--cgroupns", "host", "--cap-drop", "ALL",
            .. Given().SelectMany(capability => (string[])["--cap-add", capability]),
            "--security-opt", "apparmor=unconfined", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined",
            .. state.SelectMany(directory => (string[])["-v", $"{docker.Directory}{directory}:{directory}"]),
            "-v", "/run/netns:/run/netns:rshared", "-v", "/sys/fs/bpf:/sys/fs/bpf", Image,
        ]);
        try
        {
            // Where the harness looks for a node's socket.
            File.CreateSymbolicLink(node.Socket, $"{docker.Directory}/run/overlaynet/overlaynet.sock");
            Wait.Until("the daemon answers", () => node.TryCli("status").Code == 0, TimeSpan.FromSeconds(60), () => docker.TryRun("logs", "overlaynetd").ToString());
            node.Cli("init", "--address", node.Address);
            node.Cli("network", "create", "--subnet", "10.10.0.0/24", "app");
            node.Cli("service", "create", "--network", "app", "--port", "80", "web");
            using var backend = cluster.AddBackend("web1", node, "app", "web");
            using var client = cluster.Attach("client", node, "app");
            // No cgroup2 of the host's is to be seen in there: it says so, and why the next best path is taken.
            Assert.Contains("cgroup", node.Cli("status").Output, StringComparison.Ordinal);
            var vip = client.Exec("dig", "+short", "@10.10.0.1", "web").Succeeded().Text;
            Assert.All(client.Ask($"http://{vip}/", 20), answer => Assert.StartsWith("web1", answer, StringComparison.Ordinal));

            docker.Run("kill", "overlaynetd");
            Assert.Equal(20, client.Ask($"http://{vip}/", 20).Count);
            docker.Run("start", "overlaynetd");
            Wait.Until("its successor answers", () => node.TryCli("status").Code == 0 && client.Exec("dig", "+short", "@10.10.0.1", "web").Output.Trim() == vip);
            node.Cli("endpoint", "rm", "web1", "client");
            node.Cli("service", "rm", "web");
            node.Cli("network", "rm", "app");
            Wait.Until("its namespace is gone from the host", () => node.NetworkNamespaces.Count == 0);
        }
        finally
        {
            docker.TryRun("rm", "-f", "overlaynetd");
        }
    }
}
