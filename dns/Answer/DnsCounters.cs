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

    public void Count(Rcode rcode)
    {
        // Upstreams may send codes that are not assigned; they are counted with none.
        if ((uint)rcode < (uint)Rcodes.Length)
            Rcodes[(int)rcode]++;
    }
}
