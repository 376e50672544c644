namespace OverlayNet.Kernel;

/// <summary>
/// CLOCK_BOOTTIME: since the machine's start, never stepped, going on during suspend; the clock leases and gates use.
/// </summary>
public static unsafe class BootClock
{
    /// <exception cref="KernelException">The kernel has no such clock (before Linux 2.6.39).</exception>
    public static TimeSpan Now => TimeSpan.FromTicks(Nanoseconds / 100);

    /// <summary>As <see cref="Now"/>, in the unit BPF programs see.</summary>
    public static long Nanoseconds
    {
        get
        {
            Libc.TimeSpec time;
            if (Libc.ClockGetTime(Libc.CLOCK_BOOTTIME, &time) != 0)
                throw Libc.Failure("read CLOCK_BOOTTIME");
            return time.Seconds * 1_000_000_000 + time.Nanoseconds;
        }
    }
}
