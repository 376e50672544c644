namespace OverlayNet.Kernel;

/// <summary>The host's wall clock in the unit the kernel stamps packets with, and nftables' <c>meta time</c> compares with. It may be set: what must not go back uses <see cref="BootClock"/>.</summary>
public static class WallClock
{
    /// <summary>Nanoseconds since 1970, UTC.</summary>
    public static long Nanoseconds => (DateTime.UtcNow - DateTime.UnixEpoch).Ticks * 100;
}
