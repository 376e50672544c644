using OverlayNet.Kernel;
using OverlayNet.Kernel.Watchdog;
using OverlayNet.Vip.Fence;

namespace OverlayNet.UnitTests.Vip.Fence;

/// <summary>The watchdog behind the gates, with a device that only counts: machines of tests have none, and a real one would reset them.</summary>
public sealed class FenceWatchdogTests : IDisposable
{
    private readonly ManualTime _time = new();
    private readonly List<string> _alarms = [];
    private readonly FenceWatchdog _watchdog;
    private FakeDevice? _device;
    private KernelException? _refusal;
    private int _opened;

    public FenceWatchdogTests() => _watchdog = new FenceWatchdog(Open, () => Now, _time, _alarms.Add);

    private TimeSpan Now => TimeSpan.FromTicks(_time.GetTimestamp());

    public void Dispose() => _watchdog.Dispose();

    [Fact]
    public void It_runs_from_the_first_set_held_to_the_last_given_up()
    {
        var (a, b) = (_watchdog.Gate("a"), _watchdog.Gate("b"));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(0, _opened);

        a.SetDeadline(Now + TimeSpan.FromSeconds(4));
        b.SetDeadline(Now + TimeSpan.FromSeconds(4));
        a.SetDeadline(TimeSpan.Zero);
        Assert.False(_device!.Stopped);
        b.SetDeadline(TimeSpan.Zero);

        Assert.True(_device.Stopped);
        Assert.Equal(1, _opened);
    }

    [Fact]
    public void It_is_fed_in_time_while_leases_are_renewed()
    {
        var gate = _watchdog.Gate("a");
        for (var i = 0; i < 120; i++)
        {
            gate.SetDeadline(Now + TimeSpan.FromSeconds(4));
            _time.Advance(TimeSpan.FromSeconds(1));
            Assert.True(Now - _device!.FedAt < FenceWatchdog.Timeout / 2);
        }
        Assert.Empty(_alarms);
    }

    [Fact]
    public void A_fence_past_its_deadline_starves_it_whatever_other_sets_do()
    {
        var (hung, well) = (_watchdog.Gate("hung"), _watchdog.Gate("well"));
        hung.SetDeadline(Now + TimeSpan.FromSeconds(4));
        for (var i = 0; i < 30; i++)
        {
            well.SetDeadline(Now + TimeSpan.FromSeconds(4));
            _time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.True(Now - _device!.FedAt > FenceWatchdog.Timeout);
        Assert.Contains("hung", Assert.Single(_alarms), StringComparison.Ordinal);

        hung.SetDeadline(TimeSpan.Zero);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.True(Now - _device.FedAt <= TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Unfenced_there_is_nothing_to_watch()
    {
        var gate = _watchdog.Gate("a");
        gate.SetDeadline(Now + TimeSpan.FromSeconds(4));
        gate.SetDeadline(TimeSpan.MaxValue);

        Assert.True(_device!.Stopped);
    }

    [Fact]
    public void Without_the_device_nothing_opens()
    {
        _refusal = new KernelException("watchdog /dev/watchdog", 16);

        Assert.Throws<KernelException>(() => _watchdog.Gate("a").SetDeadline(Now + TimeSpan.FromSeconds(4)));
        Assert.Throws<KernelException>(_watchdog.Probe);
    }

    [Fact]
    public void A_probe_leaves_the_device_stopped()
    {
        _watchdog.Probe();

        Assert.True(_device!.Stopped);
        Assert.True(_device.Disposed);
    }

    private IWatchdogDevice Open()
    {
        if (_refusal is not null)
            throw _refusal;
        _opened++;
        return _device = new FakeDevice(() => Now);
    }

    private sealed class FakeDevice(Func<TimeSpan> now) : IWatchdogDevice
    {
        public TimeSpan Timeout => FenceWatchdog.Timeout;

        public TimeSpan FedAt { get; private set; } = now();

        public bool Stopped { get; private set; }

        public bool Disposed { get; private set; }

        public void Feed() => FedAt = now();

        public void Stop() => Stopped = true;

        public void Dispose() => Disposed = true;
    }
}
