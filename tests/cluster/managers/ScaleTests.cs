using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>
/// One real manager, and agents that are light: each has a certificate, a watch stream and a heartbeat a second over TLS of its own, but
/// no kernel to program. They begin at the registry's revision, as an agent does that has its file.
/// </summary>
public sealed class RegistryScale(Xunit.Abstractions.ITestOutputHelper output)
{
    private const int PerSecond = 10, Changes = 200;
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(10);

    [Fact]
    [Trait("Category", "Soak")]
    public async Task Registry_scale_a_thousand_agents_and_fifty_thousand_endpoints()
    {
        var agents = Number("OVERLAYNET_AGENTS") ?? 1000;
        var endpoints = Number("OVERLAYNET_ENDPOINTS") ?? 50_000;
        using var cluster = Cluster.Lay(1);
        var node = cluster.Nodes[0];
        node.Start();
        node.Cli("init", "--address", node.Address, "--name", "node1");
        node.Cli("network", "create", "--subnet", "10.128.0.0/15", "app");
        var token = node.Cli("token", "show", "--quiet", "worker").Text;
        using var api = new NodeApi(node);
        using var ns = NetworkNamespace.Open($"/run/netns/{node.Netns}");
        var watch = Stopwatch.StartNew();

        var joined = new ConcurrentBag<LightAgent>();
        await Parallel.ForAsync(0, agents, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (i, _) => joined.Add(await LightAgent.JoinAsync(api, node, ns, token, i)));
        output.WriteLine($"{watch.Elapsed.TotalSeconds:0.0} s: {joined.Count} nodes joined");
        var ids = joined.Select(a => a.NodeId).ToList();
        await Parallel.ForAsync(0, endpoints, new ParallelOptions { MaxDegreeOfParallelism = 64 }, async (i, _) =>
        {
            var id = string.Create(CultureInfo.InvariantCulture, $"scale{i:d7}");
            var (status, body, _) = await api.WriteAsync(HttpMethod.Post, "/v1/endpoints", new JsonObject { ["id"] = id, ["name"] = id, ["nodeId"] = ids[i % ids.Count], ["network"] = "app" });
            Assert.True(status == HttpStatusCode.Created, $"{status} {body}");
        });
        output.WriteLine($"{watch.Elapsed.TotalSeconds:0.0} s: {endpoints} endpoints made");

        var revision = (long)node.CliJson("status")["registryRevision"]!;
        foreach (var agent in joined)
            agent.Start(revision);
        Wait.Until("every agent follows", () => joined.All(a => a.Lines > 0), TimeSpan.FromMinutes(5));
        output.WriteLine($"{watch.Elapsed.TotalSeconds:0.0} s: every agent follows and sends a heartbeat a second");

        var cpu = Cpu(node.Pid);
        var measured = Stopwatch.StartNew();
        await Task.Delay(Quiet);
        output.WriteLine($"manager: CPU {(Cpu(node.Pid) - cpu) / measured.Elapsed.TotalSeconds * 100:0} % of one processor with heartbeats alone");
        cpu = Cpu(node.Pid);
        measured.Restart();
        var sent = new Dictionary<long, long>();
        using (var pace = new PeriodicTimer(TimeSpan.FromSeconds(1.0 / PerSecond)))
        {
            for (var i = 0; i < Changes && await pace.WaitForNextTickAsync(); i++)
            {
                var at = Stopwatch.GetTimestamp();
                var (_, _, changed) = await api.WriteAsync(HttpMethod.Patch, $"/v1/endpoints/scale{i % endpoints:d7}", new JsonObject { ["weight"] = 2 + (i % 50) });
                sent[changed] = at;
            }
        }
        Wait.Until("every agent has every change", () => joined.All(a => a.Last >= sent.Keys.Max()), TimeSpan.FromMinutes(2));
        var used = (Cpu(node.Pid) - cpu) / measured.Elapsed.TotalSeconds;
        var delays = joined.SelectMany(a => a.Heard).Where(h => sent.ContainsKey(h.Revision)).Select(h => Stopwatch.GetElapsedTime(sent[h.Revision], h.At).TotalMilliseconds).Order().ToList();
        output.WriteLine($"propagation of {sent.Count} changes at {PerSecond}/s to {joined.Count} agents, from before the request: p50 {delays[delays.Count / 2]:0} ms, p99 {delays[(int)(delays.Count * 0.99)]:0} ms, max {delays[^1]:0} ms ({delays.Count} samples)");
        output.WriteLine($"manager: RSS {Rss(node.Pid)} MB, CPU {used * 100:0} % of one processor, heartbeats of {joined.Count} agents included");
        Assert.Equal(sent.Count * joined.Count, delays.Count);

        node.Kill();
        var restart = Stopwatch.StartNew();
        node.Start();
        var up = restart.Elapsed;
        var (_, _, marker) = await api.WriteAsync(HttpMethod.Patch, "/v1/endpoints/scale0000001", new JsonObject { ["weight"] = 77 });
        Wait.Until("every agent is in step again", () => joined.All(a => a.Last >= marker), TimeSpan.FromMinutes(3), () => $"{joined.Count(a => a.Last >= marker)} of {joined.Count}");
        output.WriteLine($"manager killed and started: its API answers after {up.TotalSeconds:0.0} s, every agent is in step {restart.Elapsed.TotalSeconds:0.0} s after the start; snapshots sent: {joined.Sum(a => a.Snapshots)}; RSS {Rss(node.Pid)} MB");
        output.WriteLine($"machine: {Environment.ProcessorCount} processors, load {File.ReadAllText("/proc/loadavg").Split(' ')[0]} (agents and whatever else ran included)");
        foreach (var agent in joined)
            await agent.DisposeAsync();
    }

