namespace OverlayNet.Contracts;

/// <summary>What a node's clock says.</summary>
public sealed record PeerClock
{
    /// <summary>Nanoseconds since 1970, UTC.</summary>
    public required long UnixNs { get; init; }
}

/// <summary>Another node's clock against this node's, as the quickest of a few exchanges shows it.</summary>
public sealed record ClockOffset
{
    public required string Node { get; init; }

    /// <summary>Nanoseconds that the other clock is ahead; negative: behind.</summary>
    public required long OffsetNs { get; init; }

    /// <summary>Half of the exchange's round trip: the offset is true to within this.</summary>
    public required long UncertaintyNs { get; init; }
}

/// <summary>Asks a node to take part in a probe of the way between two nodes, in each direction.</summary>
public sealed record PathProbeRequest
{
    /// <summary>Id of the network whose overlay is probed.</summary>
    public required string Network { get; init; }

    /// <summary>4 or 6.</summary>
    public required int Family { get; init; }

    /// <summary>UDP port that listens at the asking node's own address in the network.</summary>
    public required int Port { get; init; }

    /// <summary>In each datagram, in hexadecimal digits.</summary>
    public required string Token { get; init; }
}

/// <summary>The other node listens, and sends.</summary>
public sealed record PathProbeStarted
{
    /// <summary>By this its result is asked for.</summary>
    public required string Id { get; init; }

    /// <summary>UDP port that listens at the answering node's own address in the network.</summary>
    public required int Port { get; init; }
}

/// <summary>What the other node has seen.</summary>
public sealed record PathProbeSeen
{
    public required int Arrived { get; init; }
}

/// <summary>Datagrams through the overlay between the nodes' own addresses, counted where they arrive.</summary>
public sealed record PathReport
{
    public required string Node { get; init; }
    public required string Network { get; init; }

    /// <summary>4 or 6.</summary>
    public required int Family { get; init; }

    /// <summary>Datagrams sent each way.</summary>
    public required int Sent { get; init; }

    /// <summary>Those from here that the other node says it got.</summary>
    public required int There { get; init; }

    /// <summary>Those from the other node that arrived here.</summary>
    public required int Back { get; init; }
}
