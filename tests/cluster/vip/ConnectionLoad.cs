using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>
/// Connections at a fixed rate, whatever becomes of those before (an open loop): a balancer that stalls cannot slow the
/// measurement down with it. Each is connect, one exchange of an octet, close.
/// </summary>
public sealed class ConnectionLoad : IDisposable
{
    /// <summary>What the issue asks to survive.</summary>
    public const int PerMinute = 10_000;

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private readonly IPEndPoint _target;
    private readonly Thread _thread;
    private readonly ConcurrentDictionary<Task, byte> _running = new();
    private readonly ConcurrentQueue<string> _errors = new();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private int _begun, _done;
    private long _slowestTicks;
    private volatile bool _stopping;

    /// <param name="netns">The client's namespace.</param>
    public ConnectionLoad(string netns, IPEndPoint target)
    {
        _target = target;
        _thread = new Thread(() =>
        {
            using var open = NamedNamespaces.OpenPinned(netns);
            open.Run(Begin);
        })
        {
            IsBackground = true,
            Name = "load",
        };
        _thread.Start();
    }

    /// <summary>Connections that were begun so far.</summary>
    public int Begun => Volatile.Read(ref _begun);

    public TimeSpan Elapsed => _clock.Elapsed;

    /// <summary>Stops, and waits for what is under way.</summary>
    public LoadResult Finish()
    {
        _stopping = true;
        _thread.Join();
        var elapsed = _clock.Elapsed;
        Task.WaitAll([.. _running.Keys]);
        return new LoadResult(_done, [.. _errors], elapsed, TimeSpan.FromTicks(_slowestTicks));
    }

    public void Dispose()
    {
        _stopping = true;
        _thread.Join();
    }

    /// <summary>Runs in the namespace: that is where a socket belongs for life.</summary>
    private void Begin()
    {
        while (!_stopping)
        {
            var due = (long)(_clock.Elapsed.TotalMinutes * PerMinute);
            while (_begun < due && !_stopping)
            {
                var task = OneAsync(new Socket(_target.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
                _begun++;
                _running[task] = 0;
                task.ContinueWith(ended => _running.TryRemove(ended, out _), TaskScheduler.Default);
            }
            Thread.Sleep(2);
        }
    }

    private async Task OneAsync(Socket socket)
    {
        var begun = _clock.Elapsed;
        using (socket)
        {
            try
            {
                using var limit = new CancellationTokenSource(Limit);
                await socket.ConnectAsync(_target, limit.Token).ConfigureAwait(false);
                var octet = new byte[1];
                await socket.SendAsync(octet, limit.Token).ConfigureAwait(false);
                if (await socket.ReceiveAsync(octet, limit.Token).ConfigureAwait(false) != 1)
                    throw new SocketException((int)SocketError.ConnectionReset);
                Interlocked.Increment(ref _done);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException)
            {
                _errors.Enqueue($"begun at {begun.TotalSeconds:0.000} s, after {(_clock.Elapsed - begun).TotalSeconds:0.000} s: {e.Message}");
            }
        }
        var took = (_clock.Elapsed - begun).Ticks;
        for (var before = Volatile.Read(ref _slowestTicks); took > before; before = Volatile.Read(ref _slowestTicks))
        {
            if (Interlocked.CompareExchange(ref _slowestTicks, took, before) == before)
                break;
        }
    }
}

/// <summary>How a <see cref="ConnectionLoad"/> fared.</summary>
/// <param name="Slowest">The longest from connect to the end of the exchange.</param>
public sealed record LoadResult(int Succeeded, IReadOnlyList<string> Errors, TimeSpan Elapsed, TimeSpan Slowest)
{
    public double PerMinute => (Succeeded + Errors.Count) / Elapsed.TotalMinutes;

    public override string ToString() => $"{Succeeded} connections succeeded, {Errors.Count} failed in {Elapsed.TotalSeconds:0.0} s ({PerMinute:0} a minute), slowest {Slowest.TotalMilliseconds:0} ms{string.Concat(Errors.Take(20).Select(error => "\n" + error))}";
}

/// <summary>Answers each octet with an octet, inside a container.</summary>
public sealed class OctetServer : IDisposable
{
    private readonly Socket _listener;

    public OctetServer(string netns, IPAddress address, int port)
    {
        using var open = NamedNamespaces.OpenPinned(netns);
        _listener = open.Run(() => new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
        _listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        _listener.Bind(new IPEndPoint(address, port));
        _listener.Listen(4096);
        _ = AcceptAsync();
    }

    /// <summary>How many connections came here.</summary>
    public int Accepted => Volatile.Read(ref _accepted);

    private int _accepted;

    public void Dispose() => _listener.Dispose();

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var socket = await _listener.AcceptAsync().ConfigureAwait(false);
                Interlocked.Increment(ref _accepted);
                _ = EchoAsync(socket);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private static async Task EchoAsync(Socket socket)
    {
        using (socket)
        {
            try
            {
                var octet = new byte[1];
                while (await socket.ReceiveAsync(octet).ConfigureAwait(false) == 1)
                    await socket.SendAsync(octet).ConfigureAwait(false);
            }
            catch (SocketException)
            {
                // The client went away.
            }
        }
    }
}
