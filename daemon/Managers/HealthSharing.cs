using System.Collections.Concurrent;
using System.Threading.Channels;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;

namespace OverlayNet.Daemon.Managers;

/// <summary>
/// Passes the reports of nodes that are at home with this manager on to the others, at once. So each of them decides by what all nodes
/// find, and asks, for all of them, the nodes that are at home with it. Every manager has a queue of its own: one that is slow or dead
/// delays nobody, and what it misses comes again with the nodes' next full reports.
/// </summary>
internal sealed class HealthSharing(Func<Snapshot> registry, string nodeId, HttpClient http, TimeProvider time, CancellationToken stop)
{
    private const int MostQueued = 1024, MostAtOnce = 256;
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(1.5), Rest = TimeSpan.FromSeconds(1);
    private readonly ConcurrentDictionary<string, Channel<HealthReport>> _queues = new();

    /// <summary>To every other manager; returns at once.</summary>
    public void Pass(HealthReport report)
    {
        foreach (var node in registry().Nodes.Values)
        {
            if (node.Role == NodeRole.Manager && node.Id != nodeId)
                _queues.GetOrAdd(node.Id, Open).Writer.TryWrite(report);
        }
    }

    private Channel<HealthReport> Open(string peer)
    {
        var queue = Channel.CreateBounded<HealthReport>(new BoundedChannelOptions(MostQueued) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true });
        _ = Task.Run(() => SendAsync(peer, queue), CancellationToken.None);
        return queue;
    }

    private async Task SendAsync(string peer, Channel<HealthReport> queue)
    {
        var batch = new List<HealthReport>();
        try
        {
            while (await queue.Reader.WaitToReadAsync(stop).ConfigureAwait(false))
            {
                batch.Clear();
                while (batch.Count < MostAtOnce && queue.Reader.TryRead(out var report))
                    batch.Add(report);
                // Who is no manager any more is passed nothing; a queue that waits costs nothing.
                if (registry().Nodes.GetValueOrDefault(peer) is { Role: NodeRole.Manager } node && !await PostAsync(node, batch).ConfigureAwait(false))
                    await Task.Delay(Rest, time, stop).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // The daemon stops.
        }
    }

    private async Task<bool> PostAsync(Node node, List<HealthReport> reports)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(stop);
        timeout.CancelAfter(CallTimeout);
        try
        {
            using var content = JsonBody.Of(new HealthReports { Reports = reports }, OverlayNetJson.Default.HealthReports);
            using var response = await http.PostAsync(HostPort.Of(node).ToUri("/v1/managers/health"), content, timeout.Token).ConfigureAwait(false);
            return response.IsSuccessStatusCode;
        }
        catch (Exception e) when (e is HttpRequestException or IOException || (e is OperationCanceledException && !stop.IsCancellationRequested))
        {
            return false;
        }
    }
}
