using OverlayNet.ClusterTests.Harness;
using OverlayNet.RuntimeTests.Cni;
using OverlayNet.RuntimeTests.Package;

namespace OverlayNet.RuntimeTests.Bare;

/// <summary>A container of systemd-nspawn with a systemd of its own, attached by its leader as docs/install.md says.</summary>
public sealed class NspawnTests(CniCluster world) : IClassFixture<CniCluster>
{
    [Fact]
    public void A_container_of_nspawn_is_a_backend_and_a_client_until_it_is_off()
    {
        var (one, two) = (world.Cluster.Nodes[0], world.Cluster.Nodes[1]);
        var bare = world.Cluster.AddBackend("bare", one, CniCluster.Network, CniCluster.Service);
        var client = world.Cluster.Attach("client", one, CniCluster.Network);
        using (var machine = new SystemdMachine(isHost: false))
        {
            File.WriteAllText(Path.Combine(machine.Root, "etc", "resolv.conf"), "nameserver 169.254.53.53\n");
            var endpoint = two.CliJson("attach", "--network", CniCluster.Network, "--service", CniCluster.Service, "--name", "m1", "--pid", Cluster.Number(machine.Leader!.Value))["endpoint"]!;
            var (address, address6) = ((string)endpoint["address4"]!, (string)endpoint["address6"]!);
            using var server = machine.Start("python3", machine.Bring(Tree.Library("echo_server.py")), "m1", "80", address, address6);
            Wait.Until("it answers the other host's container by its name", () => client.Exec("curl", "-4", "-s", "-m", "2", "http://m1/").Output == $"m1 {client.Address}\n", seen: () => client.Exec("curl", "-4", "-s", "-m", "2", "http://m1/") + server.Output);

            var vip = (string)one.CliJson("service", "inspect", CniCluster.Service)[0]!["vip4"]!;
            Assert.Equal(vip, machine.Run("getent", "ahostsv4", "web").Succeeded().Text.Split(' ')[0]);
            Assert.Contains(vip, machine.Run("nslookup", "web").Succeeded().Output, StringComparison.Ordinal);
            Assert.Equal($"bare {address}", machine.Run("curl", "-4", "-s", "-m", "5", $"http://{bare.Name}/").Text);
            var answers = client.Ask($"http://{vip}/", 40);
            foreach (var name in new[] { "bare", "m1" })
                Assert.InRange(answers.Count(answer => answer == $"{name} {client.Address}"), 10, 30);
            Assert.All(machine.Run("curl", "-4", "-s", "-m", "20", "http://web/?[1-20]").Succeeded().Lines, answer => Assert.EndsWith($" {address}", answer, StringComparison.Ordinal));
        }
        Wait.Until("it is withdrawn", () => one.CliJson("endpoint", "ls").AsArray().All(endpoint => (string)endpoint!["name"]! != "m1"));
        Assert.All(client.Ask("http://web/", 20), answer => Assert.StartsWith("bare ", answer, StringComparison.Ordinal));
    }
}
