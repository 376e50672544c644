using OverlayNet.Kernel;
using OverlayNet.Kernel.Watchdog;

namespace OverlayNet.Vip.Fence;

/// <summary>
/// The last resort behind the gates: while this node holds a fenced VIP a watchdog of the machine is running, fed only as long as every set
/// held is within its deadline. A process that neither renews nor gives up, and one that is gone, has the machine reset. Started with the
/// first set held and stopped with the last given up, so that a node without VIPs may be killed, upgraded and debugged at leisure.
/// </summary>
public sealed class FenceWatchdog : IDisposable
{
    /// <summary>What is asked of the device: above the default profile's lease, so that a right that merely runs out never resets a machine.</summary>
    public static readonly TimeSpan Timeout = TimeSpan.FromSeconds(10);

    // The routers' thread gives up at the deadline; so long it may take to say so.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(1);
    private readonly Lock _lock = new();
    private readonly Func<IWatchdogDevice> _open;
    private readonly Func<TimeSpan> _bootTime;
    private readonly Action<string> _alarm;
    private readonly Dictionary<string, TimeSpan> _held = [];
    private readonly ITimer _timer;
    private IWatchdogDevice? _device;
    private bool _starving;

    /// <param name="open">Opens and thereby starts the device; throws <see cref="KernelException"/>.</param>
    /// <param name="bootTime">The clock of the deadlines.</param>
    /// <param name="time">For the timer alone.</param>
    /// <param name="alarm">Told when the machine will be reset, and when the device fails.</param>
    public FenceWatchdog(Func<IWatchdogDevice> open, Func<TimeSpan> bootTime, TimeProvider time, Action<string> alarm)
    {
        (_open, _bootTime, _alarm) = (open, bootTime, alarm);
        _timer = time.CreateTimer(_ => Look(), null, Timeout / 10, Timeout / 10);
    }

    /// <summary>Opens the device and stops it again, to learn now and not at a take-over whether it can be had.</summary>
    /// <exception cref="KernelException">It cannot.</exception>
    public void Probe()
    {
        lock (_lock)
        {
            if (_device is not null)
                return;
            using var device = _open();
            device.Stop();
        }
    }

    /// <summary>The watchdog's part of a set's gate: it must come first, so that it runs before anything opens.</summary>
    public IFenceGate Gate(string set) => new SetGate(this, set);

    /// <summary>Stops the device: every set has been given up in good order.</summary>
    public void Dispose()
    {
        _timer.Dispose();
        lock (_lock)
        {
            _held.Clear();
            Stop();
        }
    }

    private void Set(string set, TimeSpan deadline)
    {
        lock (_lock)
        {
            // Unfenced (MaxValue) there is no deadline to keep.
            if (deadline <= TimeSpan.Zero || deadline == TimeSpan.MaxValue)
            {
                _held.Remove(set);
                if (_held.Count == 0)
                    Stop();
                return;
            }
            _device ??= _open();
            _held[set] = deadline;
            FeedIfWell();
        }
    }

    private void Look()
    {
        lock (_lock)
        {
            if (_device is not null)
                FeedIfWell();
        }
    }

    private void FeedIfWell()
    {
        var now = _bootTime();
        var late = _held.Where(set => now > set.Value + Grace).Select(set => set.Key).FirstOrDefault();
        if (late is not null)
        {
            if (!_starving)
                _alarm($"the fence of {late} is past its deadline and has not given up: the watchdog is not fed, this machine is reset within {_device!.Timeout.TotalSeconds:0} s");
            _starving = true;
            return;
        }
        _starving = false;
        try
        {
            _device!.Feed();
        }
        catch (KernelException e)
        {
            _alarm(e.Message);
        }
    }

    private void Stop()
    {
        if (_device is null)
            return;
        try
        {
            _device.Stop();
        }
        catch (KernelException e)
        {
            _alarm(e.Message);
        }
        _device.Dispose();
        _device = null;
        _starving = false;
    }

    private sealed class SetGate(FenceWatchdog watchdog, string set) : IFenceGate
    {
        public string Name => "watchdog";

        public void SetDeadline(TimeSpan bootTime) => watchdog.Set(set, bootTime);

        public void Remove() => watchdog.Set(set, TimeSpan.Zero);

        public void Dispose() => watchdog.Set(set, TimeSpan.Zero);
    }
}
