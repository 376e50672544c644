using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// Since when each real server of one director gets no new connections, and which were cut off at their deadline. The
/// kernel does not keep it, so a process that adopts another's table grants a whole deadline again.
/// </summary>
internal sealed class DrainClock
{
    private readonly Dictionary<(IpvsServiceKey, IPAddress), (DateTimeOffset Since, bool Cut)> drains = [];
    private readonly HashSet<(IpvsServiceKey, IPAddress)> running = [];

    internal DrainClock()
    {
    }

    private DrainClock(DrainClock other) => drains = new(other.drains);

    /// <summary>For a look that must not move the clock.</summary>
    internal DrainClock Copy() => new(this);

    /// <summary>The end of a drain that runs now, or starts now.</summary>
    internal DateTimeOffset Deadline(IpvsServiceKey service, IPAddress server, TimeSpan length, DateTimeOffset now)
    {
        running.Add((service, server));
        if (!drains.TryGetValue((service, server), out var drain))
            drains[(service, server)] = drain = (now, false);
        return drain.Since + length;
    }

    /// <summary>What was left at the deadline has been ended.</summary>
    internal void Cut(IpvsServiceKey service, IPAddress server) => drains[(service, server)] = drains[(service, server)] with { Cut = true };

    internal bool IsCut(IpvsServiceKey service, IPAddress server) => drains.TryGetValue((service, server), out var drain) && drain.Cut;

    /// <summary>Forgets every drain that nobody asked about since the last call: it is over, or was called off.</summary>
    internal void Settle()
    {
        foreach (var key in drains.Keys.Where(key => !running.Contains(key)).ToList())
            drains.Remove(key);
        running.Clear();
    }
}
