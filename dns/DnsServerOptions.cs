using System.Net.Sockets;

namespace OverlayNet.Dns;

/// <summary>What is fixed for the life of a <see cref="DnsServer"/>.</summary>
public sealed record DnsServerOptions
{
    /// <summary>Threads that answer UDP; listeners are spread over them.</summary>
    public int UdpThreads { get; init; } = 1;

    /// <summary>Queries per second one client address may send over UDP; beyond it, truncated answers or none. 0: no limit.</summary>
    public int ClientQueriesPerSecond { get; init; } = 100_000;

    /// <summary>Connections at once.</summary>
    public int TcpConnections { get; init; } = 4096;

    /// <summary>Connections at once from one address.</summary>
    public int TcpConnectionsPerClient { get; init; } = 64;

    /// <summary>A connection without a complete query for this long is closed (RFC 7766 §6.2.3).</summary>
    public TimeSpan TcpIdle { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Forwarded queries in flight; one more is answered SERVFAIL at once.</summary>
    public int ForwardsInFlight { get; init; } = 4096;

    /// <summary>The same for one client address.</summary>
    public int ForwardsPerClient { get; init; } = 512;

    /// <summary>Bytes of forwarded answers kept; 0: no cache.</summary>
    public long CacheBytes { get; init; } = 16 << 20;

    /// <summary>How long an expired answer may still be served when no upstream answers (RFC 8767).</summary>
    public TimeSpan MaxStale { get; init; } = TimeSpan.FromDays(1);

    /// <summary>Time for one upstream to answer one try.</summary>
    public TimeSpan UpstreamTry { get; init; } = TimeSpan.FromMilliseconds(1200);

    /// <summary>Time for a forwarded query in all; below the five seconds that resolvers wait.</summary>
    public TimeSpan ForwardTotal { get; init; } = TimeSpan.FromMilliseconds(4500);

    /// <summary>Log every n-th query a thread answers, at level Information; 0: none.</summary>
    public int LogEvery { get; init; }

    /// <summary>File that answers are written to as dnstap messages (https://dnstap.info); null: none. At 64 MiB it becomes <c>FILE.1</c>.</summary>
    public string? DnstapFile { get; init; }

    /// <summary>Write every n-th answer of a thread to <see cref="DnstapFile"/>.</summary>
    public int DnstapEvery { get; init; } = 1;

    /// <summary>What the server calls itself in dnstap messages.</summary>
    public string Identity { get; init; } = Environment.MachineName;

    /// <summary>Secret of the server cookies (16 octets), the same on all nodes and after a restart; null: random.</summary>
    public byte[]? CookieSecret { get; init; }

    /// <summary>Makes the sockets that upstreams are asked with; null: in the process's own namespace.</summary>
    public Func<AddressFamily, SocketType, Socket>? UpstreamSocket { get; init; }
}
