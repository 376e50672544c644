using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Podman;

namespace OverlayNet.RuntimeTests.Containerd;

/// <summary><c>ctr run --cni</c>, beside podman on the same network.</summary>
public sealed class CtrTests(PodmanCluster world) : IClassFixture<PodmanCluster>
{
    [Fact]
    public void A_container_of_containerd_is_on_the_network_until_it_ends()
    {
        using var host = new ContainerdHost(world.Cluster.Nodes[1], "app");
        var archive = Path.Combine(world.Cluster.Directory, "busybox.oci");
        world.Hosts[0].SaveImage(PodmanCluster.Image, archive);
        host.Ctr("image", "import", archive).Succeeded();

        host.Ctr("run", "--detach", "--cni", PodmanCluster.Image, "web", "sh", "-c", PodmanCluster.Serve).Succeeded();

        Assert.Contains("default-web", world.EndpointNames);
        Wait.Until("podman's containers reach it by name", () => world.Hosts[0].Run("run", "--rm", "--network", "app", PodmanCluster.Image, "wget", "-qO-", "http://default-web/").Code == 0);
        var seen = host.Ctr("run", "--rm", "--cni", PodmanCluster.Image, "short", "ip", "-4", "addr", "show", "eth0").Succeeded();
        Assert.Contains("10.10.0.", seen.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("default-short", world.EndpointNames);

        host.Ctr("task", "kill", "--signal", "KILL", "web").Succeeded();
        Wait.Until("it is withdrawn", () => !world.EndpointNames.Contains("default-web"));
    }
}
