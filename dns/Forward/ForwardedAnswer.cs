using System.Buffers.Binary;

namespace OverlayNet.Dns.Forward;

/// <summary>
/// An upstream's answer, checked and stripped to what belongs to the question: the records behind the question, ready
/// to be copied behind any client's question of the same name (compression pointers count from the message's start,
/// and the question's length is the same).
/// </summary>
internal sealed record ForwardedAnswer
{
    public required Rcode Rcode { get; init; }

    /// <summary>Records without OPT.</summary>
    public required byte[] Body { get; init; }

    public required int Answers { get; init; }

    public required int Authorities { get; init; }

    /// <summary>Upstream's AD bit: it validated (RFC 4035 §3.2.3). Passed through, not judged.</summary>
    public bool Authenticated { get; init; }

    /// <summary>Where in <see cref="Body"/> TTLs lie.</summary>
    public required int[] TtlAt { get; init; }

    /// <summary>Seconds it may be kept, from the records' TTLs or, when negative, the SOA (RFC 2308 §5). 0: not at all.</summary>
    public required uint Ttl { get; init; }

    /// <summary>The upstream that gave it.</summary>
    public string Source { get; init; } = "";

    public static ForwardedAnswer Failure(Rcode rcode) =>
        new() { Rcode = rcode, Body = [], Answers = 0, Authorities = 0, TtlAt = [], Ttl = 0 };

    /// <summary>How many answer records, and how many octets of the body, fit in <paramref name="room"/>.</summary>
    public (int Records, int Size) Fit(int room)
    {
        var (records, size) = (0, 0);
        while (records < Answers)
        {
            var end = RecordEnd(records);
            if (end > room)
                break;
            (records, size) = (records + 1, end);
        }

        return (records, size);
    }

    /// <summary>Copies the records that fill <paramref name="to"/>, with their TTLs reduced by <paramref name="age"/> seconds.</summary>
    public void Write(Span<byte> to, uint age, uint? fixedTtl = null)
    {
        Body.AsSpan(0, to.Length).CopyTo(to);
        foreach (var at in TtlAt)
        {
            if (at >= to.Length)
                break;
            var ttl = BinaryPrimitives.ReadUInt32BigEndian(Body.AsSpan(at));
            BinaryPrimitives.WriteUInt32BigEndian(to[at..], fixedTtl ?? (ttl > age ? ttl - age : 0));
        }
    }

    // TTL, data length, data.
    private int RecordEnd(int record) => TtlAt[record] + 6 + BinaryPrimitives.ReadUInt16BigEndian(Body.AsSpan(TtlAt[record] + 4));
}
