using System.Net;
using System.Runtime.CompilerServices;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry.Store;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// The leases of floating VIPs: read with quorum, written by commits guarded on exactly the revision the caller saw. Nothing here
/// relies on the store's own leases or on any clock of a manager; the rules are the agents' (docs/fencing.md).
/// </summary>
public sealed partial class ClusterRegistry
{
    private static readonly TimeSpan LeaseLifeSign = TimeSpan.FromSeconds(1);

    /// <summary>Leases and bids as this manager knows them.</summary>
    internal LeaseTable Leases => Volatile.Read(ref _leases);

    /// <summary>The lease of a set as a majority of the registry has it now.</summary>
    /// <exception cref="RegistryException">503: the store does not answer.</exception>
    public async Task<VipLeaseReading> ReadLeaseAsync(string set, CancellationToken cancel)
    {
        try
        {
            var key = Keys.Lease(set);
            var page = await _store.RangeAsync(key, limit: 1, cancel: cancel).ConfigureAwait(false);
            // Read after the page: a restore in between makes the incarnation too new, never too old.
            var incarnation = _store.Identity.Incarnation;
            return page.Items is [{ } item] && item.Key == key
                ? new VipLeaseReading { Set = set, Lease = LeaseTable.ReadLease(item), Revision = item.ModRevision, Incarnation = incarnation }
                : new VipLeaseReading { Set = set, Incarnation = incarnation };
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    /// <summary>Writes a lease if its key is still at the given revision of the given incarnation and its VIPs are still there.</summary>
    /// <exception cref="RegistryException">The set or the holder does not exist, or the epoch does not follow; 503: the store refused.</exception>
    public async Task<VipLeaseCommitted> CommitLeaseAsync(string set, VipLeaseCommit request, string by = "local", CancellationToken cancel = default)
    {
        var (snapshot, table) = (Current, Leases);
        var vips = FloatingVipRules.OfSet(snapshot, set);
        if (vips.Count == 0)
            throw Refuse.NotFound(Kinds.Vip, set);
        var lease = request.Lease;
        if (lease.Incarnation > request.GuardIncarnation || request.GuardIncarnation != _store.Identity.Incarnation)
            return new VipLeaseCommitted { Outcome = VipLeaseOutcome.Conflict };
        if (lease.Holder is { } holder && (!snapshot.Nodes.TryGetValue(holder, out var node) || FloatingVipRules.PriorityOf(vips[0], node) == 0))
            throw Refuse.Conflict("not-a-candidate", "holder", holder, "this node may not hold the VIP", "give it a priority, or the labels the VIP asks for");
        if (table.Leases.TryGetValue(set, out var known) && known.Revision == request.GuardRevision && !Follows(known.Value, lease))
            throw Refuse.Conflict("stale-epoch", "epoch", $"{lease.Incarnation}.{lease.Epoch}", $"it does not follow {known.Value.Incarnation}.{known.Value.Epoch}", "read the lease again");

        var puts = new List<Put> { new(Keys.Lease(set), JsonSerializer.SerializeToUtf8Bytes(lease, OverlayNetJson.Default.VipLease)) };
        var moved = !snapshot.VipHolders.TryGetValue(set, out var before)
            || before.NodeId != lease.Holder || before.Incarnation != lease.Incarnation || before.Epoch != lease.Epoch;
        if (moved)
        {
            puts.Add(new Put(Keys.VipHolder(set), JsonSerializer.SerializeToUtf8Bytes(new VipHolder
            {
                Set = set,
                NodeId = lease.Holder,
                Incarnation = lease.Incarnation,
                Epoch = lease.Epoch,
                Sources = lease.Holder is null ? [] : request.Sources,
                SinceUnixMs = _options.Time.GetUtcNow().ToUnixTimeMilliseconds(),
            }, OverlayNetJson.Default.VipHolder)));
        }
        try
        {
            var result = await _store.CommitAsync(new Transaction
            {
                // A revision means nothing in a registry that was put in this one's place meanwhile.
                Incarnation = request.GuardIncarnation,
                Guards = [Guard.Unchanged(Keys.Lease(set), request.GuardRevision), .. vips.Select(StillThere)],
                Puts = puts,
            }, cancel).ConfigureAwait(false);
            if (result.Outcome == CommitOutcome.Committed && moved)
                RecordMove(vips, lease, by, result.Revision);
            return result.Outcome switch
            {
                CommitOutcome.Committed => new VipLeaseCommitted { Outcome = VipLeaseOutcome.Committed, Revision = result.Revision },
                CommitOutcome.GuardFailed or CommitOutcome.OtherIncarnation => new VipLeaseCommitted { Outcome = VipLeaseOutcome.Conflict },
                _ => new VipLeaseCommitted { Outcome = VipLeaseOutcome.Unknown },
            };
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    /// <summary>Writes a bid; the holder answers it by a release.</summary>
    public async Task PlaceBidAsync(string set, VipBid bid, CancellationToken cancel = default)
    {
        var snapshot = Current;
        var vips = FloatingVipRules.OfSet(snapshot, set);
        if (vips.Count == 0)
            throw Refuse.NotFound(Kinds.Vip, set);
        if (!snapshot.Nodes.TryGetValue(bid.NodeId, out var node) || FloatingVipRules.PriorityOf(vips[0], node) == 0)
            throw Refuse.Conflict("not-a-candidate", "node", snapshot.Nodes.GetValueOrDefault(bid.NodeId)?.Name ?? bid.NodeId, "it takes no part in this VIP",
                $"choose one of {string.Join(", ", FloatingVipRules.Members(snapshot, vips[0]).Select(member => member.Name))}");
        try
        {
            var result = await _store.CommitAsync(new Transaction
            {
                Incarnation = snapshot.Incarnation,
                Guards = [.. vips.Select(StillThere)],
                Puts = [new Put(Keys.Bid(set, bid.NodeId), JsonSerializer.SerializeToUtf8Bytes(bid, OverlayNetJson.Default.VipBid))],
            }, cancel).ConfigureAwait(false);
            if (result.Outcome != CommitOutcome.Committed)
                throw Refuse.Unavailable("the bid was not written: the VIP was changed meanwhile, or the store does not say");
        }
        catch (RegistryStoreException e)
        {
            throw Refuse.Unavailable(e.Message);
        }
    }

    /// <summary>An operator's move: asks the holder to release to a node, which then keeps the VIP whatever the priorities say.</summary>
    /// <exception cref="RegistryException">The node takes no part, or nobody holds the VIP.</exception>
    public async Task<FloatingVip> MoveVipAsync(string reference, string nodeReference, string by = "local", CancellationToken cancel = default)
    {
        var vip = Resolve.Vip(Current, reference);
        var node = Resolve.Node(Current, nodeReference);
        if (vip.Mode != FloatingVipMode.Fenced)
            throw Refuse.Conflict("not-fenced", "vip", vip.Name, "plain VRRP goes by priorities alone", "remove it and create it with other priorities, or in fenced mode");
        if (Current.VipHolders.GetValueOrDefault(vip.LeaseSet)?.NodeId is null)
            throw Refuse.Conflict("no-holder", "vip", vip.Name, "nobody holds it, so nobody can hand it over", $"see 'overlaynet vip explain {vip.Name}' on its nodes");
        await PlaceBidAsync(vip.LeaseSet, new VipBid { NodeId = node.Id, Priority = FloatingVipRules.PriorityOf(vip, node), Forced = true }, cancel).ConfigureAwait(false);
        Record(Kinds.Vip, "move", vip.Name, by, Current.Revision, $"to {node.Name}");
        return vip;
    }

    /// <summary>
    /// Leases and bids of the sets a node takes part in, each at its newest; without end. Bids that are older than the watch are
    /// left out, unless they are newer than <paramref name="after"/>.
    /// </summary>
    /// <param name="after">The newest revision the watcher has seen of this incarnation; null: none.</param>
    public async IAsyncEnumerable<VipLeaseEvent> WatchLeasesAsync(string nodeId, long? after, [EnumeratorCancellation] CancellationToken cancel)
    {
        var sent = new Dictionary<string, long>(StringComparer.Ordinal);
        var bidsAfter = after ?? Leases.Revision;
        while (true)
        {
            var more = Volatile.Read(ref _advanced).Task;
            var (snapshot, table) = (Current, Leases);
            foreach (var set in SetsOf(snapshot, nodeId))
            {
                var lease = table.Leases.GetValueOrDefault(set);
                if (!sent.TryGetValue(set, out var revision) || revision != lease.Revision)
                {
                    sent[set] = lease.Revision;
                    yield return new VipLeaseEvent { Set = set, Revision = table.Revision, Reading = new VipLeaseReading { Set = set, Lease = lease.Value, Revision = lease.Revision, Incarnation = table.Incarnation } };
                }
                foreach (var bid in table.Bids.Values.Where(bid => bid.Value.Set == set && bid.Revision > bidsAfter).OrderBy(bid => bid.Revision))
                    yield return new VipLeaseEvent { Set = set, Revision = bid.Revision, Bid = bid.Value.Bid };
            }
            bidsAfter = table.Revision;
            if (!await HappensAsync(more, cancel).ConfigureAwait(false))
                yield return new VipLeaseEvent { Set = "", Revision = table.Revision };
        }
    }

    private async Task<bool> HappensAsync(Task more, CancellationToken cancel)
    {
        try
        {
            await more.WaitAsync(LeaseLifeSign, _options.Time, cancel).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    private static IEnumerable<string> SetsOf(Snapshot snapshot, string nodeId) => !snapshot.Nodes.TryGetValue(nodeId, out var node) ? [] :
        snapshot.Vips.Values.Where(vip => vip.Mode == FloatingVipMode.Fenced && FloatingVipRules.PriorityOf(vip, node) > 0).Select(vip => vip.LeaseSet).Distinct();

    // A renewal or release keeps the epoch, an acquisition raises it; nothing goes back within an incarnation.
    private static bool Follows(VipLease before, VipLease after) =>
        after.Incarnation > before.Incarnation
        || (after.Incarnation == before.Incarnation
            && (after.Epoch > before.Epoch ? after.Holder is not null : after.Epoch == before.Epoch && (after.Holder is null || after.Holder == before.Holder)));

    private Guard StillThere(FloatingVip vip)
    {
        var key = Keys.Vip(vip.Id);
        lock (_gate)
        {
            // 0 would guard its absence.
            return _state.Key(key).Create is var created and > 0 ? Guard.Alive(key, created) : throw Refuse.NotFound(Kinds.Vip, vip.Name);
        }
    }

    private void RecordMove(IReadOnlyList<FloatingVip> vips, VipLease lease, string by, long revision)
    {
        var holder = lease.Holder is null ? null : Current.Nodes.GetValueOrDefault(lease.Holder)?.Name ?? lease.Holder;
        foreach (var vip in vips)
            Record(Kinds.Vip, holder is null ? "release" : "acquire", vip.Name, by, revision, holder is null ? $"epoch {lease.Incarnation}.{lease.Epoch}" : $"{holder}, epoch {lease.Incarnation}.{lease.Epoch}");
    }
}
