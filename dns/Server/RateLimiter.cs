using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Server;

/// <summary>
/// A token bucket per client address, in a fixed table: clients whose addresses fall on one slot share it, which can
/// only happen to a client that others crowd out anyway. One instance per thread.
/// </summary>
internal sealed class RateLimiter(int queriesPerSecond, long ticksPerSecond)
{
    private const int Slots = 8192;

    /// <summary>A client may save up this many seconds' worth of queries.</summary>
    private const int BurstSeconds = 1;

    private readonly Bucket[] _buckets = queriesPerSecond > 0 ? new Bucket[Slots] : [];
    private readonly long _cost = queriesPerSecond > 0 ? Math.Max(1, ticksPerSecond / queriesPerSecond) : 0;
    private readonly long _burst = ticksPerSecond * BurstSeconds;
    private readonly ulong _seed = (ulong)Random.Shared.NextInt64() | 1;

    private struct Bucket
    {
        /// <summary>Time up to which the client's queries are paid for.</summary>
        public long PaidUntil;
        public uint Refused;
    }

    /// <param name="client">Who asks.</param>
    /// <param name="now">Timestamp of the batch.</param>
    /// <param name="slip">When refused: whether to answer truncated, so that a real client comes back over TCP.</param>
    public bool Allow(in ClientAddress client, long now, out bool slip)
    {
        slip = false;
        if (_buckets.Length == 0)
            return true;
        // Whole addresses: the members of one network share a /64.
        var key = (client.High * 0x9E3779B97F4A7C15) ^ client.Low;
        ref var bucket = ref _buckets[(int)((key * _seed) >> 51)];
        var paid = Math.Max(bucket.PaidUntil, now - _burst) + _cost;
        if (paid <= now)
        {
            bucket.PaidUntil = paid;
            return true;
        }

        slip = (++bucket.Refused & 1) == 0;
        return false;
    }
}
