using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Readable;

/// <summary>One change followed as one trace across the nodes, decoded by the protocol's published files.</summary>
[Collection(ReadableClusterTests.Name)]
public sealed class TraceTests(ReadableCluster readable)
{
    private const string Trace = "4bf92f3577b34da6a3ce929d0e0e4736", Parent = "00f067aa0ba902b7";

    [Fact]
    public void A_change_is_one_trace_from_the_request_to_every_kernel()
    {
        using var collector = BackgroundProcess.In(readable.Cluster.Outside, Path.Combine(Tree.Root, "tests", "cluster", "readable", "otlp", "collector.py"), ReadableCluster.Collector, ReadableCluster.CollectorPort).Says("collecting");
        using var container = readable.Cluster.AddContainer("traced", readable.Cluster.Nodes[1]);
        try
        {
            // At a worker, so that the request passes two daemons before it is in the registry.
            Commands.Run(
                "curl", "-s", "-f", "-m", "20", "--unix-socket", readable.Cluster.Nodes[1].Socket, "-H", $"traceparent: 00-{Trace}-{Parent}-01", "-d",
                $$"""{"network":"{{ReadableCluster.Network}}","netns":"{{container.NetnsPath}}","name":"traced","service":"web"}""", "http://localhost/v1/attach").Succeeded();
            var endpoint = readable.Manager.CliJson("endpoint", "inspect", "traced")[0]!;
            List<JsonNode> Spans() => [.. collector.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line.StartsWith('{')).Select(line => JsonNode.Parse(line)!).Where(span => (string?)span["trace"] == Trace)];
            string Seen() => string.Join('\n', Spans().Select(span => span.ToJsonString()));
            Wait.Until(
                "every node has told of the endpoint",
                () => Spans().Where(span => (string?)span["name"] == "apply" && (string?)span["attributes"]!["instance.address"] == (string?)endpoint["address4"])
                    .Select(Node).Distinct().Order(StringComparer.Ordinal).SequenceEqual(["node1", "node2", "node3"])
                    && Spans().Any(span => (string?)span["name"] == "POST /v1/attach"), seen: Seen);
            var spans = Spans();

            var root = spans.Single(span => (string?)span["name"] == "POST /v1/attach");
            Assert.Equal(("node2", Parent), (Node(root), (string?)root["parent"]));
            var create = spans.Single(span => (string?)span["name"] == "POST /v1/endpoints");
            Assert.Equal(("node1", (string?)root["span"]), (Node(create), (string?)create["parent"]));
            Assert.Equal((string?)endpoint["serviceId"], (string?)create["attributes"]!["service.id"]);
            Assert.Equal("api", (string?)create["attributes"]!["discovery.source"]);
            var commit = spans.First(span => (string?)span["name"] == "registry commit" && (string?)span["parent"] == (string?)create["span"]);
            foreach (var node in readable.Cluster.Nodes)
            {
                var apply = spans.First(span => (string?)span["name"] == "apply" && Node(span) == node.Name && (string?)span["parent"] == (string?)commit["span"]);
                Assert.Equal((long)commit["attributes"]!["overlaynet.revision"]!, (long)apply["attributes"]!["overlaynet.revision"]!);
                Assert.Contains(spans, span => (string?)span["name"] == "apply overlay" && (string?)span["parent"] == (string?)apply["span"]);
                Assert.Contains(spans, span => (string?)span["name"] == "agent receive" && Node(span) == node.Name);
            }
            Assert.All(spans, span =>
            {
                Assert.Equal(("/v1/traces", "application/x-protobuf", 0), ((string?)span["path"], (string?)span["type"], (int)span["unknown"]!));
                Assert.True((long)span["end"]! >= (long)span["start"]!);
                Assert.Equal("overlaynetd", (string?)span["resource"]!["service.name"]);
            });
        }
        finally
        {
            container.Remove();
        }
    }

    [Fact]
    public void Attributes_for_an_application_name_its_endpoint()
    {
        var endpoint = readable.Manager.CliJson("endpoint", "inspect", "web3")[0]!;

        var said = readable.Manager.Cli("endpoint", "otel", "web3").Text;

        Assert.Equal(
            $"OTEL_RESOURCE_ATTRIBUTES=service.name=web,service.namespace=app,service.instance.id={endpoint["id"]},service.id={endpoint["serviceId"]},instance.address={endpoint["address4"]},host.name=node3,cloud.region=dc1,overlaynet.endpoint=web3", said);
    }

    [Theory]
    [InlineData("nft")]
    [InlineData("ebpf")]
    public void A_connection_through_the_vip_is_found_with_its_instance(string balancer)
    {
        readable.Manager.Cli("service", "create", "--network", ReadableCluster.Network, "--port", "80", "--balancer", balancer, "tracked");
        using var server = readable.Cluster.Attach("tracked1", readable.Cluster.Nodes[2], ReadableCluster.Network, "tracked");
        try
        {
            server.Start("python3", "-m", "http.server", "80", "--bind", "0.0.0.0", "--directory", $"{readable.Cluster.Directory}/pages");
            Wait.Until("the VIP answers", () => readable.Reader.Exec("curl", "-s", "-f", "-m", "2", "http://tracked/metrics").Code == 0);
            Assert.StartsWith(balancer, (string)readable.Manager.CliJson("status")["services"]!.AsArray().Single(service => (string?)service!["name"] == "tracked")!["balancer"]!, StringComparison.Ordinal);
            using var held = readable.Reader.Start("python3", "-c", "import socket, time\nheld = socket.create_connection(('tracked', 80))\nprint('held', held.getsockname()[1], flush=True)\ntime.sleep(120)").Says("held");
            var port = int.Parse(held.Output.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture);

            var connection = Assert.Single(readable.Reader.Node.CliJson("endpoint", "connections", "reader").AsArray(), one => (string?)one!["service"] == "tracked" && (int)one["sourcePort"]! == port)!;

            Assert.Equal(
                ("tracked1", "node3", server.Address, 80, readable.Reader.Address, true),
                ((string?)connection["endpoint"], (string?)connection["node"], (string?)connection["server"], (int)connection["serverPort"]!, (string?)connection["source"], (bool)connection["live"]!));
            Assert.Contains("is not on this node", readable.Manager.TryCli("endpoint", "connections", "reader").Error, StringComparison.Ordinal);
        }
        finally
        {
            server.Remove();
            readable.Manager.TryCli("service", "rm", "--force", "tracked");
        }
    }

    [Fact]
    public void Every_line_of_the_log_is_json()
    {
        foreach (var node in readable.Cluster.Nodes)
        {
            var lines = File.ReadAllLines(node.LogFile).SkipLast(1).Where(line => line.Length > 0).ToList();

            Assert.NotEmpty(lines);
            Assert.All(lines, line => Assert.NotNull(JsonNode.Parse(line)!["Message"]));
        }
    }

    private static string? Node(JsonNode span) => (string?)span["resource"]!["service.instance.id"];
}
