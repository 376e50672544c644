using System.Collections.Concurrent;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

/// <summary>
/// What managers tell each other, once a second and all at once: how they are, and whose heartbeats they hear. A slow or dead one
/// delays nobody: each has a time limit of its own.
/// </summary>
internal sealed class ManagerPeers(Func<Snapshot> registry, Func<ManagerReport> own, Action<IEnumerable<NodeBeat>> heard, HttpClient http, TimeProvider time)
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1), CallTimeout = TimeSpan.FromSeconds(1.5);
    private readonly ConcurrentDictionary<string, (long At, ManagerReport Report)> _reports = new();

    /// <summary>How long a manager's word counts.</summary>
    public static readonly TimeSpan Fresh = TimeSpan.FromSeconds(4);

    /// <summary>The other managers' last words that still count.</summary>
    public IEnumerable<ManagerReport> Reports => _reports.Values.Where(r => time.GetElapsedTime(r.At) < Fresh).Select(r => r.Report);

    public (ManagerReport Report, TimeSpan Age)? Last(string nodeId) =>
        _reports.TryGetValue(nodeId, out var report) ? (report.Report, time.GetElapsedTime(report.At)) : null;

    /// <summary>Takes another manager's report and answers with this one's.</summary>
    public ManagerReport Take(ManagerReport report)
    {
        _reports[report.NodeId] = (time.GetTimestamp(), report);
        heard(report.Beats);
        return own();
    }

    public async Task RunAsync(string nodeId, CancellationToken cancel)
    {
        using var timer = new PeriodicTimer(Period, time);
        while (!cancel.IsCancellationRequested)
        {
            var report = JsonSerializer.SerializeToUtf8Bytes(own(), ManagersJson.Default.ManagerReport);
            await Task.WhenAll(registry().Nodes.Values
                .Where(node => node.Role == NodeRole.Manager && node.Id != nodeId)
                .Select(node => ExchangeAsync(node, report, cancel))).ConfigureAwait(false);
            try
            {
                await timer.WaitForNextTickAsync(cancel).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task ExchangeAsync(Node node, byte[] report, CancellationToken cancel)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        timeout.CancelAfter(CallTimeout);
        try
        {
            using var content = JsonBody.Of(report);
            using var response = await http.PostAsync(HostPort.Of(node).ToUri("/v1/managers/exchange"), content, timeout.Token).ConfigureAwait(false);
            if (!response.IsSuccessStatusCode)
                return;
            var answer = JsonSerializer.Deserialize(await response.Content.ReadAsByteArrayAsync(timeout.Token).ConfigureAwait(false), ManagersJson.Default.ManagerReport)!;
            _reports[answer.NodeId] = (time.GetTimestamp(), answer);
            heard(answer.Beats);
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or JsonException or IOException)
        {
            // Its silence is what counts; it shows in the age of its last report.
        }
    }
}
