using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.Daemon.Hosting;

/// <summary>What a service manager wants to hear (sd_notify(3)): ready, alive, stopping. Silent where there is none.</summary>
internal sealed class ServiceManager : IDisposable
{
    private readonly Socket? _socket;
    private readonly UnixDomainSocketEndPoint? _address;

    /// <param name="environment">NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as the manager set them.</param>
    public ServiceManager(Func<string, string?> environment)
    {
        if (environment("NOTIFY_SOCKET") is not { Length: > 1 } path || (path[0] != '/' && path[0] != '@'))
            return;
        _socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        // '@' stands for the abstract namespace (unix(7)).
        _address = new UnixDomainSocketEndPoint(path[0] == '@' ? '\0' + path[1..] : path);
        WatchdogInterval = Watchdog(environment);
    }

    /// <summary>How often a sign of life is due; null: no watchdog. Half of what the manager allows.</summary>
    public TimeSpan? WatchdogInterval { get; }

    public void Ready(string status) => Send($"READY=1\nSTATUS={status}");

    public void Stopping() => Send("STOPPING=1\nSTATUS=stopping; networks, names in the kernel's reach and VIPs go on");

    /// <summary>
    /// Tells the watchdog that all is well as long as <paramref name="alive"/> says so. It runs on the thread pool: one that
    /// is starved stops it, too.
    /// </summary>
    public async Task Watch(Func<bool> alive, TimeProvider time, CancellationToken cancellation)
    {
        if (WatchdogInterval is not { } interval)
            return;
        using var timer = new PeriodicTimer(interval, time);
        try
        {
            do
            {
                if (alive())
                    Send("WATCHDOG=1");
            }
            while (await timer.WaitForNextTickAsync(cancellation).ConfigureAwait(false));
        }
        catch (OperationCanceledException)
        {
            // Stopping.
        }
    }

    public void Dispose() => _socket?.Dispose();

    private static TimeSpan? Watchdog(Func<string, string?> environment)
    {
        if (!long.TryParse(environment("WATCHDOG_USEC"), NumberStyles.None, CultureInfo.InvariantCulture, out var microseconds) || microseconds == 0)
            return null;
        var meant = environment("WATCHDOG_PID");
        return string.IsNullOrEmpty(meant) || meant == Environment.ProcessId.ToString(CultureInfo.InvariantCulture)
            ? TimeSpan.FromMicroseconds(microseconds / 2.0)
            : null;
    }

    private void Send(string text)
    {
        try
        {
            _socket?.SendTo(Encoding.UTF8.GetBytes(text), _address!);
        }
        catch (SocketException)
        {
            // The manager will say what it missed; without it there is nobody to tell.
        }
    }
}
