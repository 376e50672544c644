using System.Globalization;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>An event log over HTTP: one JSON object a line.</summary>
internal static class EventStream
{
    /// <summary>The kept events that are asked for, and with <c>follow</c> those to come.</summary>
    public static async Task Answer(ApiCall call, EventLog events)
    {
        var kept = Kept(call.Query("since"), events);
        var response = call.Context.Response;
        response.ContentType = "application/x-ndjson";
        foreach (var entry in kept)
            await Line(response, entry, call.Aborted).ConfigureAwait(false);
        await response.Body.FlushAsync(call.Aborted).ConfigureAwait(false);
        if (!call.Flag("follow"))
            return;
        // An open stream must not hold up the daemon's stop.
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(
            call.Aborted, call.Context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
        try
        {
            await foreach (var entry in events.FollowAsync(kept.Count > 0 ? kept[^1].Sequence : events.Last, ends.Token).ConfigureAwait(false))
            {
                await Line(response, entry, ends.Token).ConfigureAwait(false);
                await response.Body.FlushAsync(ends.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (ends.IsCancellationRequested)
        {
            // The follower has gone, or the daemon stops.
        }
    }

    internal static IReadOnlyList<ClusterEvent> Kept(string? since, EventLog events)
    {
        if (since is null)
            return events.Since(0);
        if (long.TryParse(since, NumberStyles.None, CultureInfo.InvariantCulture, out var sequence))
            return events.Since(sequence);
        return Duration(since) is { } duration
            ? events.Since(TimeProvider.System.GetUtcNow() - duration)
            : throw Refuse.Invalid("invalid-query", "since", since, "it is neither a sequence number nor a duration", "write a number, or 30s, 10m, 2h, 1d");
    }

    internal static async Task Line(HttpResponse response, ClusterEvent entry, CancellationToken cancellation) =>
        await response.Body.WriteAsync(new ReadOnlyMemory<byte>([.. JsonSerializer.SerializeToUtf8Bytes(entry, Default.ClusterEvent), (byte)'\n']), cancellation).ConfigureAwait(false);

    private static TimeSpan? Duration(string text)
    {
        if (text.Length < 2 || !double.TryParse(text[..^1], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var count))
            return null;
        return text[^1] switch
        {
            's' => TimeSpan.FromSeconds(count),
            'm' => TimeSpan.FromMinutes(count),
            'h' => TimeSpan.FromHours(count),
            'd' => TimeSpan.FromDays(count),
            _ => null,
        };
    }
}
