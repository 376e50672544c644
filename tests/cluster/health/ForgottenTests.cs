using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Health;

/// <summary>A registry is restored from a copy that knows only one of a service's endpoints, the tagged one; the others live.</summary>
public sealed class ForgottenTests
{
    [Fact]
    public void All_but_the_tagged_endpoint_are_gone_from_the_registry_and_the_others_stay_and_are_put_back()
    {
        using var cluster = Cluster.Start();
        var manager = cluster.Nodes[0];
        manager.Cli("network", "create", "--subnet", "10.20.0.0/24", "app");
        manager.Cli("service", "create", "--network", "app", "--port", "80", "web");
        cluster.Attach("tagged", manager, "app", "web", "--label", "tag=gray").Serve(80);
        var client = cluster.Attach("client", cluster.Nodes[1], "app");
        manager.Stop();
        Copy(manager, "registry.db*", Directory.CreateDirectory($"{cluster.Directory}/copy").FullName);
        manager.Start();

        var others = cluster.Nodes.Select(node => cluster.AddBackend($"web{node.Index}", node, "app", "web")).ToList();
        using var api = new NodeApi(cluster.Nodes[1]);
        Wait.Until("all four are used", () => api.Backends("web").Count(backend => (int)backend!["balanced"]! > 0) == 4);
        var steady = client.AskSteadily("http://web/");

        manager.Stop();
        // One of them ends while nobody registers it: what is held is looked at, and retired.
        others[2].Remove();
        Directory.GetFiles(manager.State, "registry.db*").ToList().ForEach(File.Delete);
        foreach (var file in Directory.GetFiles($"{cluster.Directory}/copy"))
            File.Copy(file, Path.Combine(manager.State, Path.GetFileName(file)));
        Commands.Run("python3", "-c", $"import sqlite3\nc=sqlite3.connect('{manager.State}/registry.db')\nc.execute(\"UPDATE meta SET value=value+1 WHERE name='incarnation'\")\nc.commit()").Succeeded();
        manager.Start();

        // At no moment do the two that live go away from this node's view, whatever the registry says.
        Wait.Until("they are registered again", () =>
        {
            var used = api.Backends("web").Where(backend => (int)backend!["balanced"]! > 0).Select(backend => (string)backend!["endpoint"]!).ToList();
            Assert.Superset(new HashSet<string> { "tagged", "web1", "web2" }, used.ToHashSet());
            return manager.CliJson("endpoint", "ls", "--service", "web").AsArray().Select(endpoint => (string)endpoint!["name"]!).Intersect(["web1", "web2"]).Count() == 2;
        }, TimeSpan.FromSeconds(40), () => manager.Log);
        Wait.Until("the dead one is let go", () => api.Backends("web").Count == 3, TimeSpan.FromSeconds(40), () => api.Backends("web").ToJsonString());
        var result = steady.Finish();
        Assert.Contains("web2", result.Backends.Keys);
        Assert.Equal(30, client.Ask("http://web/", 30).Count);
    }

    private static void Copy(ClusterNode node, string pattern, string to)
    {
        foreach (var file in Directory.GetFiles(node.State, pattern))
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
    }
}
