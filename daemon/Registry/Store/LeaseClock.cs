using System.Collections.Concurrent;

namespace OverlayNet.Daemon.Registry.Store;

/// <summary>Counts leases down on the monotonic clock and says which ones have run out.</summary>
internal sealed class LeaseClock : IAsyncDisposable
{
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(250);

    private readonly TimeProvider _time;
    private readonly Action<long> _expired;
    private readonly ConcurrentDictionary<long, (TimeSpan Ttl, long RenewedAt)> _leases = new();
    private readonly ITimer _timer;

    public LeaseClock(TimeProvider time, Action<long> expired)
    {
        _time = time;
        _expired = expired;
        _timer = time.CreateTimer(_ => Expire(), null, Tick, Tick);
    }

    public void Add(long lease, TimeSpan ttl) => _leases[lease] = (ttl, _time.GetTimestamp());

    public bool Exists(long lease) => _leases.ContainsKey(lease);

    public bool Renew(long lease)
    {
        while (_leases.TryGetValue(lease, out var current))
        {
            if (_leases.TryUpdate(lease, current with { RenewedAt = _time.GetTimestamp() }, current))
                return true;
        }
        return false;
    }

    public bool Remove(long lease) => _leases.TryRemove(lease, out _);

    public ValueTask DisposeAsync() => _timer.DisposeAsync();

    private void Expire()
    {
        foreach (var lease in _leases)
        {
            // Removed only as it was looked at: a renewal in between wins.
            if (_time.GetElapsedTime(lease.Value.RenewedAt) >= lease.Value.Ttl && _leases.TryRemove(lease))
                _expired(lease.Key);
        }
    }
}

internal static class BlockingCollectionExtensions
{
    /// <returns>False when the collection takes nothing any more.</returns>
    public static bool TryAddUnlessCompleted<T>(this BlockingCollection<T> collection, T item)
    {
        try
        {
            return collection.TryAdd(item);
        }
        catch (InvalidOperationException)
        {
            return false;
        }
    }
}
