using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Threading.Channels;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Hosting;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>The events of this node and of every manager in one stream: each write is recorded at the manager that made it.</summary>
internal static class ClusterEvents
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3), Retry = TimeSpan.FromSeconds(1);

    public static async Task Answer(ApiCall call, NodeDaemon daemon)
    {
        var since = call.Query("since");
        if (since is not null && long.TryParse(since, out _))
            throw Refuse.Invalid("invalid-query", "since", since, "numbers are of one node's events only", "give a duration, such as 10m");
        var agent = daemon.RequireAgent();
        var response = call.Context.Response;
        response.ContentType = "application/x-ndjson";
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(
            call.Aborted, call.Context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
        var managers = agent.Follower.Current.Nodes.Values.Where(n => n.Role == NodeRole.Manager && n.Id != agent.Membership.NodeId).ToList();
        var kept = await Task.WhenAll(managers.Select(manager => KeptOf(daemon.PeerHttp, manager, since, ends.Token))).ConfigureAwait(false);
        var sent = new HashSet<(string Node, long Sequence)>();
        foreach (var entry in EventStream.Kept(since, agent.Events).Concat(kept.SelectMany(k => k)).OrderBy(e => e.Time).ThenBy(e => e.Sequence))
        {
            if (sent.Add((entry.Node, entry.Sequence)))
                await EventStream.Line(response, entry, ends.Token).ConfigureAwait(false);
        }
        await response.Body.FlushAsync(ends.Token).ConfigureAwait(false);
        if (!call.Flag("follow"))
            return;
        var coming = Channel.CreateUnbounded<ClusterEvent>();
        var followers = managers.Select(manager => FollowAsync(daemon.PeerHttp, manager, coming.Writer, ends.Token))
            .Append(FollowOwnAsync(agent.Events, coming.Writer, ends.Token)).ToList();
        try
        {
            await foreach (var entry in coming.Reader.ReadAllAsync(ends.Token).ConfigureAwait(false))
            {
                if (!sent.Add((entry.Node, entry.Sequence)))
                    continue;
                await EventStream.Line(response, entry, ends.Token).ConfigureAwait(false);
                await response.Body.FlushAsync(ends.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (ends.IsCancellationRequested)
        {
            // The follower has gone, or the daemon stops.
        }
        finally
        {
            await ends.CancelAsync().ConfigureAwait(false);
            foreach (var follower in followers)
                await follower.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>A manager that does not answer in time is left out: its events are on its disk.</summary>
    private static async Task<List<ClusterEvent>> KeptOf(HttpClient http, Node manager, string? since, CancellationToken cancel)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(Patience);
        var events = new List<ClusterEvent>();
        try
        {
            await foreach (var entry in ReadAsync(http, manager, since is null ? "" : $"?since={since}", limit.Token).ConfigureAwait(false))
                events.Add(entry);
        }
        catch (Exception e) when (e is HttpRequestException or IOException || (e is OperationCanceledException && !cancel.IsCancellationRequested))
        {
            // What has come is shown.
        }
        return events;
    }

    private static async Task FollowOwnAsync(EventLog events, ChannelWriter<ClusterEvent> to, CancellationToken cancel)
    {
        await foreach (var entry in events.FollowAsync(events.Last, cancel).ConfigureAwait(false))
            to.TryWrite(entry);
    }

    private static async Task FollowAsync(HttpClient http, Node manager, ChannelWriter<ClusterEvent> to, CancellationToken cancel)
    {
        while (!cancel.IsCancellationRequested)
        {
            try
            {
                // Some are had already, and told apart by their numbers; none is missed after a break.
                await foreach (var entry in ReadAsync(http, manager, "?since=60s&follow=true", cancel).ConfigureAwait(false))
                    to.TryWrite(entry);
            }
            catch (Exception e) when (e is HttpRequestException or IOException)
            {
                // Tried again: it may come back.
            }
            await Task.Delay(Retry, cancel).ConfigureAwait(false);
        }
    }

    private static async IAsyncEnumerable<ClusterEvent> ReadAsync(HttpClient http, Node manager, string query, [EnumeratorCancellation] CancellationToken cancel)
    {
        using var response = await http.GetAsync(
            HostPort.Of(manager).ToUri("/v1/managers/events" + query), HttpCompletionOption.ResponseHeadersRead, cancel).ConfigureAwait(false);
        response.EnsureSuccessStatusCode();
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(cancel).ConfigureAwait(false));
        while (await reader.ReadLineAsync(cancel).ConfigureAwait(false) is { } line)
        {
            if (line.Length > 0)
                yield return JsonSerializer.Deserialize(line, Default.ClusterEvent)!;
        }
    }
}
