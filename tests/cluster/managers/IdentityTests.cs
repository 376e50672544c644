using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Certificates, CA and tokens change under load without a failure; who may not is refused, and that is written down.</summary>
public sealed class IdentityTests
{
    [Fact]
    public Task Certificates_and_CA_are_rotated_under_load_and_impostors_refused() => RunAsync(requestsPerSecond: 40, rotations: 1);

    [Fact]
    [Trait("Category", "Soak")]
    public Task Identity_soak_rotation_under_500_requests_a_second() => RunAsync(requestsPerSecond: 500, rotations: 5);

    private static async Task RunAsync(int requestsPerSecond, int rotations)
    {
        // A certificate lives so long that each is renewed within the test.
        using var world = new ManagersCluster(workers: 1, settings: "manager:\n  certificateLife: 45s\n");
        var nodes = world.Nodes;
        var worker = nodes[3];
        ManagersCluster.UntilVoters(nodes[0], 3);
        var oldPem = $"{world.Cluster.Directory}/old.pem";
        File.Copy($"{worker.State}/identity/node.pem", oldPem);
        var issued = Stopwatch.StartNew();
        var before = nodes.Select(n => Serial(n)).ToList();
        var firstCa = (string)nodes[0].CliJson("ca", "show")["signer"]!;

        using (var load = new Load(nodes, requestsPerSecond))
        {
            for (var i = 0; i < rotations; i++)
            {
                var signer = (string)nodes[0].CliJson("ca", "show")["signer"]!;
                nodes[i % 3].Cli("ca", "rotate");
                Wait.Until("the CA is replaced", () => nodes[0].CliJson("ca", "show") is var ca && (string)ca["phase"]! == "stable" && (string)ca["signer"]! != signer, TimeSpan.FromSeconds(120), () => nodes[0].Cli("ca", "show").Output + load.Said);
                nodes[(i + 1) % 3].Cli("token", "rotate", "worker");
            }
            Wait.Until("every certificate has been renewed", () => nodes.Select((n, i) => Serial(n) != before[i]).All(b => b), TimeSpan.FromSeconds(90));
            Assert.True(load.Done > 100, $"{load.Done} requests only");
            load.Stop();
            Assert.True(load.Failures.Count == 0, $"{load.Failures.Count} of {load.Done} requests failed:\n{string.Join('\n', load.Failures.Take(10))}");
        }
        Wait.Until("the worker trusts the new CA alone", () => File.ReadAllText($"{worker.State}/identity/ca.pem").Split("BEGIN CERTIFICATE").Length == 2);
        ManagersCluster.UntilVoters(nodes[0], 3);

        // A worker's own certificate, for somebody else's affairs and for a manager's.
        var id = (string)nodes[0].CliJson("node", "inspect", "node1").AsArray()[0]!["id"]!;
        Assert.Equal("403", Post(worker, "/v1/nodes/" + id + "/heartbeat", $"{{\"nodeId\":\"{id}\"}}"));
        Assert.Equal("403", Post(worker, "/v1/networks", "{\"name\":\"stolen\"}"));
        Assert.Equal("403", Post(worker, "/v1/endpoints", $"{{\"id\":\"0123456789ab\",\"name\":\"x\",\"nodeId\":\"{id}\",\"network\":\"app\"}}"));
        UntilAudited(nodes[0], $"POST /v1/nodes/{id}/heartbeat 403 forbidden by node node4");
        UntilAudited(nodes[0], "POST /v1/networks 403 forbidden by node node4");
        // TLS 1.2 and a certificate of a CA that is no more are not even talked to.
        Assert.NotEqual(0, Curl(worker, "--tls-max", "1.2", $"https://{nodes[0].Address}:7373/v1/ca").Code);
        Assert.NotEqual("200", Curl(worker, "--cert", oldPem, "--key", oldPem, $"https://{nodes[0].Address}:7373/v1/nodes").Text);
        Wait.Until("it has expired too", () => issued.Elapsed > TimeSpan.FromSeconds(46), TimeSpan.FromSeconds(60));
        Assert.NotEqual("200", Curl(worker, "--cert", oldPem, "--key", oldPem, $"https://{nodes[0].Address}:7373/v1/nodes").Text);
        Wait.Until("the refusal is recorded", () => nodes[0].Cli("events").Output.Contains("certificate-refused", StringComparison.Ordinal),
            seen: () => $"{Curl(worker, "-v", "--cert", oldPem, "--key", oldPem, $"https://{nodes[0].Address}:7373/v1/nodes")}\n{string.Join('\n', nodes[0].Cli("events").Lines.TakeLast(10))}\n{string.Join('\n', File.ReadLines(nodes[0].LogFile).TakeLast(10))}");
        Assert.Contains("expired", nodes[0].Cli("events").Output, StringComparison.Ordinal);

        // Tokens: one of the first CA, a wrong one, one that has ended, one that was revoked, one that is used up.
        var once = (string)nodes[0].CliJson("token", "create", "--once", "worker")["token"]!;
        var brief = (string)nodes[0].CliJson("token", "create", "--ttl", "1", "worker")["token"]!;
        var revoked = nodes[0].CliJson("token", "create", "worker");
        nodes[1].Cli("token", "revoke", (string)revoked["id"]!);
        Assert.Contains(nodes[0].CliJson("token", "ls").AsArray(), t => (bool)t!["once"]! && (string)t["state"]! == "usable");
        await Task.Delay(1500);
        foreach (var (token, why) in new[] { (brief, "expired"), ((string)revoked["token"]!, "revoked"), (once[..^3] + "aaa", "token") })
            Assert.Contains(why, Join(worker, nodes[0], token, "node9", "192.0.2.77"), StringComparison.Ordinal);
        Assert.Contains("certificate", Join(worker, nodes[0], once, "node9", "192.0.2.77"), StringComparison.Ordinal);
        Assert.Contains("used up, by node9", Join(worker, nodes[1], once, "node10", "192.0.2.78"), StringComparison.Ordinal);
        // The very join that passed, said again to another manager.
        Assert.Contains("used up, by node9", Join(worker, nodes[2], once, "node9", "192.0.2.77"), StringComparison.Ordinal);
        UntilAudited(nodes[2], "POST /v1/join 403 token-invalid by anonymous");
        UntilAudited(nodes[1], "POST /v1/join 403 token-invalid by anonymous");
        Assert.Contains("used up", nodes[1].Cli("events").Output, StringComparison.Ordinal);
        nodes[0].Cli("node", "rm", "--force", "node9");
        UntilAudited(nodes[0], "DELETE /v1/nodes/node9");
        Assert.NotEqual(firstCa, (string)nodes[2].CliJson("ca", "show")["signer"]!);
    }

    private static string Serial(ClusterNode node) => Commands.Run("openssl", "x509", "-noout", "-serial", "-in", $"{node.State}/identity/node.pem").Succeeded().Text;

    private static CommandResult Curl(ClusterNode node, params string[] arguments) => Commands.In(node.Netns, "curl",
        ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", "--cacert", $"{node.State}/identity/ca.pem", .. arguments]);

    private static string Post(ClusterNode node, string path, string body) => Curl(node,
        "--cert", $"{node.State}/identity/node.pem", "--key", $"{node.State}/identity/node.pem", "-H", "Content-Type: application/json", "--data", body, $"https://192.0.2.1:7373{path}").Text;

    /// <summary>A join as a joiner sends it, from a node's namespace.</summary>
    private static string Join(ClusterNode from, ClusterNode manager, string token, string name, string address)
    {
        var key = $"{from.Directory}/{name}.key";
        var csr = Commands.Run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-subj", $"/CN={name}").Succeeded().Output;
        var body = new JsonObject { ["token"] = token, ["nodeName"] = name, ["address"] = address, ["csr"] = csr };
        return Commands.In(from.Netns, "curl", "-s", "--max-time", "10", "--cacert", $"{from.State}/identity/ca.pem", "-H", "Content-Type: application/json", "--data", body.ToJsonString(), $"https://{manager.Address}:7373/v1/join").Output;
    }

    private static void UntilAudited(ClusterNode node, string what)
    {
        string Lines() => string.Join('\n', File.ReadLines($"{node.State}/audit.ndjson").Select(l => JsonNode.Parse(l)!).Select(e => $"{e["action"]} {e["object"]} {e["message"]}"));
        Wait.Until($"the audit log has '{what}'", () => Lines().Contains(what, StringComparison.Ordinal), seen: () => string.Join('\n', Lines().Split('\n').TakeLast(20)));
    }

    /// <summary>Writes at every manager's socket (etcd over TLS) and through the worker's (forwarded over TLS), and reads, at a rate.</summary>
    private sealed class Load : IDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly List<Task> _clients = [];
        private readonly List<NodeApi> _apis;
        private readonly string _workerId;
        private int _done;

        public Load(IReadOnlyList<ClusterNode> nodes, int perSecond)
        {
            _apis = [.. nodes.Select(n => new NodeApi(n))];
            _workerId = (string)nodes[3].CliJson("status")["nodeId"]!;
            var clients = Math.Max(4, perSecond / 20);
            for (var i = 0; i < clients; i++)
            {
                var client = i;
                _clients.Add(Task.Run(() => RunAsync(client, TimeSpan.FromSeconds((double)clients / perSecond))));
            }
        }

        public int Done => _done;

        public System.Collections.Concurrent.ConcurrentQueue<string> Failures { get; } = new();

        public string Said => $"{_done} requests, {Failures.Count} failed: {Failures.FirstOrDefault()}";

        public void Stop()
        {
            _stop.Cancel();
            Task.WhenAll(_clients).Wait(TimeSpan.FromSeconds(30));
        }

        public void Dispose()
        {
            Stop();
            _apis.ForEach(a => a.Dispose());
        }

        private async Task RunAsync(int client, TimeSpan period)
        {
            using var timer = new PeriodicTimer(period);
            for (var n = 0; !_stop.IsCancellationRequested; n++)
            {
                await timer.WaitForNextTickAsync(CancellationToken.None);
                var api = _apis[client % _apis.Count];
                var id = string.Create(CultureInfo.InvariantCulture, $"load{client:d3}{n / 4:d5}");
                var (method, path, body) = (n % 4) switch
                {
                    0 => (HttpMethod.Post, "/v1/endpoints", new JsonObject { ["id"] = id, ["name"] = id, ["nodeId"] = _workerId, ["network"] = ManagersCluster.Network }),
                    1 => (HttpMethod.Patch, $"/v1/endpoints/{id}", new JsonObject { ["weight"] = n % 100 }),
                    2 => (HttpMethod.Get, "/v1/nodes", (JsonObject?)null),
                    _ => (HttpMethod.Delete, $"/v1/endpoints/{id}", null),
                };
                try
                {
                    var (status, answer, _) = await api.SendAsync(method, path, body);
                    if (status is not (HttpStatusCode.OK or HttpStatusCode.Created))
                        Failures.Enqueue($"{DateTime.UtcNow:HH:mm:ss.fff} {method} {path} at client {client}: {(int)status} {answer}");
                }
                catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
                {
                    Failures.Enqueue($"{DateTime.UtcNow:HH:mm:ss.fff} {method} {path} at client {client}: {e.Message}");
                }
                Interlocked.Increment(ref _done);
            }
        }
    }
}
