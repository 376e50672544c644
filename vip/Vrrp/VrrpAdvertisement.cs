using System.Net;

namespace OverlayNet.Vip.Vrrp;

/// <summary>An ADVERTISEMENT as the state machine sees it: the packet's fields and who sent it.</summary>
public sealed record VrrpAdvertisement
{
    public required VrrpVersion Version { get; init; }
    public required byte VirtualRouterId { get; init; }
    public required byte Priority { get; init; }

    /// <summary>Centiseconds; version 2 carries whole seconds only.</summary>
    public required int IntervalCs { get; init; }

    /// <summary>The sender's primary address, which decides between equal priorities.</summary>
    public required IPAddress Source { get; init; }
    public required IReadOnlyList<IPAddress> Addresses { get; init; }
}
