using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.Contracts;

namespace OverlayNet.ClusterTests.Managers.Faults;

/// <summary>Clients of three managers during a schedule: writers, each the only one of its keys; a reader at each manager; watchers that move on when theirs is silent.</summary>
public sealed class FaultClients : IAsyncDisposable
{
    private const string VersionLabel = "version";
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(5), Silence = TimeSpan.FromSeconds(4);
    private readonly IReadOnlyList<ClusterNode> _nodes;
    private readonly string _prefix;
    private readonly string _nodeId;
    private readonly CancellationTokenSource _stop = new(), _stopWatching = new();
    private readonly ConcurrentQueue<ClientWrite> _writes = new();
    private readonly ConcurrentQueue<ClientRead> _reads = new();
    private readonly ConcurrentQueue<WatchLine>[] _lines = [new(), new(), new()];
    private readonly ConcurrentQueue<string> _unexpected = new();
    private readonly ConcurrentDictionary<string, byte> _known = new();
    private readonly List<Task> _clients = [];
    private readonly List<Task> _watchers = [];
    private readonly long _began;

    public FaultClients(IReadOnlyList<ClusterNode> nodes, string prefix, int seed)
    {
        _nodes = nodes;
        _prefix = prefix;
        _nodeId = (string)nodes[0].CliJson("node", "inspect", "node1").AsArray()[0]!["id"]!;
        using (var api = new NodeApi(nodes[0]))
            _began = (long)api.SendAsync(HttpMethod.Get, "/v1/snapshot").GetAwaiter().GetResult().Body!["revision"]!;
        for (var i = 0; i < 3; i++)
        {
            var (at, random) = (i, new Random((seed * 10) + i));
            _watchers.Add(Task.Run(() => WatchAsync(at)));
            _clients.Add(Task.Run(() => WriteAsync(at, random)));
            _clients.Add(Task.Run(() => ReadAsync(at, random.Next())));
        }
    }

    /// <summary>Answers no client should get, whatever happens to managers.</summary>
    public IReadOnlyCollection<string> Unexpected => _unexpected;

    public int Acknowledged => _writes.Count(w => w.Acknowledged);

