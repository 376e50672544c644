using System.Globalization;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Readable;

/// <summary>Metrics and targets, judged by promtool and a real Prometheus.</summary>
[Collection(ReadableClusterTests.Name)]
public sealed class MetricsTests(ReadableCluster readable)
{
    [Fact]
    public void Promtool_finds_nothing_to_say()
    {
        foreach (var node in readable.Cluster.Nodes)
        {
            var page = readable.Ask(node, "/metrics").Output;
            var file = $"{readable.Cluster.Directory}/{node.Name}.metrics";
            File.WriteAllText(file, page);

            var lint = Commands.Run("sh", "-c", $"promtool check metrics <{file}");

            Assert.True(lint is { Code: 0, Text: "" } && lint.Error.Trim().Length == 0, lint + page);
        }
    }

    [Fact]
    public void Socket_and_port_show_the_same()
    {
        var node = readable.Cluster.Nodes[2];
        var local = Commands.Run("curl", "-s", "-m", "10", "--unix-socket", node.Socket, "http://localhost/metrics").Succeeded().Output;

        Assert.Equal(Names(local), Names(readable.Ask(node, "/metrics").Output));
    }

    [Fact]
    public void Numbers_are_those_of_what_was_done()
    {
        var node = readable.Cluster.Nodes[1];
        var before = readable.Ask(node, "/metrics").Output;
        for (var i = 0; i < 20; i++)
            readable.Reader.Exec("dig", "+short", "+tries=1", "web").Succeeded();
        readable.Reader.Exec("dig", "+short", "nothing.app.dc1.overlay.internal");
        for (var i = 0; i < 5; i++)
            readable.Reader.Exec("curl", "-s", "-m", "5", "http://web/metrics").Succeeded();

        var after = readable.Ask(node, "/metrics").Output;

        Assert.True(Value(after, "overlaynet_dns_queries_total") - Value(before, "overlaynet_dns_queries_total") >= 21, after);
        Assert.True(Value(after, "overlaynet_dns_answers_total{rcode=\"NXDOMAIN\"}") > Value(before, "overlaynet_dns_answers_total{rcode=\"NXDOMAIN\"}"), after);
        Assert.True(Value(after, "overlaynet_dns_answer_duration_seconds_count") >= 21, after);
        Assert.Equal(3, Value(after, "overlaynet_service_endpoints{network=\"app\",service=\"web\"}"));
        Assert.Equal(3, Value(after, "overlaynet_service_endpoints_serving{network=\"app\",service=\"web\"}"));
        Assert.Equal(0, Value(after, "overlaynet_revision_lag"));
        Assert.Contains("overlaynet_service_active_connections{network=\"app\",service=\"web\",endpoint=\"web1\"", after, StringComparison.Ordinal);
        Assert.Contains("overlaynet_health_checks_total{kind=\"http\",outcome=\"pass\"}", after, StringComparison.Ordinal);
        Assert.Contains("overlaynet_store_commit_duration_seconds_count{result=\"committed\"}", readable.Ask(readable.Manager, "/metrics").Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Real_readers_discover_the_backends_and_keep_them_without_managers()
    {
        // The reader asks node 2, a worker: its copy of the registry is what has to last.
        using var prometheus = new Prometheus(readable.Reader, $"""
            global: {"{"}scrape_interval: 1s{"}"}
            scrape_configs:
              - job_name: overlaynet
                static_configs: [{"{"}targets: [{string.Join(", ", readable.Cluster.Nodes.Select(node => $"'{node.Address}:{ReadableCluster.MetricsPort}'"))}]{"}"}]
              - job_name: web
                http_sd_configs:
                  - url: http://{readable.Cluster.Nodes[1].Address}:{ReadableCluster.MetricsPort}/v1/sd/prometheus?service=web&network=app
                    refresh_interval: 1s
                relabel_configs:
                  - {"{"}source_labels: [__meta_overlaynet_endpoint], target_label: endpoint{"}"}
            """);
        // Debian's Prometheus is built without consul_sd; vmagent has it.
        using var vmagent = new VmAgent(readable.Reader, $"""
            global: {"{"}scrape_interval: 1s{"}"}
            scrape_configs:
              - job_name: web
                consul_sd_configs: [{"{"}server: '{readable.Cluster.Nodes[1].Address}:{ReadableCluster.ConsulPort}', services: [web]{"}"}]
            """);
        using var haproxy = new HaProxy(readable.Reader, (string)readable.Manager.CliJson("network", "inspect", ReadableCluster.Network)[0]!["gateway4"]!, "_http._tcp.web.app.dc1.overlay.internal");
        using var npm = BackgroundProcess.In(readable.Cluster.Nodes[1].Netns, "node", Path.Combine(Tree.Root, "tests", "cluster", "readable", "consul_watch.js"), ConsulTests.Modules, "web").Says("watch 3 ");
        string Seen() => string.Join('\n', prometheus.Targets("overlaynet").Concat(prometheus.Targets("web")).Select(target => target.Target.ToJsonString())) + prometheus.Log;
        string[] expected = [.. readable.Backends.Select(backend => $"{backend.Address}:80").Order(StringComparer.Ordinal)];
        Wait.Until("every node is scraped", () => prometheus.Targets("overlaynet").Count(target => target.Health == "up") == 3, seen: Seen);
        Wait.Until("every backend is discovered and scraped", () => prometheus.Targets("web").Where(target => target.Health == "up").Select(target => target.Address).Order(StringComparer.Ordinal).SequenceEqual(expected), seen: Seen);
        Wait.Until("vmagent finds them", () => vmagent.Up().SequenceEqual(expected), seen: () => vmagent.Log);
        string[] bare = [.. readable.Backends.Select(backend => backend.Address!).Order(StringComparer.Ordinal)];
        Wait.Until("HAProxy finds them by SRV", () => haproxy.Servers().SequenceEqual(bare), seen: () => haproxy.Log);
        Wait.Until("its sample is there", () => prometheus.Query("sum by (endpoint) (demo_answer{endpoint=\"web3\"})") is [42], seen: Seen);

        readable.Manager.Kill();
        try
        {
            Wait.Until("node 2 misses its manager", () => Value(readable.Ask(readable.Cluster.Nodes[1], "/metrics").Output, "overlaynet_registry_contact_age_seconds") > 5);
            var asked = prometheus.Query("prometheus_sd_http_failures_total");

            Assert.Equal(expected, prometheus.Targets("web").Select(target => target.Address).Order(StringComparer.Ordinal));
            Assert.All(prometheus.Targets("web"), target => Assert.Equal("up", target.Health));
            Assert.All(asked, failures => Assert.Equal(0, failures));
            Assert.Equal(expected, vmagent.Up());
            Assert.Equal(bare, haproxy.Servers());
            // npm's client has asked twice at least since, and heard of no change.
            Assert.Single(npm.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
            Assert.Equal(3, readable.Consul(readable.Cluster.Nodes[1], "/v1/health/service/web?passing").Json.AsArray().Count);

            // Nor does the worker's own restart change it: it begins with what is on its disk.
            readable.Cluster.Nodes[1].Kill();
            readable.Cluster.Nodes[1].Start();
            Assert.Equal(3, System.Text.Json.Nodes.JsonNode.Parse(readable.Ask(readable.Cluster.Nodes[1], "/v1/sd/prometheus?service=web").Output)!.AsArray().Count);
            Assert.Equal(expected, prometheus.Targets("web").Select(target => target.Address).Order(StringComparer.Ordinal));
        }
        finally
        {
            readable.Manager.Start();
        }
    }

    [Fact]
    public void A_node_that_never_had_a_registry_says_500()
    {
        using var alone = Cluster.Lay(1);
        alone.Nodes[0].Start();

        var answer = Commands.Run("curl", "-s", "-m", "10", "-w", "%{http_code}", "--unix-socket", alone.Nodes[0].Socket, "http://localhost/v1/sd/prometheus").Succeeded();

        Assert.EndsWith("500", answer.Text, StringComparison.Ordinal);
        Assert.Contains("overlaynet_member 0", Commands.Run("curl", "-s", "-m", "10", "--unix-socket", alone.Nodes[0].Socket, "http://localhost/metrics").Succeeded().Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Targets_carry_what_the_registry_knows()
    {
        var groups = System.Text.Json.Nodes.JsonNode.Parse(readable.Ask(readable.Cluster.Nodes[2], "/v1/sd/prometheus").Output)!.AsArray();
        var web1 = groups.Single(group => (string?)group!["labels"]!["__meta_overlaynet_endpoint"] == "web1")!;

        Assert.Equal($"{readable.Backends[0].Address}:80", (string?)web1["targets"]![0]);
        Assert.Equal("blue \"quoted\"", (string?)web1["labels"]!["__meta_overlaynet_service_label_team"]);
        Assert.Equal("node1", (string?)web1["labels"]!["__meta_overlaynet_node"]);
        Assert.Equal("healthy", (string?)web1["labels"]!["__meta_overlaynet_state"]);
        Assert.Empty(System.Text.Json.Nodes.JsonNode.Parse(readable.Ask(readable.Cluster.Nodes[2], "/v1/sd/prometheus?service=none").Output)!.AsArray());
    }

    internal static double Value(string page, string series) =>
        page.Split('\n').FirstOrDefault(line => line.StartsWith(series + " ", StringComparison.Ordinal)) is { } line
            ? double.Parse(line[(series.Length + 1)..], CultureInfo.InvariantCulture)
            : 0;

    private static IEnumerable<string> Names(string page) =>
        page.Split('\n').Where(line => line.StartsWith("# TYPE ", StringComparison.Ordinal)).Select(line => line.Split(' ')[2]);
}
