using OverlayNet.Vip.Fence;

namespace OverlayNet.ClusterTests.Vrrp;

/// <summary>A registry in memory, one per test, that every node reaches by a way of its own which can be cut.</summary>
public sealed class MemoryLeaseStore
{
    private readonly Lock _lock = new();
    private readonly List<Way> _ways = [];
    private LeaseRecord? _record;
    private long _revision;
    private long _nextRevision;

    public LeaseRecord? Record
    {
        get
        {
            lock (_lock)
                return _record;
        }
    }

    public Way For(string node)
    {
        lock (_lock)
        {
            var way = new Way(this, node);
            _ways.Add(way);
            return way;
        }
    }

    public void Bid(LeaseBid bid) => Tell(way => way.OnBid?.Invoke(bid));

    private void Tell(Action<Way> what)
    {
        Way[] ways;
        lock (_lock)
            ways = [.. _ways.Where(w => !w.Cut)];
        foreach (var way in ways)
            what(way);
    }

    /// <summary>One node's way to the store.</summary>
    public sealed class Way(MemoryLeaseStore store, string node) : ILeaseStore, IDisposable
    {
        /// <summary>While true nothing gets through: calls hang until cancelled, watches are silent.</summary>
        public volatile bool Cut;

        /// <summary>How late calls reach the store.</summary>
        public TimeSpan Delay { get; set; }
        internal Action<LeaseReading>? OnLease;
        internal Action<LeaseBid>? OnBid;

        public string Node => node;

        public async Task<LeaseReading> ReadAsync(string vipSet, CancellationToken cancel)
        {
            await PassAsync(cancel);
            lock (store._lock)
                return new LeaseReading(store._record, store._revision, 1);
        }

        public async Task<(CommitOutcome Outcome, long Revision)> CommitAsync(
            string vipSet, LeaseRecord record, long guardRevision, long guardIncarnation, CancellationToken cancel)
        {
            await PassAsync(cancel);
            LeaseReading reading;
            lock (store._lock)
            {
                if (guardRevision != store._revision || guardIncarnation != 1)
                    return (CommitOutcome.Conflict, 0);
                store._record = record;
                store._revision = ++store._nextRevision;
                reading = new LeaseReading(record, store._revision, 1);
            }

            store.Tell(way => way.OnLease?.Invoke(reading));
            return (CommitOutcome.Committed, reading.Revision);
        }

        public async Task PlaceBidAsync(string vipSet, LeaseBid bid, CancellationToken cancel)
        {
            await PassAsync(cancel);
            store.Bid(bid);
        }

        public IDisposable Watch(string vipSet, Action<LeaseReading> lease, Action<LeaseBid> bid)
        {
            (OnLease, OnBid) = (lease, bid);
            return this;
        }

        public void Dispose() => (OnLease, OnBid) = (null, null);

        private Task PassAsync(CancellationToken cancel) => Task.Delay(Cut ? Timeout.InfiniteTimeSpan : Delay, cancel);
    }
}
