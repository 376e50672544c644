using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Harness;

namespace OverlayNet.RuntimeTests.Docker;

/// <summary>What is built on Docker: compose, and swarm mode with the managed plugin.</summary>
public sealed class DockerToolsTests(DockerCluster cluster) : IClassFixture<DockerCluster>
{
    [Fact]
    public void A_compose_file_uses_the_clusters_network_as_it_is()
    {
        cluster.CreateNetwork("compose-net");
        cluster.Manager.Cli("service", "create", "--network", "compose-net", "--port", "80", "web");
        var (one, two) = (cluster.Hosts[0], cluster.Hosts[1]);
        var file = Path.Combine(one.Directory, "compose.yaml");
        File.WriteAllText(file, $$"""
            version: "3.7"
            services:
              front:
                image: {{Images.Debian}}
                command: ["socat", "TCP-LISTEN:80,fork,reuseaddr", "SYSTEM:echo composed"]
                labels: { overlaynet.service: web }
                networks: [shared]
            networks:
              shared:
                external: true
                name: compose-net
            """);
        string[] compose = ["-H", $"unix://{one.Socket}", "-p", "ours", "-f", file];
        var program = Programs.Require("docker-compose", "docker-compose");
        Commands.Run(program, [.. compose, "up", "-d", "--scale", "front=2"]).Succeeded();
        two.Run("run", "-d", "--name", "compose-asker", "--network", "compose-net", Images.Busybox, "sleep", "1d");
        Wait.Until("two members", () => cluster.Manager.CliJson("service", "backends", "--network", "compose-net", "web").AsArray().Count == 2);
        Wait.Until("an answer through the VIP", () => two.Exec("compose-asker", "nc", "web", "80").Text == "composed");
        // The service's name in the compose file is an alias of both containers.
        Assert.Equal(2, two.Exec("compose-asker", "resolve", "front").Succeeded().Lines.Count);
        Commands.Run(program, [.. compose, "down"]).Succeeded();
        Ledger.Balances(cluster, "compose-net");
    }

    [Fact]
    public void Swarm_mode_uses_the_driver_through_the_managed_plugin()
    {
        var (one, two) = (cluster.Hosts[0], cluster.Hosts[1]);
        foreach (var host in cluster.Hosts)
        {
            var plugin = Path.Combine(host.Directory, "managed");
            Commands.Run(Path.Combine(Tree.Root, "tools", "docker-plugin"), "--socket", Path.Combine(host.Node.Directory, "docker-swarm.sock"), plugin).Succeeded();
            host.Run("plugin", "create", "overlaynet-swarm", plugin);
            host.Run("plugin", "enable", "overlaynet-swarm");
        }
        // Two drivers cannot have the port of VXLAN at once (swarm mode makes its ingress network in any case).
        one.Run("swarm", "init", "--advertise-addr", one.Node.Address, "--data-path-port", "7789");
        var token = one.Run("swarm", "join-token", "-q", "worker").Text;
        two.Run("swarm", "join", "--token", token, $"{one.Node.Address}:2377");
        one.Run("network", "create", "-d", "overlaynet-swarm:latest", "--attachable", "--subnet", "10.63.0.0/24", "-o", "overlaynet.network=swarm-made", "swarm-made");
        one.Run("service", "create", "-d", "--name", "tasks-of-swarm", "--network", "swarm-made", "--replicas", "2", "--endpoint-mode", "dnsrr", "--no-resolve-image", Images.Busybox, "sleep", "1d");
        Wait.Until("two tasks on the network", () => cluster.Endpoints("swarm-made").Count(endpoint => endpoint.State == "healthy") == 2, TimeSpan.FromSeconds(90), () => one.Run("service", "ps", "--no-trunc", "tasks-of-swarm").Output);
        var tasks = cluster.Endpoints("swarm-made").ToList();
        var from = cluster.Hosts.Select(host => (host, id: host.Run("ps", "-q", "--filter", "name=tasks-of-swarm").Lines)).First(entry => entry.id.Count > 0);
        foreach (var task in tasks)
            from.host.Exec(from.id[0], "ping", "-c", "2", "-W", "2", task.Address).Succeeded();
        one.Run("service", "rm", "tasks-of-swarm");
        Wait.Until("no task is left", () => cluster.Endpoints("swarm-made").Count == 0, TimeSpan.FromSeconds(60));
        Wait.Until("the network goes", () => one.TryRun("network", "rm", "swarm-made").Code == 0);
        Wait.Until("also from the cluster", () => cluster.Manager.TryCli("network", "inspect", "swarm-made").Code != 0);
    }
}