    private static int? Number(string variable) => int.TryParse(Environment.GetEnvironmentVariable(variable), out var number) ? number : null;

    /// <summary>Megabytes.</summary>
    internal static long Rss(int pid) => long.Parse(File.ReadLines($"/proc/{pid}/status").First(l => l.StartsWith("VmRSS", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) / 1024;

    /// <summary>Seconds of processor time; fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms.</summary>
    internal static double Cpu(int pid)
    {
        var fields = File.ReadAllText($"/proc/{pid}/stat").Split(") ")[1].Split(' ');
        return (long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture)) / 100.0;
    }

    private sealed class LightAgent : IAsyncDisposable
    {
        private readonly HttpClient _http;
        private readonly X509Certificate2 _certificate;
        private readonly CancellationTokenSource _stop = new();
        private readonly List<Task> _running = [];
        private long _last;
        private int _lines;

        private LightAgent(string nodeId, X509Certificate2 certificate, ClusterNode manager, NetworkNamespace ns)
        {
            NodeId = nodeId;
            _certificate = certificate;
            var address = new IPEndPoint(IPAddress.Parse(manager.Address), 7373);
            _http = new HttpClient(new SocketsHttpHandler
            {
                ConnectCallback = async (_, cancel) =>
                {
                    var socket = ns.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });
                    await socket.ConnectAsync(address, cancel);
                    return new NetworkStream(socket, ownsSocket: true);
                },
                SslOptions = new SslClientAuthenticationOptions
                {
                    // A thousand agents share their processors with the manager: none looks for a chain at each handshake.
                    ClientCertificateContext = SslStreamCertificateContext.Create(certificate, null, offline: true),
                    CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck, DisableCertificateDownloads = true },
                    RemoteCertificateValidationCallback = (_, _, _, _) => true,
                },
            })
            { BaseAddress = new Uri($"https://{manager.Address}:7373"), Timeout = Timeout.InfiniteTimeSpan };
        }

        public string NodeId { get; }

        public long Last => Volatile.Read(ref _last);

        public int Lines => Volatile.Read(ref _lines);

        public int Snapshots { get; private set; }

        public ConcurrentQueue<(long Revision, long At)> Heard { get; } = new();

        public static async Task<LightAgent> JoinAsync(NodeApi api, ClusterNode manager, NetworkNamespace ns, string token, int index)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var csr = new CertificateRequest("CN=light", key, HashAlgorithmName.SHA256).CreateSigningRequestPem();
            var (status, body, _) = await api.SendAsync(HttpMethod.Post, "/v1/join", new JsonObject
            {
                ["token"] = token,
                ["nodeName"] = $"light{Cluster.Number(index)}",
                ["address"] = $"10.77.{Cluster.Number(index / 250)}.{Cluster.Number(1 + (index % 250))}",
                ["csr"] = csr,
            });
            Assert.True(status == HttpStatusCode.OK, $"{status} {body}");
            return new LightAgent((string)body!["nodeId"]!, X509Certificate2.CreateFromPem((string)body["certificate"]!, key.ExportPkcs8PrivateKeyPem()), manager, ns);
        }

        public void Start(long revision)
        {
            _last = revision;
            _running.Add(Task.Run(WatchAsync));
            _running.Add(Task.Run(BeatAsync));
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            foreach (var task in _running)
                await task.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            _http.Dispose();
            _certificate.Dispose();
            _stop.Dispose();
        }

        private async Task WatchAsync()
        {
            while (!_stop.IsCancellationRequested)
            {
                try
                {
                    using var response = await _http.GetAsync(string.Create(CultureInfo.InvariantCulture, $"/v1/watch?from={Last}"), HttpCompletionOption.ResponseHeadersRead, _stop.Token);
                    response.EnsureSuccessStatusCode();
                    using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(_stop.Token));
                    while (await reader.ReadLineAsync(_stop.Token) is { } line)
                    {
                        var at = Stopwatch.GetTimestamp();
                        Interlocked.Increment(ref _lines);
                        // Light: the revision alone is read, which comes before what changed.
                        var from = line.IndexOf("\"revision\":", StringComparison.Ordinal) + 11;
                        var revision = long.Parse(line.AsSpan(from, line.AsSpan(from).IndexOfAny(',', '}')), CultureInfo.InvariantCulture);
                        if (line.Contains("\"snapshot\":", StringComparison.Ordinal))
                            Snapshots++;
                        if (revision > Last)
                            Heard.Enqueue((revision, at));
                        Volatile.Write(ref _last, Math.Max(Last, revision));
                    }
                }
                catch (Exception e) when (e is HttpRequestException or IOException)
                {
                    await Task.Delay(Random.Shared.Next(50, 500), CancellationToken.None);
                }
            }
        }

        private async Task BeatAsync()
        {
            await Task.Delay(Random.Shared.Next(1000), CancellationToken.None);
            using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
            while (await timer.WaitForNextTickAsync(_stop.Token))
            {
                try
                {
                    using var response = await _http.PostAsJsonAsync($"/v1/nodes/{NodeId}/heartbeat", new { nodeId = NodeId, appliedRevision = Last }, _stop.Token);
                }
                catch (HttpRequestException)
                {
                    // The manager is away; the next beat may be heard.
                }
            }
        }
    }
}
