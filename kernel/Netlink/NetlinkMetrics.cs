using System.Diagnostics.Metrics;

namespace OverlayNet.Kernel.Netlink;

/// <summary>Counters of netlink, in the meter "OverlayNet".</summary>
public static class NetlinkMetrics
{
    private static readonly Meter Meter = new("OverlayNet");

    /// <summary>Each is followed by a look at everything, so what was lost is found.</summary>
    public static Counter<long> Overruns { get; } = Meter.CreateCounter<long>("overlaynet.netlink.overruns", "{overrun}", "Times that notifications of the kernel were lost (ENOBUFS), and everything was looked at again");
}
