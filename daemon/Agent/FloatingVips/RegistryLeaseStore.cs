using System.Collections.Concurrent;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Fence;

namespace OverlayNet.Daemon.Agent.FloatingVips;

/// <summary>
/// The registry as the fence needs it, over a manager's API: reads with quorum, guarded commits, and one stream of leases and bids
/// for all sets of this node. The fence takes its moment before it calls; nothing here looks at a clock.
/// </summary>
internal sealed partial class RegistryLeaseStore(RegistryClient client, string nodeId, ILogger<RegistryLeaseStore> logger)
{
    // Signs of life come each second.
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Retry = TimeSpan.FromMilliseconds(100);
    private string? _trouble;
    private readonly ConcurrentDictionary<string, SetStore> _sets = new();
    private readonly SemaphoreSlim _wanted = new(0);
    private long _incarnation;
    private long? _after;

    private RegistryClient Client { get; } = client;

    /// <param name="sources">Addresses that this node's advertisements for the set come from.</param>
    public ILeaseStore For(string set, Func<IReadOnlyList<IPAddress>> sources) => new SetStore(this, set, sources);

    /// <summary>Follows the leases for as long as anybody wants them, until cancelled.</summary>
    public async Task Run(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            if (_sets.IsEmpty)
            {
                await _wanted.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                continue;
            }
            try
            {
                await Follow(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (e is RegistryException or IOException or HttpRequestException or OperationCanceledException)
            {
                // Once per change of reason: managers may be gone for hours.
                if (!cancellation.IsCancellationRequested && _trouble != e.Message)
                    Log.Lost(logger, e.Message);
                _trouble = e.Message;
            }
            await Task.Delay(Retry, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task Follow(CancellationToken cancellation)
    {
        using var watchdog = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        watchdog.CancelAfter(Silence);
        await foreach (var item in Client.WatchLeases(nodeId, _after, watchdog.Token).ConfigureAwait(false))
        {
            watchdog.CancelAfter(Silence);
            _trouble = null;
            if (item.Reading is { } reading && reading.Incarnation != _incarnation)
                (_incarnation, _after) = (reading.Incarnation, null);
            _after = Math.Max(_after ?? 0, item.Revision);
            if (_sets.TryGetValue(item.Set, out var set))
                set.Tell(item);
        }
    }

    private static LeaseReading Reading(VipLeaseReading reading) => new(reading.Lease is null ? null : Record(reading.Lease), reading.Revision, reading.Incarnation);

    private static LeaseRecord Record(VipLease lease) => new()
    {
        Holder = lease.Holder,
        Version = new LeaseVersion(lease.Incarnation, lease.Epoch),
        Ttl = TimeSpan.FromMilliseconds(lease.TtlMs),
        Priority = lease.Priority,
        Policy = (StoreLossPolicy)lease.Policy,
        MaxHold = TimeSpan.FromMilliseconds(lease.MaxHoldMs),
        Peers = [.. lease.Peers],
        ReleasedTo = lease.ReleasedTo,
        Pinned = lease.Pinned,
    };

    private static VipLease Lease(LeaseRecord record) => new()
    {
        Holder = record.Holder,
        Incarnation = record.Version.Incarnation,
        Epoch = record.Version.Epoch,
        TtlMs = (int)record.Ttl.TotalMilliseconds,
        Priority = record.Priority,
        Policy = (StoreLoss)record.Policy,
        MaxHoldMs = (int)record.MaxHold.TotalMilliseconds,
        Peers = [.. record.Peers],
        ReleasedTo = record.ReleasedTo,
        Pinned = record.Pinned,
    };

    /// <summary>The store of one set.</summary>
    private sealed class SetStore(RegistryLeaseStore store, string set, Func<IReadOnlyList<IPAddress>> sources) : ILeaseStore, IDisposable
    {
        private Action<LeaseReading>? _lease;
        private Action<LeaseBid>? _bid;

        public async Task<LeaseReading> ReadAsync(string vipSet, CancellationToken cancel) => Reading(await store.Client.ReadLease(set, cancel).ConfigureAwait(false));

        public async Task<(Vip.Fence.CommitOutcome Outcome, long Revision)> CommitAsync(
            string vipSet, LeaseRecord record, long guardRevision, long guardIncarnation, CancellationToken cancel)
        {
            var answer = await store.Client.CommitLease(set, new VipLeaseCommit
            {
                Lease = Lease(record),
                GuardRevision = guardRevision,
                GuardIncarnation = guardIncarnation,
                Sources = sources(),
            }, cancel).ConfigureAwait(false);
            return answer.Outcome switch
            {
                VipLeaseOutcome.Committed => (Vip.Fence.CommitOutcome.Committed, answer.Revision),
                VipLeaseOutcome.Conflict => (Vip.Fence.CommitOutcome.Conflict, 0),
                _ => (Vip.Fence.CommitOutcome.Unknown, 0),
            };
        }

        public Task PlaceBidAsync(string vipSet, LeaseBid bid, CancellationToken cancel) =>
            store.Client.PlaceBid(set, new VipBid { NodeId = bid.Node, Priority = bid.Priority }, cancel);

        public IDisposable Watch(string vipSet, Action<LeaseReading> lease, Action<LeaseBid> bid)
        {
            (_lease, _bid) = (lease, bid);
            store._sets[set] = this;
            store._wanted.Release();
            return this;
        }

        public void Tell(VipLeaseEvent item)
        {
            if (item.Reading is { } reading)
                _lease?.Invoke(Reading(reading));
            if (item.Bid is { } bid)
                _bid?.Invoke(new LeaseBid(bid.NodeId, bid.Priority, bid.Forced));
        }

        public void Dispose()
        {
            // A successor of the same set may have taken its place already.
            store._sets.TryRemove(new KeyValuePair<string, SetStore>(set, this));
            (_lease, _bid) = (null, null);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "floating VIPs: stream of leases lost: {Reason}")]
        public static partial void Lost(ILogger logger, string reason);
    }
}
