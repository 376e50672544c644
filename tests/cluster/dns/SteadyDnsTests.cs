using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.Dns;

/// <summary>
/// dnsperf on a node's resolver while endpoints change, the daemon is killed and started again, and all upstreams are
/// silent. Owned names are answered, every time and right.
/// </summary>
public abstract class SteadyDns(ITestOutputHelper output)
{
    private const string Network = "steady";
    private const string Server = "10.73.0.1";
    private const int Services = 50;
    private const int Endpoints = 6;

    /// <summary>
    /// Queries of one batch (UdpLoop): what the daemon may have in hand when it is killed. Its clients ask those again, as
    /// resolvers do; dnsperf does not.
    /// </summary>
    private const int InHand = 64;

    /// <param name="Duration">Of the load.</param>
    /// <param name="Rate">Queries per second.</param>
    /// <param name="Changes">Endpoint changes per second.</param>
    /// <param name="Kills">Times the daemon is killed.</param>
    protected sealed record Plan(TimeSpan Duration, int Rate, int Changes, int Kills);

    private protected async Task RunAsync(Plan plan)
    {
        using var cluster = Cluster.Start(2);
        var (manager, node) = (cluster.Nodes[0], cluster.Nodes[1]);
        manager.Cli("network", "create", "--subnet", "10.73.0.0/24", Network);
        var expected = new Dictionary<string, string[]>();
        for (var i = 0; i < Services; i++)
        {
            manager.Cli("service", "create", "--network", Network, "--port", "80", Name(i));
            expected[Name(i)] = [(string)manager.CliJson("service", "inspect", Name(i))[0]!["vip4"]!];
        }

        var endpoints = Enumerable.Range(0, Endpoints).Select(i => cluster.Attach($"task{i}", manager, Network, Name(i))).ToList();
        for (var i = 0; i < Endpoints; i++)
            expected[$"tasks.{Name(i)}"] = [endpoints[i].Address!];
        var client = cluster.Attach("client", node, Network);
        Wait.Until("node 2 knows every name", () => expected.All(e => client.Exec("dig", "+short", "+tries=1", $"@{Server}", e.Key).Text == e.Value[0]));
        // Silence, not a refusal: every question of an outside name costs a time-out.
        Commands.In(cluster.Outside, "iptables", "-I", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP").Succeeded();

        File.WriteAllLines(Path.Combine(cluster.Directory, "queries"), expected.Keys.Select(name => name + " A"));
        File.WriteAllLines(Path.Combine(cluster.Directory, "outside"), Enumerable.Range(0, 1000).Select(i => $"n{i}.outside.example A"));
        await File.WriteAllTextAsync(Path.Combine(cluster.Directory, "expected.json"), JsonSerializer.Serialize(expected));
        var seconds = plan.Duration.TotalSeconds.ToString(CultureInfo.InvariantCulture);
        var report = Path.Combine(cluster.Directory, "dnsperf.log");
        var checker = client.Start("python3", Path.Combine(Tree.Root, "tests/cluster/dns/dns_checker.py"), Server, Path.Combine(cluster.Directory, "expected.json")).Says("running");
        client.Start("dnsperf", "-s", Server, "-d", Path.Combine(cluster.Directory, "outside"), "-l", seconds, "-Q", "50", "-t", "10");
        var load = client.Start(
            "sh", "-c", $"exec dnsperf -v -e -s {Server} -d {cluster.Directory}/queries -l {seconds} -c 20 -q 5000 -Q {Cluster.Number(plan.Rate)} -t 30 >{report}");

        using var stop = new CancellationTokenSource();
        var changes = ChangeAsync(manager, endpoints, plan.Changes, stop.Token);
        for (var i = 1; i <= plan.Kills; i++)
        {
            await Task.Delay(plan.Duration / (plan.Kills + 1));
            node.Kill();
            node.Start();
        }

        Wait.Until("dnsperf has ended", () => load.Ended, plan.Duration + TimeSpan.FromMinutes(2));
        await stop.CancelAsync();
        var (made, elapsed) = await changes;
        var judged = JsonNode.Parse(checker.End("TERM").Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1])!;
        var result = Read(report);

        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"queries {result.Answered} answered of {result.Sent}, {result.Answered / plan.Duration.TotalSeconds:0}/s (asked {plan.Rate}); lost {result.Sent - result.Answered}; not NOERROR {result.Wrong}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"latency p50 {result.P50 * 1000:0.000} ms, p99 {result.P99 * 1000:0.000} ms, p99 without the restarts {result.QuietP99 * 1000:0.000} ms, max {result.Max * 1000:0} ms"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"endpoint changes {made}, {made / elapsed.TotalSeconds:0}/s; kills {plan.Kills}"));
        output.WriteLine($"checked one by one: {judged.ToJsonString()}");
        Assert.Equal(0, result.Wrong);
        Assert.InRange(result.Sent - result.Answered, 0, InHand * plan.Kills);
        Assert.Equal(0, (int)judged["wrong"]!);
        Assert.Equal(0, (int)judged["unanswered"]!);
        Assert.True((int)judged["right"]! > 50, judged.ToJsonString());
        Assert.True(result.Answered > 1000 && made > 20, "there was no load");
    }