    /// <summary>Ends the clients, lets the watchers reach the end, and gives what all saw.</summary>
    public async Task<RegistryHistory> FinishAsync()
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_clients);
        IReadOnlyList<SeenObject>? final = null;
        var last = 0L;
        foreach (var node in _nodes)
        {
            using var api = new NodeApi(node);
            JsonNode? body = null;
            Wait.Until($"{node.Name} reads fresh", () => api.SendAsync(HttpMethod.Get, "/v1/snapshot").GetAwaiter().GetResult() is { Status: HttpStatusCode.OK, Read: "fresh" } answer && (body = answer.Body) is not null);
            last = Math.Max(last, (long)body!["revision"]!);
            var objects = Objects(JsonSerializer.Deserialize(body.ToJsonString(), OverlayNetJson.Default.RegistrySnapshot)!.Endpoints);
            if (final is not null && !final.OrderBy(o => o.Key).SequenceEqual(objects.OrderBy(o => o.Key)))
                _unexpected.Enqueue($"{node.Name} has another registry in the end than the others");
            final = objects;
        }
        var seen = _writes.Where(w => w.Acknowledged).Select(w => w.Revision).DefaultIfEmpty(0).Max();
        Wait.Until("the watchers have reached the end", () => _lines.All(l => l.LastOrDefault()?.Revision >= seen), TimeSpan.FromSeconds(30),
            () => string.Join(", ", _lines.Select(l => l.LastOrDefault()?.Revision ?? 0)) + $" of {Cluster.Number((int)seen)}");
        await _stopWatching.CancelAsync();
        await Task.WhenAll(_watchers);
        return new RegistryHistory([.. _writes], [.. _reads], [.. _lines.SelectMany(l => l)], final!);
    }

    /// <summary>Removes what is left of the keys.</summary>
    public async Task ClearAsync(IReadOnlyList<SeenObject> left)
    {
        using var api = new NodeApi(_nodes[0]);
        foreach (var item in left)
            await api.SendAsync(HttpMethod.Delete, $"/v1/endpoints/{item.Key}");
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _stopWatching.CancelAsync();
        await Task.WhenAll([.. _clients, .. _watchers]).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
        _stopWatching.Dispose();
    }

    private List<SeenObject> Objects(IEnumerable<Endpoint> endpoints) => [.. endpoints.Where(e => e.Id.StartsWith(_prefix, StringComparison.Ordinal)).Select(Object)];

    private static SeenObject Object(Endpoint endpoint) =>
        new(endpoint.Id, int.Parse(endpoint.Labels[VersionLabel], CultureInfo.InvariantCulture), endpoint.Address4?.ToString());

    private async Task WriteAsync(int writer, Random random)
    {
        // All ids are of one length: a shorter one would also be taken for the beginning of others.
        var (at, count) = (writer, 0);
        var live = new List<(string Key, int Version, string? Address)>();
        var apis = _nodes.Select(n => new NodeApi(n, CallTimeout)).ToList();
        while (!_stop.IsCancellationRequested)
        {
            await Task.Delay(random.Next(30, 90), CancellationToken.None);
            var index = live.Count == 0 || (live.Count < 6 && random.Next(2) == 0) ? -1 : random.Next(live.Count);
            var (key, version, had) = index < 0 ? (string.Create(CultureInfo.InvariantCulture, $"{_prefix}{writer}x{count++:d5}"), -1, null) : live[index];
            version++;
            var deletes = version > 0 && random.Next(3) == 0;
            if (index >= 0)
                live.RemoveAt(index);
            var labels = new JsonObject { [VersionLabel] = version.ToString(CultureInfo.InvariantCulture) };
            var (method, path, body) = version == 0
                ? (HttpMethod.Post, "/v1/endpoints", new JsonObject { ["id"] = key, ["name"] = key, ["nodeId"] = _nodeId, ["network"] = "faults", ["labels"] = labels })
                : deletes ? (HttpMethod.Delete, $"/v1/endpoints/{key}", null)
                : (HttpMethod.Patch, $"/v1/endpoints/{key}", new JsonObject { ["labels"] = labels });
            _known.TryAdd(key, 0);
            var invoked = Stopwatch.GetTimestamp();
            (HttpStatusCode Status, JsonNode? Body, long Revision)? answer = null;
            try
            {
                answer = await apis[at].WriteAsync(method, path, body);
            }
            catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
            {
                // Nobody knows what became of it.
            }
            if (answer is { Status: HttpStatusCode.OK or HttpStatusCode.Created } done)
            {
                var address = (string?)done.Body?["address4"] ?? had;
                _writes.Enqueue(new ClientWrite(key, version, deletes, address, invoked, Stopwatch.GetTimestamp(), done.Revision));
                if (!deletes)
                    live.Add((key, version, address));
                continue;
            }
            _writes.Enqueue(new ClientWrite(key, version, deletes, null, invoked, long.MaxValue, 0));
            if (answer is { } refused && refused.Status != HttpStatusCode.ServiceUnavailable)
                _unexpected.Enqueue($"{method} {path} at {_nodes[at].Name}: {(int)refused.Status} {refused.Body}");
            at = (at + 1) % _nodes.Count;
        }
        apis.ForEach(a => a.Dispose());
    }

    private async Task ReadAsync(int at, int seed)
    {
        var random = new Random(seed);
        using var api = new NodeApi(_nodes[at], CallTimeout);
        while (!_stop.IsCancellationRequested)
        {
            await Task.Delay(random.Next(20, 60), CancellationToken.None);
            var keys = _known.Keys.ToList();
            if (keys.Count == 0)
                continue;
            // The newest keys are those that change.
            var key = keys.OrderByDescending(k => k.Length).ThenByDescending(k => k, StringComparer.Ordinal).ElementAt(random.Next(Math.Min(keys.Count, 20)));
            var invoked = Stopwatch.GetTimestamp();
            try
            {
                var (status, body, read) = await api.SendAsync(HttpMethod.Get, $"/v1/endpoints/{key}");
                var returned = Stopwatch.GetTimestamp();
                if (status == HttpStatusCode.OK)
                    _reads.Enqueue(new ClientRead(key, int.Parse((string)body!["labels"]![VersionLabel]!, CultureInfo.InvariantCulture), read == "fresh", invoked, returned, _nodes[at].Name));
                else if (status == HttpStatusCode.NotFound)
                    _reads.Enqueue(new ClientRead(key, null, read == "fresh", invoked, returned, _nodes[at].Name));
                else if (status != HttpStatusCode.ServiceUnavailable)
                    _unexpected.Enqueue($"GET {key} at {_nodes[at].Name}: {(int)status} {body}");
            }
            catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
            {
                // A read that failed says nothing.
            }
        }
    }

    private async Task WatchAsync(int at)
    {
        var (name, lines) = ($"watcher {Cluster.Number(at)}", _lines[at]);
        // All begin where nothing of this schedule was there.
        lines.Enqueue(new WatchLine(name, _began, true, []));
        var (have, incarnation) = (_began, 0L);
        while (!_stopWatching.IsCancellationRequested)
        {
            using var silence = CancellationTokenSource.CreateLinkedTokenSource(_stopWatching.Token);
            try
            {
                using var api = new NodeApi(_nodes[at], Timeout.InfiniteTimeSpan);
                silence.CancelAfter(Silence);
                var path = string.Create(CultureInfo.InvariantCulture, $"/v1/watch?from={have}") + (incarnation == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"&incarnation={incarnation}"));
                await foreach (var text in api.LinesAsync(path, silence.Token))
                {
                    silence.CancelAfter(Silence);
                    var message = JsonSerializer.Deserialize(text, OverlayNetJson.Default.WatchMessage)!;
                    if (incarnation != 0 && message.Incarnation != incarnation)
                        _unexpected.Enqueue($"{name}: incarnation {incarnation} became {message.Incarnation}");
                    incarnation = message.Incarnation;
                    if (message.Stale == true)
                        break;
                    if (message.Snapshot is { } snapshot)
                        lines.Enqueue(new WatchLine(name, message.Revision, true, Objects(snapshot.Endpoints)));
                    else if (message.Changes is { } changes)
                        lines.Enqueue(new WatchLine(name, message.Revision, false,
                        [
                            .. Objects(changes.Select(c => c.Endpoint).OfType<Endpoint>()),
                            .. changes.Where(c => c.DeletedKind == "endpoint" && c.DeletedId!.StartsWith(_prefix, StringComparison.Ordinal)).Select(c => new SeenObject(c.DeletedId!, 0, null, Deleted: true)),
                        ]));
                    else
                        continue;
                    have = message.Revision;
                }
            }
            catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
            {
                // Silent, struck or ended: the next manager, from where it was.
            }
            await Task.Delay(50, CancellationToken.None);
            at = (at + 1) % _nodes.Count;
        }
    }
}
