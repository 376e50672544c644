using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Managers;

/// <summary>Nodes of which the first three (or as many as are asked for) become managers, with a service, backends and clients on top.</summary>
public sealed class ManagersCluster : IDisposable
{
    public const string Network = "app";

    /// <param name="workers">Nodes after the three managers.</param>
    /// <param name="settings">Further lines of every daemon's configuration.</param>
    /// <param name="count">How many managers.</param>
    public ManagersCluster(int workers = 1, bool managers = true, string settings = "", int count = 3)
    {
        Cluster = Cluster.Lay(count + workers);
        try
        {
            foreach (var node in Cluster.Nodes)
            {
                File.AppendAllText($"{node.Directory}/config.yaml", settings);
                node.Start();
            }
            Nodes[0].Cli("init", "--address", Nodes[0].Address, "--name", "node1");
            foreach (var node in managers ? Nodes.Take(count).Skip(1) : [])
                Join(node, "manager");
            foreach (var node in Nodes.Skip(count))
                Join(node, "worker");
            Nodes[0].Cli("network", "create", "--subnet", "10.10.0.0/24", Network);
            Nodes[0].Cli("service", "create", "--network", Network, "--port", "80", "web");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public Cluster Cluster { get; }

    public IReadOnlyList<ClusterNode> Nodes => Cluster.Nodes;

    /// <summary>A backend and a client on a node.</summary>
    public Container Populate(ClusterNode node)
    {
        Cluster.AddBackend($"web{Cluster.Number(node.Index)}", node, Network, "web");
        return Cluster.Attach($"client{Cluster.Number(node.Index)}", node, Network);
    }

    public void Join(ClusterNode node, string role) => node.Cli("join", "--token", Nodes[0].Cli("token", "show", "--quiet", role).Text, "--address", node.Address, "--name", node.Name, Nodes[0].Address);

    /// <summary>What a manager says of the managers.</summary>
    public static JsonNode Managers(ClusterNode node) => node.CliJson("node", "ls", "--managers");

    public static void UntilVoters(ClusterNode node, int voters) => Wait.Until(
        $"{node.Name} sees {Cluster.Number(voters)} voters that answer",
        () => node.TryCli("node", "ls", "--managers", "--json") is { Code: 0 } answer && JsonNode.Parse(answer.Output) is var report && (int)report!["voters"]! == voters && (int)report["reachable"]! == voters && (bool)report["writable"]!,
        TimeSpan.FromSeconds(60), () => node.TryCli("node", "ls").ToString());

    public int Leader() => Nodes.ToList().FindIndex(n => n.Name == (string?)Managers(Nodes[0])["managers"]!.AsArray().FirstOrDefault(m => (bool)m!["leader"]!)?["name"]);

    public static int EtcdPid(ClusterNode node) => int.Parse(File.ReadAllText($"{node.State}/etcd.pid").Split(' ')[0], CultureInfo.InvariantCulture);

    /// <summary>The machine's end, as far as the registry goes: its daemon and its etcd are killed.</summary>
    public static void KillManager(ClusterNode node)
    {
        Signal(EtcdPid(node), "KILL");
        node.Kill();
    }

    /// <summary>Nothing comes in or goes out of a node on the underlay.</summary>
    /// <returns>What ends it.</returns>
    public static Action CutOff(ClusterNode node)
    {
        Commands.In(node.Netns, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority -300; }; add chain inet cut out { type filter hook output priority -300; }; add rule inet cut in iifname eth0 drop; add rule inet cut out oifname eth0 drop").Succeeded();
        return () => Commands.In(node.Netns, "nft", "delete", "table", "inet", "cut").Succeeded();
    }

    public static void Signal(int pid, string signal) => Commands.Run("kill", $"-{signal}", Cluster.Number(pid));

    public void Dispose() => Cluster.Dispose();
}

/// <summary>The API of a node's daemon, without the start of a program for each request.</summary>
public sealed class NodeApi : IDisposable
{
    private readonly HttpClient _http;

    /// <param name="timeout">Of a call; null: 20 s.</param>
    public NodeApi(ClusterNode node, TimeSpan? timeout = null)
    {
        var socket = node.Socket;
        _http = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancel) =>
            {
                var connection = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await connection.ConnectAsync(new UnixDomainSocketEndPoint(socket), cancel);
                return new NetworkStream(connection, ownsSocket: true);
            },
        })
        {
            BaseAddress = new Uri("http://localhost"),
            Timeout = timeout ?? TimeSpan.FromSeconds(20),
        };
    }

    /// <returns>With the revision at which the write can be seen; 0 when there is none.</returns>
    public async Task<(HttpStatusCode Status, JsonNode? Body, long Revision)> WriteAsync(HttpMethod method, string path, JsonNode? body = null)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
            request.Content = JsonContent.Create(body);
        using var response = await _http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        var revision = response.Headers.TryGetValues(OverlayNet.Contracts.Protocol.RevisionHeader, out var header) ? long.Parse(header.First(), CultureInfo.InvariantCulture) : 0;
        return (response.StatusCode, text.Length == 0 ? null : JsonNode.Parse(text), revision);
    }

    /// <summary>The lines of a stream, as they come.</summary>
    public async IAsyncEnumerable<string> LinesAsync(string path, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
    {
        using var response = await _http.GetAsync(path, HttpCompletionOption.ResponseHeadersRead, cancel);
        if (!response.IsSuccessStatusCode)
            yield break;
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(cancel));
        while (await reader.ReadLineAsync(cancel) is { } line)
        {
            if (line.Length > 0)
                yield return line;
        }
    }

    public async Task<(HttpStatusCode Status, JsonNode? Body, string Read)> SendAsync(HttpMethod method, string path, JsonNode? body = null)
    {
        using var request = new HttpRequestMessage(method, path);
        if (body is not null)
            request.Content = JsonContent.Create(body);
        using var response = await _http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        return (response.StatusCode, text.Length == 0 ? null : JsonNode.Parse(text), response.Headers.TryGetValues("X-OverlayNet-Read", out var read) ? read.First() : "");
    }

    public Task<(HttpStatusCode Status, JsonNode? Body, string Read)> CreateNetworkAsync(string name, string subnet) =>
        SendAsync(HttpMethod.Post, "/v1/networks", new JsonObject { ["name"] = name, ["subnet"] = subnet, ["allowOverlap"] = true });

    public void Dispose() => _http.Dispose();
}

