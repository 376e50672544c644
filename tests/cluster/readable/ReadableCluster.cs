using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Readable;

/// <summary>Three nodes that can be read from outside, service web with a backend that has metrics of its own on each, and a container for who reads.</summary>
public sealed class ReadableCluster : IDisposable
{
    public const string Network = "app";
    public const int MetricsPort = 7374, ConsulPort = 8500;

    /// <summary>Where traces are sent to: the host outside.</summary>
    public const string Collector = "192.0.2.254", CollectorPort = "4318";

    public ReadableCluster()
    {
        Cluster = Cluster.Start(3, 4, $"metrics.listen: 0.0.0.0:{MetricsPort}", $"consul.listen: 0.0.0.0:{ConsulPort}", $"otlp.endpoint: http://{Collector}:{CollectorPort}", "log.json: true");
        try
        {
            Manager.Cli("network", "create", "--subnet", "10.30.0.0/24", "--subnet6", "fd00:30::/64", Network);
            Manager.Cli("service", "create", "--network", Network, "--port", "http=80", "--label", "team=blue \"quoted\"", "--health", "http:/metrics", "web");
            Directory.CreateDirectory($"{Cluster.Directory}/pages");
            File.WriteAllText($"{Cluster.Directory}/pages/metrics", "demo_answer 42\n");
            Backends = [.. Cluster.Nodes.Select(AddBackend)];
            Reader = Cluster.Attach("reader", Cluster.Nodes[1], Network);
            Wait.Until("all backends serve", () => Manager.CliJson("service", "backends", "web").AsArray().Count(backend => (string?)backend!["state"] == "healthy") == Backends.Count);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public ClusterNode Manager => Cluster.Nodes[0];

    public IReadOnlyList<Container> Backends { get; } = [];

    /// <summary>On node 2, which is no manager.</summary>
    public Container Reader { get; }

    /// <summary>What a node answers over TCP, from the reader's place in the overlay.</summary>
    public CommandResult Ask(ClusterNode node, string path) => Reader.Exec("curl", "-s", "-m", "10", $"http://{node.Address}:{MetricsPort}{path}").Succeeded();

    /// <summary>What a node's Consul API answers, with its headers.</summary>
    public ConsulAnswer Consul(ClusterNode node, string path, params string[] more)
    {
        var text = Reader.Exec("curl", ["-s", "-m", "30", "-i", .. more, $"http://{node.Address}:{ConsulPort}{path}"]).Succeeded().Output;
        var cut = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        var head = text[..cut].Split("\r\n");
        return new ConsulAnswer(
            int.Parse(head[0].Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture),
            head[1..].Select(line => line.Split(": ", 2)).ToDictionary(pair => pair[0], pair => pair[1], StringComparer.OrdinalIgnoreCase),
            text[(cut + 4)..]);
    }

    public void Dispose() => Cluster.Dispose();

    private Container AddBackend(ClusterNode node)
    {
        var container = Cluster.Attach($"web{node.Index}", node, Network, "web");
        container.Start("python3", "-m", "http.server", "80", "--bind", "0.0.0.0", "--directory", $"{Cluster.Directory}/pages");
        return container;
    }
}

public sealed record ConsulAnswer(int Status, IReadOnlyDictionary<string, string> Headers, string Body)
{
    public JsonNode Json => JsonNode.Parse(Body)!;

    public long Index => long.Parse(Headers["X-Consul-Index"], System.Globalization.CultureInfo.InvariantCulture);
}

[CollectionDefinition(Name)]
public sealed class ReadableClusterTests : ICollectionFixture<ReadableCluster>
{
    public const string Name = "readable cluster";
}

/// <summary>A real Prometheus in the reader's container.</summary>
internal sealed class Prometheus : IDisposable
{
    private readonly Container _place;
    private readonly BackgroundProcess _process;
    private readonly string _directory;

    public Prometheus(Container place, string configuration)
    {
        _place = place;
        _directory = System.IO.Directory.CreateTempSubdirectory("overlaynet-prometheus-").FullName;
        File.WriteAllText($"{_directory}/prometheus.yml", configuration);
        _process = place.Start("prometheus", $"--config.file={_directory}/prometheus.yml", $"--storage.tsdb.path={_directory}/data", "--web.listen-address=127.0.0.1:9090", "--log.level=warn");
        Wait.Until("Prometheus is ready", () => place.Exec("curl", "-s", "-f", "http://127.0.0.1:9090/-/ready").Code == 0, seen: () => _process.Output);
    }

    public string Log => _process.Output;

    /// <summary>Active targets of a job: what they are discovered as, and whether the last scrape was well.</summary>
    public IReadOnlyList<(string Address, string Health, JsonNode Target)> Targets(string job) =>
        [.. Get("targets?state=active")["activeTargets"]!.AsArray().Where(target => (string?)target!["labels"]!["job"] == job)
            .Select(target => ((string)target!["discoveredLabels"]!["__address__"]!, (string)target["health"]!, target))];

    /// <summary>The values of an instant query.</summary>
    public IReadOnlyList<double> Query(string expression) =>
        [.. Get("query?query=" + Uri.EscapeDataString(expression))["result"]!.AsArray().Select(result => double.Parse((string)result!["value"]![1]!, System.Globalization.CultureInfo.InvariantCulture))];

    public void Dispose()
    {
        _process.Dispose();
        System.IO.Directory.Delete(_directory, recursive: true);
    }

    private JsonNode Get(string path) => JsonNode.Parse(_place.Exec("curl", "-s", "-m", "10", $"http://127.0.0.1:9090/api/v1/{path}").Succeeded().Output)!["data"]!;
}
