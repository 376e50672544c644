using System.Text.Json;
using Microsoft.AspNetCore.Http.Features;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using static OverlayNet.Contracts.OverlayNetJson;

namespace OverlayNet.Daemon.Api;

/// <summary>A manager's routes for floating VIPs: the objects for people, the leases for agents.</summary>
internal static class VipRoutes
{
    public static IReadOnlyList<ApiRoute> All { get; } =
    [
        new("GET", "/v1/vips", Access.Read, "List floating VIPs",
            call => call.AnswerAsync([.. call.Current.Vips.Values.OrderBy(vip => vip.Name, StringComparer.Ordinal)], Default.ListFloatingVip), null, Default.ListFloatingVip),
        new("POST", "/v1/vips", Access.Manage, "Create a floating VIP", Create, Default.VipCreateRequest, Default.FloatingVip, StatusCodes.Status201Created),
        new("GET", "/v1/vips/{ref}", Access.Read, "Show a floating VIP",
            call => call.AnswerAsync(Resolve.Vip(call.Current, call.Route("ref")), Default.FloatingVip), null, Default.FloatingVip),
        new("DELETE", "/v1/vips/{ref}", Access.Manage, "Remove a floating VIP", Remove, null, Default.FloatingVip),
        new("POST", "/v1/vips/{ref}/move", Access.Manage, "Ask the holder to hand a floating VIP to a node", Move, Default.VipMoveRequest, Default.FloatingVip),

        new("GET", "/v1/vip-holders", Access.Read, "Who holds which floating VIPs, and the epochs",
            call => call.AnswerAsync([.. call.Current.VipHolders.Values.OrderBy(holder => holder.Set, StringComparer.Ordinal)], Default.ListVipHolder), null, Default.ListVipHolder),

        new("GET", "/v1/vip-leases", Access.OwnNode, "Follow the leases and bids of a node's floating VIPs: one JSON object a line", Watch,
            null, Default.VipLeaseEvent, ContentType: "application/x-ndjson",
            Query: [("node", "id of the node"), ("after", "the newest revision the caller has; absent: none")]),
        new("GET", "/v1/vip-leases/{set}", Access.Read, "Read a lease with quorum", async call => await call.AnswerAsync(
            await call.Registry.ReadLeaseAsync(call.Route("set"), call.Aborted).ConfigureAwait(false), Default.VipLeaseReading).ConfigureAwait(false), null, Default.VipLeaseReading),
        new("PUT", "/v1/vip-leases/{set}", Access.OwnNode, "Write a lease, guarded on the revision the caller saw", Commit, Default.VipLeaseCommit, Default.VipLeaseCommitted, Quiet: true),
        new("POST", "/v1/vip-leases/{set}/bids", Access.OwnNode, "Ask the holder for a release", Bid, Default.VipBid, Success: StatusCodes.Status204NoContent),
    ];

    private static async Task Create(ApiCall call)
    {
        var request = await call.BodyAsync(Default.VipCreateRequest, strict: true).ConfigureAwait(false);
        await call.AnswerAsync(
            await call.Registry.CreateVipAsync(request, call.By, call.Aborted).ConfigureAwait(false), Default.FloatingVip, StatusCodes.Status201Created).ConfigureAwait(false);
    }

    private static async Task Remove(ApiCall call) => await call.AnswerAsync(
        await call.Registry.RemoveVipAsync(call.Route("ref"), call.By, call.Aborted).ConfigureAwait(false), Default.FloatingVip).ConfigureAwait(false);

    private static async Task Move(ApiCall call)
    {
        var request = await call.BodyAsync(Default.VipMoveRequest, strict: true).ConfigureAwait(false);
        await call.AnswerAsync(
            await call.Registry.MoveVipAsync(call.Route("ref"), request.Node, call.By, call.Aborted).ConfigureAwait(false), Default.FloatingVip).ConfigureAwait(false);
    }

    private static async Task Commit(ApiCall call)
    {
        var request = await call.BodyAsync(Default.VipLeaseCommit, strict: false).ConfigureAwait(false);
        var set = call.Route("set");
        // A release names no holder: it is about the one who held it.
        if (request.Lease.Holder is { } holder)
            call.MayActFor(holder);
        else if (call.Registry.Leases.Leases.GetValueOrDefault(set).Value?.Holder is { } held)
            call.MayActFor(held);
        await call.AnswerAsync(
            await call.Registry.CommitLeaseAsync(set, request, call.By, call.Aborted).ConfigureAwait(false), Default.VipLeaseCommitted).ConfigureAwait(false);
    }

    private static async Task Bid(ApiCall call)
    {
        var bid = await call.BodyAsync(Default.VipBid, strict: false).ConfigureAwait(false);
        call.MayActFor(bid.NodeId);
        if (bid.Forced)
            throw Refuse.Invalid("invalid-field", "forced", "true", "only a move is forced", "use 'overlaynet vip move'");
        await call.Registry.PlaceBidAsync(call.Route("set"), bid, call.Aborted).ConfigureAwait(false);
        call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
    }

    private static async Task Watch(ApiCall call)
    {
        var node = call.Query("node") ?? throw Refuse.Invalid("missing-field", "node", null, "it is missing", "add ?node=ID");
        call.MayActFor(node);
        var response = call.Context.Response;
        response.ContentType = "application/x-ndjson";
        call.Context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        // As with the registry's watch: an open one must not hold up the daemon's stop.
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(
            call.Aborted, call.Context.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping);
        try
        {
            await foreach (var item in call.Registry.WatchLeasesAsync(node, call.Number("after"), ends.Token).ConfigureAwait(false))
                await response.BodyWriter.WriteAsync(new ReadOnlyMemory<byte>([.. JsonSerializer.SerializeToUtf8Bytes(item, Default.VipLeaseEvent), (byte)'\n']), ends.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (ends.IsCancellationRequested)
        {
            // The watcher has gone, or the daemon stops: the stream just ends.
        }
    }
}