/// <summary>Writes through one manager after the other for as long as it runs, and remembers what was acknowledged, and when.</summary>
public sealed class SteadyWriter : IDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly List<NodeApi> _apis;
    private readonly Task _run;
    private readonly string _prefix;
    private long _last = Stopwatch.GetTimestamp();
    private TimeSpan _gap;

    public SteadyWriter(string prefix, params IEnumerable<ClusterNode> nodes)
    {
        _prefix = prefix;
        _apis = [.. nodes.Select(n => new NodeApi(n))];
        _run = Task.Run(RunAsync);
    }

    public List<string> Acknowledged { get; } = [];

    public List<string> Refusals { get; } = [];

    /// <summary>The longest time between two acknowledged writes, the first of which began after the second had been possible.</summary>
    public TimeSpan LongestGap => _gap;

    public void Stop()
    {
        _stop.Cancel();
        _run.GetAwaiter().GetResult();
    }

    public void Dispose()
    {
        _stop.Cancel();
        _run.Wait(TimeSpan.FromSeconds(30));
        foreach (var api in _apis)
            api.Dispose();
    }

    private async Task RunAsync()
    {
        for (var i = 0; !_stop.IsCancellationRequested; i++)
        {
            var name = $"{_prefix}{Cluster.Number(i)}";
            try
            {
                var (status, body, _) = await _apis[i % _apis.Count].CreateNetworkAsync(name, $"10.{Cluster.Number(100 + (i / 250 % 100))}.{Cluster.Number(i % 250)}.0/24");
                if (status == HttpStatusCode.Created)
                {
                    var now = Stopwatch.GetTimestamp();
                    var gap = Stopwatch.GetElapsedTime(_last, now);
                    _gap = gap > _gap ? gap : _gap;
                    _last = now;
                    Acknowledged.Add(name);
                }
                else
                {
                    Refusals.Add($"{(int)status} {body}");
                }
            }
            catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
            {
                Refusals.Add(e.Message);
            }
            await Task.Delay(30);
        }
    }
}