    private static string Name(int i) => "svc" + Cluster.Number(i);

    /// <summary>Sets weights through the manager's API at a rate, from several connections.</summary>
    private static async Task<(int Made, TimeSpan Elapsed)> ChangeAsync(ClusterNode manager, List<Container> endpoints, int rate, CancellationToken stop)
    {
        const int Connections = 16;
        using var http = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancel) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(manager.Socket), cancel);
                return new NetworkStream(socket, ownsSocket: true);
            },
        });
        var clock = Stopwatch.StartNew();
        var started = 0;
        var made = 0;
        async Task Work()
        {
            while (!stop.IsCancellationRequested)
            {
                var mine = Interlocked.Increment(ref started);
                if (TimeSpan.FromSeconds((double)mine / rate) - clock.Elapsed is { } early && early > TimeSpan.FromMilliseconds(1))
                    await Task.Delay(early, CancellationToken.None);
                using var body = JsonContent.Create(new { weight = 1 + mine % 16 });
                using var answer = await http.PatchAsync($"http://localhost/v1/endpoints/{endpoints[mine % endpoints.Count].EndpointId}", body, CancellationToken.None);
                answer.EnsureSuccessStatusCode();
                Interlocked.Increment(ref made);
            }
        }

        await Task.WhenAll(Enumerable.Range(0, Connections).Select(_ => Task.Run(Work, CancellationToken.None)));
        return (made, clock.Elapsed);
    }

    private sealed record Load(int Sent, int Answered, int Wrong, double P50, double P99, double QuietP99, double Max);

    private static Load Read(string report)
    {
        var latencies = new List<double>();
        var (sent, wrong) = (0, 0);
        foreach (var line in File.ReadLines(report))
        {
            var fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (line.StartsWith("> ", StringComparison.Ordinal) && double.TryParse(fields[^1], CultureInfo.InvariantCulture, out var latency))
            {
                latencies.Add(latency);
                wrong += fields[1] == "NOERROR" ? 0 : 1;
            }
            else if (fields is ["Queries", "sent:", var count])
            {
                sent = int.Parse(count, CultureInfo.InvariantCulture);
            }
        }

        Assert.True(latencies.Count > 0 && sent > 0, $"dnsperf said nothing in {report}");
        latencies.Sort();
        // What waited in the socket for the successor waited longest; half a second is more than any answer takes otherwise.
        var quiet = latencies.FindAll(l => l < 0.5);
        return new(sent, latencies.Count, wrong, latencies[latencies.Count / 2], latencies[latencies.Count * 99 / 100], quiet[quiet.Count * 99 / 100], latencies[^1]);
    }
}

/// <inheritdoc/>
public sealed class SteadyDnsTests(ITestOutputHelper output) : SteadyDns(output)
{
    [Fact]
    public Task Owned_names_are_answered_through_changes_a_restart_and_silent_upstreams() =>
        RunAsync(new(TimeSpan.FromSeconds(8), Rate: 2000, Changes: 100, Kills: 1));
}

/// <inheritdoc/>
[Trait("Category", "Soak")]
public sealed class SteadyDnsSoakTests(ITestOutputHelper output) : SteadyDns(output)
{
    [Fact]
    public Task Owned_names_are_answered_through_changes_three_restarts_and_silent_upstreams() =>
        RunAsync(new(TimeSpan.FromSeconds(60), Rate: 20_000, Changes: 1000, Kills: 3));
}
