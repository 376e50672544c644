using System.Net;

namespace OverlayNet.Dns;

/// <summary>What a client would be answered, and why.</summary>
public sealed record DnsExplanation
{
    public required string Name { get; init; }

    public required string Type { get; init; }

    /// <summary>Address the question was supposed to come from.</summary>
    public required IPAddress Source { get; init; }

    /// <summary>Networks the client sees, in search order.</summary>
    public required IReadOnlyList<string> Networks { get; init; }

    public required Rcode Rcode { get; init; }

    /// <summary>In words: which name was meant, or why there is none.</summary>
    public required string Rule { get; init; }

    /// <summary><c>table</c>, <c>cache</c>, <c>stale</c>, <c>upstream</c>, <c>forward</c> (not asked) or <c>none</c>.</summary>
    public required string Origin { get; init; }

    /// <summary>Network whose table answered.</summary>
    public string? Network { get; init; }

    /// <summary>Name in that table, relative to the network.</summary>
    public string? Entry { get; init; }

    /// <summary>Upstream that gave, or gave once, the answer.</summary>
    public string? Upstream { get; init; }

    /// <summary>Upstreams the name is forwarded to.</summary>
    public IReadOnlyList<string> Candidates { get; init; } = [];

    /// <summary>Seconds since a cached answer came.</summary>
    public long Age { get; init; }

    /// <summary>Revision of the state the answer is from.</summary>
    public required long Revision { get; init; }

    public required bool Synced { get; init; }

    public IReadOnlyList<DnsRecord> Answers { get; init; } = [];

    public IReadOnlyList<DnsRecord> Authority { get; init; } = [];

    public IReadOnlyList<DnsRecord> Additional { get; init; } = [];

    /// <summary>Whether the kernel gives this answer to the network's clients, without the server.</summary>
    public bool InKernel { get; init; }
}

/// <summary>A record as text, in the master file's form (RFC 1035 §5.1).</summary>
/// <param name="Name">Owner with a trailing dot.</param>
/// <param name="Type">Mnemonic or TYPE followed by the number.</param>
/// <param name="Ttl">Seconds.</param>
/// <param name="Data">Record data.</param>
public sealed record DnsRecord(string Name, string Type, uint Ttl, string Data);

/// <summary>One record of the answer table.</summary>
/// <param name="Network">Network whose members see it.</param>
/// <param name="Name">Relative to the network, as its members may ask for it.</param>
/// <param name="Type">Mnemonic.</param>
/// <param name="Ttl">Seconds.</param>
/// <param name="Data">Record data.</param>
public sealed record DnsTableRecord(string Network, string Name, string Type, uint Ttl, string Data);

/// <summary>One forwarded answer that is kept.</summary>
/// <param name="Name">Asked name.</param>
/// <param name="Type">Asked type.</param>
/// <param name="Rcode">Answer's code.</param>
/// <param name="SecondsLeft">Until it expires; negative: kept to be served stale.</param>
/// <param name="Upstream">Who said so.</param>
/// <param name="Hits">Times it was served.</param>
/// <param name="Bytes">Memory it is charged with.</param>
public sealed record DnsCacheRecord(string Name, string Type, Rcode Rcode, long SecondsLeft, string Upstream, int Hits, int Bytes);
