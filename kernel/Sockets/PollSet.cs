namespace OverlayNet.Kernel;

/// <summary>Waits for several descriptors, a wake-up from another thread, or a moment (ppoll(2) with an eventfd).</summary>
public sealed unsafe class PollSet : IDisposable
{
    private int _wake;

    /// <exception cref="KernelException">No descriptor left.</exception>
    public PollSet()
    {
        _wake = Libc.EventFd(0, Libc.EFD_CLOEXEC | Libc.EFD_NONBLOCK);
        if (_wake < 0)
            throw Libc.Failure("eventfd");
    }

    /// <summary>Ends the current or next <see cref="Wait"/>. Safe from any thread.</summary>
    public void Wake()
    {
        ulong one = 1;
        _ = Libc.Write(_wake, &one, sizeof(ulong));
    }

    /// <summary>Returns when a descriptor is readable, when woken, when the time is over, or on a signal.</summary>
    /// <param name="timeout">Null: no limit. Counted in nanoseconds by the monotonic clock.</param>
    public void Wait(ReadOnlySpan<int> descriptors, TimeSpan? timeout)
    {
        var fds = stackalloc Libc.PollFd[descriptors.Length + 1];
        for (var i = 0; i < descriptors.Length; i++)
            fds[i] = new Libc.PollFd { Fd = descriptors[i], Events = Libc.POLLIN };
        fds[descriptors.Length] = new Libc.PollFd { Fd = _wake, Events = Libc.POLLIN };
        var left = timeout is { } limit && limit > TimeSpan.Zero ? limit : TimeSpan.Zero;
        var time = new Libc.TimeSpec { Seconds = left.Ticks / TimeSpan.TicksPerSecond, Nanoseconds = left.Ticks % TimeSpan.TicksPerSecond * 100 };
        _ = Libc.PPoll(fds, (nuint)descriptors.Length + 1, timeout is null ? null : &time, null);
        ulong drained;
        if (fds[descriptors.Length].Revents != 0)
            _ = Libc.ReadFd(_wake, &drained, sizeof(ulong));
    }

    /// <summary>
    /// Asks for the lowest real-time priority (SCHED_FIFO 1) for the calling thread: adverts must not wait behind work.
    /// </summary>
    /// <returns>False when the kernel refused (no CAP_SYS_NICE, or no real-time bandwidth in the cgroup).</returns>
    public static bool TryRealTime()
    {
        const int fifo = 1, resetOnFork = 0x40000000;
        var priority = 1;
        return Libc.SetScheduler(0, fifo | resetOnFork, &priority) == 0;
    }

    public void Dispose()
    {
        if (_wake >= 0)
            _ = Libc.Close(_wake);
        _wake = -1;
    }
}
