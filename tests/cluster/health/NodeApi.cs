using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.ClusterTests.Health;

/// <summary>A node's API without a program in between: what is timed here must not contain the start of a process.</summary>
internal sealed class NodeApi : IDisposable
{
    private readonly HttpClient _http;

    public NodeApi(ClusterNode node)
    {
        Node = node;
        _http = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(node.Socket), cancellation);
                return new NetworkStream(socket, ownsSocket: true);
            },
        })
        {
            BaseAddress = new Uri("http://localhost"),
        };
    }

    public ClusterNode Node { get; }

    public JsonArray Backends(string service) => Get($"/v1/services/{service}/backends").Body.AsArray();

    public JsonNode Backend(string service, string endpoint) => Backends(service).Single(backend => (string?)backend!["endpoint"] == endpoint)!;

    public string State(string service, string endpoint) => (string)Backend(service, endpoint)["state"]!;

    /// <summary>
    /// Neither the kernel nor the names of this node lead to the endpoint. Names go first, and are cheap to ask for: whoever polls must not
    /// take the balancers' time (as counting flows does) while these have something to do.
    /// </summary>
    public bool IsOut(string service, string endpoint, string address)
    {
        if (Get($"/v1/dns/query?name=tasks.{service}&type=A").Body["answers"]!.AsArray().Any(answer => ((string)answer!).Contains(address, StringComparison.Ordinal)))
            return false;
        var (shown, revision) = Get($"/v1/endpoints/{endpoint}");
        return (string?)shown["state"] is not ("healthy" or "recovering") && AppliedRevision() >= revision;
    }

    /// <returns>The revision that has it.</returns>
    public async Task<long> PostAsync(string path, JsonNode body)
    {
        using var content = new StringContent(body.ToJsonString(), System.Text.Encoding.UTF8, "application/json");
        using var response = await _http.PostAsync(path, content);
        if (!response.IsSuccessStatusCode)
            throw new InvalidOperationException($"POST {path}: {(int)response.StatusCode} {await response.Content.ReadAsStringAsync()}");
        return Revision(response);
    }

    public long AppliedRevision() => (long)Get("/v1/status").Body["appliedRevision"]!;

    public void Dispose() => _http.Dispose();

    private (JsonNode Body, long Revision) Get(string path)
    {
        using var response = _http.GetAsync(path).GetAwaiter().GetResult();
        response.EnsureSuccessStatusCode();
        return (JsonNode.Parse(response.Content.ReadAsStringAsync().GetAwaiter().GetResult())!, Revision(response));
    }

    private static long Revision(HttpResponseMessage response) =>
        response.Headers.TryGetValues("X-OverlayNet-Revision", out var values) ? long.Parse(values.First(), CultureInfo.InvariantCulture) : 0;
}

/// <summary>
/// How late this machine is at present: what a thread that sleeps for a moment wakes up too late by. Limits of the failure table are
/// for a machine that has time; on one that has none, they are that much longer, and the figures are printed in any case.
/// </summary>
internal sealed class Lateness : IDisposable
{
    private static readonly TimeSpan Nap = TimeSpan.FromMilliseconds(5);
    private readonly Thread _thread;
    private volatile bool _stop;
    private long _worstTicks;

    public Lateness()
    {
        _thread = new Thread(() =>
        {
            while (!_stop)
            {
                var before = Stopwatch.GetTimestamp();
                Thread.Sleep(Nap);
                var late = Stopwatch.GetElapsedTime(before) - Nap;
                if (late.Ticks > Volatile.Read(ref _worstTicks))
                    Volatile.Write(ref _worstTicks, late.Ticks);
            }
        })
        { IsBackground = true };
        _thread.Start();
    }

    public TimeSpan Worst => TimeSpan.FromTicks(Volatile.Read(ref _worstTicks));

    /// <summary>A change passes through half a dozen processes and threads, each of which may be that late.</summary>
    public TimeSpan Allow(TimeSpan limit) => Worst < TimeSpan.FromMilliseconds(10) ? limit : limit + (Worst * 8);

    public void Dispose()
    {
        _stop = true;
        _thread.Join();
    }
}
