using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Cni;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Podman;

/// <summary>podman on one node: a store, a configuration and CNI networks of its own, in the node's network namespace.</summary>
public sealed class PodmanHost : IDisposable
{
    private readonly string _directory;

    public PodmanHost(ClusterNode node)
    {
        Node = node;
        Programs.Require("podman", "podman");
        Programs.Require("runc", "runc");
        _directory = Directory.CreateTempSubdirectory($"overlaynet-test-podman-{node.Name}-").FullName;
        foreach (var name in new[] { "root", "run", "networks" })
            Directory.CreateDirectory(Path.Combine(_directory, name));
        File.WriteAllText(Path.Combine(_directory, "storage.conf"), $"[storage]\ndriver=\"vfs\"\ngraphroot=\"{_directory}/root\"\nrunroot=\"{_directory}/run\"\n");
        // crun refuses hybrid cgroups, and without CAP_SYS_RESOURCE the default limits cannot be set.
        File.WriteAllText(Path.Combine(_directory, "containers.conf"),
            $"""
            [containers]
            default_ulimits=["nofile=20000:20000","nproc=20000:20000"]
            [network]
            network_backend="cni"
            cni_plugin_dirs=["{CniPlugin.Directory}","/usr/lib/cni"]
            network_config_dir="{_directory}/networks"
            [engine]
            runtime="runc"
            cgroup_manager="cgroupfs"
            events_logger="file"
            lock_type="file"
            tmp_dir="{_directory}/tmp"

            """);
    }

    public ClusterNode Node { get; }

    public void AddNetwork(string network, params string[] more) => File.WriteAllText(
        Path.Combine(_directory, "networks", $"{network}{string.Concat(more.Where(m => !m.StartsWith('-')))}.conflist"),
        Node.Cli(["cni", "config", "--network", network, .. more]).Output);

    public void ImportImage(string tarFile, string name) => Run("import", tarFile, name).Succeeded();

    public void SaveImage(string name, string file) => Run("save", "--format", "oci-archive", "-o", file, name).Succeeded();

    public CommandResult Run(params string[] arguments) => Commands.Run(
        "nsenter", [$"--net=/run/netns/{Node.Netns}", "env", $"CONTAINERS_CONF={_directory}/containers.conf", $"CONTAINERS_STORAGE_CONF={_directory}/storage.conf", "podman", .. arguments]);

    public void Dispose()
    {
        Run("rm", "--all", "--force", "--time", "0");
        // A container's monitor starts 'podman container cleanup' at its end, which makes the store's locks anew.
        Wait.Until("podman's own cleaning has ended", () => Processes.Naming(_directory).Count == 0);
        Directory.Delete(_directory, recursive: true);
    }
}
