namespace OverlayNet.Dns.Answer;

/// <summary>Counters of one thread: plain increments there, read torn-free (64-bit) by whoever sums them up.</summary>
internal sealed class DnsCounters
{
    public long Queries;
    public long Owned;
    public long Negative;
    public long Edns;
    public long Truncated;
    public long Malformed;
    public long RateLimited;
    public long SendFailed;
    public long Merged;
    public readonly long[] Rcodes = new long[24];

    /// <summary>Queries by how long the batch took that answered them: bucket i is up to <see cref="DnsMetrics.AnswerBounds"/>[i].</summary>
    public readonly long[] AnswerBuckets = new long[DnsMetrics.AnswerBounds.Count + 1];
    public double AnswerSeconds;

    public void CountBatch(double seconds, int queries)
    {
        var bucket = 0;
        while (bucket < DnsMetrics.AnswerBounds.Count && seconds > DnsMetrics.AnswerBounds[bucket])
            bucket++;
        AnswerBuckets[bucket] += queries;
        AnswerSeconds += seconds * queries;
    }

    public void Count(Rcode rcode)
    {
        // Upstreams may send codes that are not assigned; they are counted with none.
        if ((uint)rcode < (uint)Rcodes.Length)
            Rcodes[(int)rcode]++;
    }
}
