using System.Net;

namespace OverlayNet.Contracts;

/// <summary>One step on the way from an endpoint to a name, desired state against kernel state.</summary>
public sealed record TraceHop
{
    /// <summary>A stable word: attachment, resolver, name, target, balancer, route, neighbour, fdb, tunnel, underlay, endpoint.</summary>
    public required string Hop { get; init; }

    /// <summary>What it is about: an endpoint, a network, an address.</summary>
    public required string Object { get; init; }

    /// <summary>The packet gets past here.</summary>
    public required bool Ok { get; init; }
    public required string Message { get; init; }
    public string? Evidence { get; init; }
    public string? Remedy { get; init; }
}

/// <summary>Where the probe, or the answer to it, was seen.</summary>
public sealed record TraceSighting
{
    /// <summary>Name of the point: an endpoint's port, <c>NETWORK/vxlan</c>, <c>underlay</c>; of another node on this machine with <c>NODE:</c> in front.</summary>
    public required string Point { get; init; }

    /// <summary>False: the answer.</summary>
    public required bool Request { get; init; }

    /// <summary>Since the first sighting.</summary>
    public required double Microseconds { get; init; }

    /// <summary>Where it was going when it was seen there: behind the balancer, the backend.</summary>
    public required IPAddress Destination { get; init; }
}

/// <summary>A packet that was really sent.</summary>
public sealed record TraceProbe
{
    /// <summary>tcp, udp or icmp.</summary>
    public required string Protocol { get; init; }
    public required IPAddress Source { get; init; }

    /// <summary>By which it is known again: its source port, or the identifier of an echo request.</summary>
    public int Mark { get; init; }
    public required IPAddress Destination { get; init; }
    public int Port { get; init; }

    /// <summary>answered, refused, silent or failed.</summary>
    public required string Outcome { get; init; }
    public double? RoundTripMs { get; init; }

    /// <summary>The backend it was sent to; null: it was not seen behind the balancer.</summary>
    public string? Backend { get; init; }
    public IReadOnlyList<TraceSighting> Seen { get; set; } = [];
}

/// <summary>What <c>overlaynet trace</c> found for one address of the name.</summary>
public sealed record TracePath
{
    public required IPAddress Address { get; init; }
    public IReadOnlyList<TraceHop> Hops { get; set; } = [];

    /// <summary>Null: nothing was sent.</summary>
    public TraceProbe? Probe { get; init; }
}

/// <summary>What <c>overlaynet trace</c> prints.</summary>
public sealed record TraceReport
{
    public required string From { get; init; }
    public required string To { get; init; }
    public required string Node { get; init; }
    public bool Ok { get; init; }

    /// <summary>Common to all addresses: the attachment and the name.</summary>
    public IReadOnlyList<TraceHop> Hops { get; set; } = [];
    public IReadOnlyList<TracePath> Paths { get; set; } = [];
}
