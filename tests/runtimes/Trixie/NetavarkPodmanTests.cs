using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Cni;
using OverlayNet.RuntimeTests.Harness;
using OverlayNet.RuntimeTests.Podman;

namespace OverlayNet.RuntimeTests.Trixie;

/// <summary>podman 5 with netavark, of a Debian 13, on one node: with a store and a configuration of its own, in the node's network namespace.</summary>
public sealed class NetavarkHost : IDisposable
{
    private readonly BackgroundProcess _holder;
    private readonly string _directory;
    private readonly ClusterNode _node;

    public NetavarkHost(ClusterNode node)
    {
        _node = node;
        _directory = Path.Combine(node.Directory, "podman");
        foreach (var name in new[] { "root", "run", "networks", "plugins", "tmp" })
            Directory.CreateDirectory(Path.Combine(_directory, name));
        File.WriteAllText(Path.Combine(_directory, "storage.conf"), $"[storage]\ndriver=\"vfs\"\ngraphroot=\"{_directory}/root\"\nrunroot=\"{_directory}/run\"\n");
        // As the package's, but with this tree's program and this node's daemon.
        var plugin = Path.Combine(_directory, "plugins", "overlaynet");
        File.WriteAllText(plugin, $"#!/bin/sh\nexec env OVERLAYNET_SOCKET={node.Socket} DOTNET_ROOT=/usr/share/dotnet {Path.Combine(Tree.Out, "overlaynet")} netavark \"$@\"\n");
        File.SetUnixFileMode(plugin, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        File.WriteAllText(Path.Combine(_directory, "containers.conf"),
            $"""
            [containers]
            default_ulimits=["nofile=20000:20000","nproc=20000:20000"]
            [network]
            network_backend="netavark"
            netavark_plugin_dirs=["{_directory}/plugins"]
            network_config_dir="{_directory}/networks"
            [engine]
            runtime="runc"
            cgroup_manager="cgroupfs"
            events_logger="file"
            lock_type="file"
            tmp_dir="{_directory}/tmp"

            """);
        // The daemon has to see the namespaces that podman pins below /run/netns.
        _holder = BackgroundProcess.InHost("unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
            $"mount --make-private / 2>/dev/null; {OtherRoot.Enter(OtherRoot.Trixie, "/usr/share/dotnet", Tree.Out)} && echo held && exec sleep infinity").Says("held");
    }

    public CommandResult Run(params IEnumerable<string> arguments) => Commands.Run("nsenter",
    [
        $"--mount=/proc/{Cluster.Number(_holder.Pid)}/ns/mnt", $"--net=/run/netns/{_node.Netns}", "env",
        $"CONTAINERS_CONF={_directory}/containers.conf", $"CONTAINERS_STORAGE_CONF={_directory}/storage.conf", "podman", .. arguments,
    ]);

    public void Dispose()
    {
        Run("rm", "--all", "--force", "--time", "0");
        _holder.Dispose();
    }
}

/// <summary>podman 5 through the netavark plugin. Optional: it fetches a Debian 13 (<c>tools/test soak Trixie</c>).</summary>
[Trait("Category", "Soak")]
public sealed class NetavarkPodmanTests(CniCluster world) : IClassFixture<CniCluster>
{
    private const string Image = "localhost/busybox:test";

    [Fact]
    public void Containers_of_podman_5_are_members_and_clients_across_hosts()
    {
        using var one = new NetavarkHost(world.Cluster.Nodes[0]);
        using var two = new NetavarkHost(world.Cluster.Nodes[1]);
        Assert.StartsWith("5.", one.Run("version", "--format", "{{.Client.Version}}").Succeeded().Text, StringComparison.Ordinal);
        // Where the programs of the other root find it.
        var root = Path.Combine(world.Cluster.Directory, "busybox.tar");
        BusyboxImage.WriteRoot(root);
        foreach (var host in new[] { one, two })
        {
            host.Run("import", root, Image).Succeeded();
            host.Run("network", "create", "-d", "overlaynet", "-o", "network=app", "app").Succeeded();
            host.Run("network", "create", "-d", "overlaynet", "-o", "network=app", "-o", "service=web", "front").Succeeded();
        }
        one.Run("run", "-d", "--name", "web-one", "--hostname", "web-one", "--network", "front", Image, "sh", "-c", PodmanCluster.Serve).Succeeded();
        two.Run("run", "-d", "--name", "web-two", "--hostname", "web-two", "--network", "front:alias=second", Image, "sh", "-c", PodmanCluster.Serve).Succeeded();
        var client = world.Cluster.Attach("client", world.Cluster.Nodes[0], CniCluster.Network);
        foreach (var name in new[] { "web-one", "web-two", "second" })
            Wait.Until($"{name} serves", () => client.Exec("curl", "-4", "-s", "-m", "2", $"http://{name}/").Code == 0);

        var answers = one.Run("run", "--rm", "--network", "app", Image, "sh", "-c", "i=0; while [ $i -lt 40 ]; do wget -qO- http://web/; i=$((i+1)); done").Succeeded().Lines;
        Assert.All(["web-one", "web-two"], name => Assert.InRange(answers.Count(answer => answer == name), 10, 30));
        Assert.Contains("web.app.overlay.internal", two.Run("run", "--rm", "--network", "app", Image, "nslookup", "web").Succeeded().Output, StringComparison.Ordinal);
        Assert.Contains("10.10.0.77", two.Run("run", "--rm", "--network", "app", "--ip", "10.10.0.77", Image, "ip", "-4", "addr", "show", "eth0").Succeeded().Output, StringComparison.Ordinal);

        two.Run("rm", "--force", "--time", "0", "web-two").Succeeded();
        Assert.All(client.Ask("http://web/", 20), answer => Assert.Equal("web-one", answer));
        one.Run("rm", "--force", "--time", "0", "web-one").Succeeded();
        Assert.DoesNotContain(world.Cluster.Nodes[0].CliJson("endpoint", "ls").AsArray(), endpoint => endpoint!["labels"]?["overlaynet.netavark.container"] is not null);
    }
}
