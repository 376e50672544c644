using Microsoft.Win32.SafeHandles;

namespace OverlayNet.Kernel.Watchdog;

/// <summary>A watchdog of the kernel, such as <c>/dev/watchdog</c> (linux/watchdog.h; Documentation/watchdog/watchdog-api.rst).</summary>
public sealed unsafe class WatchdogDevice : IWatchdogDevice
{
    // _IOWR('W', 6, int): asked for and got, in seconds.
    private const nuint SetTimeout = 0xC004_5706;

    // The letter that makes the next close stop the device. Without it, a device goes on when its last descriptor is closed: that is
    // what a killed process leaves behind.
    private const byte MagicClose = (byte)'V', Sign = 0;
    private readonly SafeFileHandle _handle;
    private readonly string _what;

    /// <summary>Opens it, which starts it.</summary>
    /// <param name="timeout">Whole seconds; a device that cannot count that far says how far it can.</param>
    /// <exception cref="KernelException">It is not there, not a watchdog (ENOTTY), or somebody else's (EBUSY).</exception>
    public WatchdogDevice(string path, TimeSpan timeout)
    {
        _what = $"watchdog {path}";
        var fd = Libc.Open(path, Libc.O_WRONLY | Libc.O_CLOEXEC, 0);
        if (fd < 0)
            throw Libc.Failure(_what);
        _handle = new SafeFileHandle(fd, ownsHandle: true);
        var seconds = (int)Math.Ceiling(timeout.TotalSeconds);
        if (Libc.Ioctl(fd, SetTimeout, (nint)(&seconds)) != 0)
        {
            var failure = Libc.Failure(_what);
            _handle.Dispose();
            throw failure;
        }
        Timeout = TimeSpan.FromSeconds(seconds);
    }

    public TimeSpan Timeout { get; }

    public void Feed() => Write(Sign);

    public void Stop() => Write(MagicClose);

    public void Dispose() => _handle.Dispose();

    private void Write(byte octet)
    {
        if (Libc.Write((int)_handle.DangerousGetHandle(), &octet, 1) != 1)
            throw Libc.Failure(_what);
    }
}
