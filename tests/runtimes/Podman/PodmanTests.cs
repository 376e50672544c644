using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Podman;

/// <summary>podman 4.3 with CNI, two hosts.</summary>
public sealed class PodmanTests(PodmanCluster world) : IClassFixture<PodmanCluster>
{
    [Fact]
    public void Containers_reach_each_other_by_name_across_hosts()
    {
        world.Hosts[0].Run("run", "-d", "--name", "server", "--network", "app:alias=db", PodmanCluster.Image, "sh", "-c", PodmanCluster.Serve).Succeeded();

        var name = world.Hosts[1].Run("run", "--rm", "--network", "app", PodmanCluster.Image, "nslookup", "server").Succeeded();
        Assert.Contains("server.app.overlay.internal", name.Output, StringComparison.Ordinal);
        Wait.Until("its alias leads to it, too", () => Ask(1, "http://db/") is { Code: 0, Text.Length: > 0 }, seen: () => Ask(1, "http://db/").ToString());

        // A restart keeps the name; the old address goes.
        world.Hosts[0].Run("restart", "--time", "0", "server").Succeeded();
        Wait.Until("it answers again", () => Ask(1, "http://server/").Code == 0);
        Assert.Single(world.EndpointNames, "server");

        world.Hosts[0].Run("rm", "--force", "--time", "0", "server").Succeeded();
        Assert.DoesNotContain("server", world.EndpointNames);
    }

    [Fact]
    public void Members_of_a_service_share_its_requests()
    {
        for (var i = 0; i < 2; i++)
            world.Hosts[i].Run("run", "-d", "--name", $"web{i}", "--hostname", $"web{i}", "--network", "app-web", PodmanCluster.Image, "sh", "-c", PodmanCluster.Serve).Succeeded();
        for (var i = 0; i < 2; i++)
            Wait.Until($"web{i} serves", () => Ask(0, $"http://web{i}/").Code == 0, seen: () => Ask(0, $"http://web{i}/").ToString());

        var answers = world.Hosts[1].Run("run", "--rm", "--network", "app", PodmanCluster.Image, "sh", "-c", "i=0; while [ $i -lt 40 ]; do wget -qO- http://web/; i=$((i+1)); done").Succeeded().Lines;

        Assert.Equal(40, answers.Count);
        Assert.All(["web0", "web1"], name => Assert.InRange(answers.Count(answer => answer == name), 10, 30));
        for (var i = 0; i < 2; i++)
            world.Hosts[i].Run("rm", "--force", "--time", "0", $"web{i}").Succeeded();
    }

    [Fact]
    public void A_port_is_published_by_portmap_behind_us()
    {
        world.Hosts[0].Run("run", "-d", "--name", "published", "--network", "app", "-p", "18080:80", PodmanCluster.Image, "sh", "-c", PodmanCluster.Serve).Succeeded();

        var node = world.Cluster.Nodes;
        Wait.Until("the other host reaches it", () => Commands.In(node[1].Netns, "curl", "-s", "-m", "2", $"http://{node[0].Address}:18080/").Code == 0);

        world.Hosts[0].Run("rm", "--force", "--time", "0", "published").Succeeded();
        Assert.DoesNotContain("18080", Commands.In(node[0].Netns, "iptables", "-t", "nat", "-S").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_container_whose_process_is_killed_is_withdrawn()
    {
        world.Hosts[0].Run("run", "-d", "--name", "victim", "--network", "app", PodmanCluster.Image, "sleep", "600").Succeeded();
        Assert.Contains("victim", world.EndpointNames);

        world.Hosts[0].Run("kill", "victim").Succeeded();

        Wait.Until("it is gone", () => !world.EndpointNames.Contains("victim"));
        world.Hosts[0].Run("rm", "--force", "victim").Succeeded();
    }

    // Without -T: Debian's static wget crashes with it.
    private CommandResult Ask(int host, string url) => world.Hosts[host].Run("run", "--rm", "--network", "app", PodmanCluster.Image, "wget", "-qO-", url);
}
