namespace OverlayNet.Vip.Vrrp;

/// <summary>The intervals of RFC 9568 §6.1 and RFC 3768 §6.1.</summary>
public static class VrrpTimers
{
    public static TimeSpan FromCentiseconds(int cs) => TimeSpan.FromTicks(cs * (TimeSpan.TicksPerMillisecond * 10));

    /// <summary>
    /// Skew_Time: the lower the priority, the longer the wait. Version 3 scales with the Active Router's interval,
    /// version 2 with one second whatever the interval.
    /// </summary>
    public static TimeSpan SkewTime(VrrpVersion version, int priority, int activeAdverIntervalCs)
    {
        var unit = version == VrrpVersion.V3 ? FromCentiseconds(activeAdverIntervalCs) : TimeSpan.FromSeconds(1);
        return unit * (256 - priority) / 256;
    }

    /// <summary>Active_Down_Interval (Master_Down_Interval in version 2): silence after which a Backup takes over.</summary>
    public static TimeSpan ActiveDownInterval(VrrpVersion version, int priority, int activeAdverIntervalCs) =>
        3 * FromCentiseconds(activeAdverIntervalCs) + SkewTime(version, priority, activeAdverIntervalCs);
}
