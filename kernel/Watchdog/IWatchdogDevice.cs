namespace OverlayNet.Kernel.Watchdog;

/// <summary>A watchdog that was started: the machine is reset when it is not fed in time.</summary>
public interface IWatchdogDevice : IDisposable
{
    /// <summary>How long after the last feeding the machine is reset.</summary>
    TimeSpan Timeout { get; }

    /// <exception cref="KernelException">The device refused.</exception>
    void Feed();

    /// <summary>Stops it, once nobody is there to feed it. One that cannot be stopped counts on, and the machine will be reset.</summary>
    /// <exception cref="KernelException">The device refused.</exception>
    void Stop();
}
