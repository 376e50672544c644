using OverlayNet.ClusterTests.Harness;
using OverlayNet.ClusterTests.Managers;

namespace OverlayNet.ClusterTests.Health;

/// <summary>A node is cut off for longer than its services' policies allow, and comes back.</summary>
public sealed class DisconnectTests
{
    [Fact]
    public void A_cut_off_node_stops_what_it_must_lost_endpoints_are_replaced_or_taken_back_and_nothing_is_left_by_hand()
    {
        using var cluster = Cluster.Start();
        var (manager, other, cut) = (cluster.Nodes[0], cluster.Nodes[1], cluster.Nodes[2]);
        manager.Cli("network", "create", "--subnet", "10.20.0.0/24", "app");
        Service("swap", "--lost-after", "10s", "--on-return", "replace");
        Service("keep", "--lost-after", "10s");
        Service("solo", "--stop-on-client-after", "10s");
        Service("plain");
        var backends = new[] { "swap", "keep", "solo", "plain" }.ToDictionary(name => name, name => cluster.AddBackend($"{name}-3", cut, "app", name));
        cluster.AddBackend("keep-4", cut, "app", "keep");
        cluster.AddBackend("plain-2", other, "app", "plain");
        var here = cluster.Attach("here", cut, "app");
        var there = cluster.Attach("there", other, "app");
        Assert.Equal(4, backends.Keys.Count(name => Asks(here, name) == 0));

        var mend = ManagersCluster.CutOff(cut);
        // The node itself stops the one, and goes on with the others: a refusal, not a time-out.
        Wait.Until("solo is stopped where it was cut off", () => Asks(here, "solo") == 7, TimeSpan.FromSeconds(40), () => cut.Log);
        Assert.NotEqual(0, backends["solo"].Exec("ping", "-c", "1", "-W", "1", "10.20.0.1").Code);
        Assert.Equal(0, Asks(here, "keep"));
        Assert.Contains("stopped here", cut.Cli("events").Output, StringComparison.Ordinal);
        // Nothing that was stopped comes back by a restart.
        cut.Kill();
        cut.Start();
        Assert.NotEqual(0, Asks(here, "solo"));

        Wait.Until("the one to be replaced is removed", () => !Endpoints().ContainsKey("swap-3"), TimeSpan.FromSeconds(60), () => manager.Cli("endpoint", "ls").Output);
        Assert.Equal("unreachable", Endpoints()["plain-3"]);
        Assert.Equal("unreachable", Endpoints()["keep-3"]);
        // Its place goes to whoever asks for it by name; the other lost one's stays its own.
        var replacement = cluster.AddContainer("newcomer", other);
        other.Cli("attach", "--network", "app", "--service", "keep", "--netns", replacement.NetnsPath, "--name", "keep-3");
        Assert.Equal("unreachable", Endpoints()["keep-4"]);
        Assert.Equal(2, other.TryCli("attach", "--network", "app", "--service", "plain", "--netns", cluster.AddContainer("twin", other).NetnsPath, "--name", "plain-3").Code);

        mend();
        Wait.Until("what was kept is back, and serves", () => Serves("keep-4") && Serves("plain-3") && Serves("solo-3"), TimeSpan.FromSeconds(60), () => manager.Cli("endpoint", "ls").Output);
        Wait.Until("solo answers again, here and there", () => Asks(here, "solo") == 0 && Asks(there, "solo") == 0, seen: () => cut.Log);
        // Who was replaced is taken down by its own node, without a manual step.
        foreach (var name in new[] { "swap", "keep" })
            Wait.Until($"{name}-3 is down", () => backends[name].Exec("ip", "-o", "link", "show", "type", "veth").Output.Length == 0, seen: () => cut.Log);
        Assert.DoesNotContain("swap-3", Endpoints().Keys);

        void Service(string name, params string[] more) => manager.Cli(["service", "create", "--network", "app", "--port", "80", .. more, name]);
        Dictionary<string, string> Endpoints() => manager.CliJson("endpoint", "ls").AsArray().ToDictionary(e => (string)e!["name"]!, e => (string)e!["state"]!);
        bool Serves(string name) => Endpoints().GetValueOrDefault(name) is "healthy" or "recovering";
        static int Asks(Container client, string service) => client.Exec("curl", "-s", "-o", "/dev/null", "-m", "3", $"http://{service}/").Code;
    }
}
