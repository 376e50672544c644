using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Taps;

/// <summary>Somebody who wants to see every n-th answer a thread gives. Must not hold that thread up: when it is slow, samples are lost, not time.</summary>
internal abstract class QueryTap(int every) : IDisposable
{
    /// <summary>At least 1, which is every answer.</summary>
    public int Every { get; } = every;

    /// <param name="client">Who asked.</param>
    /// <param name="tcp">Whether over TCP.</param>
    /// <param name="query">The query as parsed.</param>
    /// <param name="rcode">The answer's code.</param>
    /// <param name="answer">The whole answer; valid during the call only.</param>
    public abstract void Take(in ClientAddress client, bool tcp, in ParsedQuery query, Rcode rcode, ReadOnlySpan<byte> answer);

    public abstract void Dispose();
}
