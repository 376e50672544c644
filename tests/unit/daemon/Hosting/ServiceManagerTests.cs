using System.Net.Sockets;
using System.Text;
using OverlayNet.Daemon.Hosting;

namespace OverlayNet.UnitTests.Daemon.Hosting;

public sealed class ServiceManagerTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"overlaynet-test-{Guid.NewGuid():N}.sock");
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = 10_000 };

    public ServiceManagerTests() => _socket.Bind(new UnixDomainSocketEndPoint(_path));

    [Fact]
    public void Readiness_is_told_to_the_socket_of_the_environment()
    {
        using var manager = new ServiceManager(name => name == "NOTIFY_SOCKET" ? _path : null);

        manager.Ready("node a");

        Assert.Equal("READY=1\nSTATUS=node a", Receive());
        Assert.Null(manager.WatchdogInterval);
    }

    [Fact]
    public async Task The_watchdog_hears_at_half_its_time_and_only_while_all_is_well()
    {
        var (time, alive) = (new ManualTime(), true);
        using var manager = new ServiceManager(name => name switch { "NOTIFY_SOCKET" => _path, "WATCHDOG_USEC" => "4000000", _ => null });
        using var stop = new CancellationTokenSource();
        var asked = 0;
        var watching = manager.Watch(() => ++asked > 0 && alive, time, stop.Token);

        Assert.Equal(TimeSpan.FromSeconds(2), manager.WatchdogInterval);
        Assert.Equal("WATCHDOG=1", Receive());
        alive = false;
        time.Advance(TimeSpan.FromSeconds(2));
        SpinWait.SpinUntil(() => Volatile.Read(ref asked) == 2, TimeSpan.FromSeconds(10));
        Assert.Equal(0, _socket.Available);
        await stop.CancelAsync();
        await watching;
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("vsock:2:1234")]
    public void Without_a_manager_nothing_is_said(string? address)
    {
        using var manager = new ServiceManager(name => name == "NOTIFY_SOCKET" ? address : "1000000");

        manager.Ready("x");
        manager.Stopping();

        Assert.Null(manager.WatchdogInterval);
    }

    public void Dispose()
    {
        _socket.Dispose();
        File.Delete(_path);
    }

    private string Receive()
    {
        var buffer = new byte[512];
        return Encoding.UTF8.GetString(buffer, 0, _socket.Receive(buffer));
    }
}
