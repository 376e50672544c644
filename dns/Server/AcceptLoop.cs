using System.Collections.Concurrent;
using OverlayNet.Dns.Interop;

namespace OverlayNet.Dns.Server;

/// <summary>
/// One thread that accepts the TCP connections of all listeners. Not Socket.AcceptAsync, because disposing a Socket
/// shuts a listening descriptor down, and these may belong to somebody who goes on using them.
/// </summary>
internal sealed unsafe class AcceptLoop : IDisposable
{
    private const int MostEvents = 32;
    private static readonly TimeSpan DescriptorPause = TimeSpan.FromMilliseconds(50);

    private readonly Action<int, ListenerSocket> _accepted;
    private readonly ConcurrentDictionary<ulong, ListenerSocket> _sockets = new();
    private readonly int _epoll = Libc.EpollCreate();
    private readonly int _wake = Libc.EventFd();
    private readonly Lock _serving = new();
    private readonly Thread _thread;
    private ulong _next;
    private volatile bool _stop;

    /// <param name="accepted">Takes the connected descriptor over.</param>
    public AcceptLoop(Action<int, ListenerSocket> accepted)
    {
        _accepted = accepted;
        if (_epoll < 0 || _wake < 0)
            throw new InvalidOperationException("Cannot create an epoll instance or eventfd: " + Libc.Describe(Math.Min(_epoll, _wake)));
        Libc.EpollAdd(_epoll, _wake, Libc.EPOLLIN, ulong.MaxValue);
        _thread = new Thread(Run) { IsBackground = true, Name = "dns-accept" };
        _thread.Start();
    }

    public void Add(ListenerSocket socket)
    {
        // A connection may be reset between epoll's word and accept, which must not wait for the next one then.
        Libc.SetNonBlocking(socket.Fd);
        var key = Interlocked.Increment(ref _next);
        _sockets[key] = socket;
        var result = Libc.EpollAdd(_epoll, socket.Fd, Libc.EPOLLIN, key);
        if (result < 0)
        {
            _sockets.TryRemove(key, out _);
            throw new InvalidOperationException($"Cannot watch descriptor {socket.Fd}: {Libc.Describe(result)}");
        }
    }

    /// <summary>Returns when the thread no longer uses the socket.</summary>
    public void Remove(ListenerSocket socket)
    {
        Libc.EpollRemove(_epoll, socket.Fd);
        lock (_serving)
        {
            foreach (var (key, known) in _sockets)
            {
                if (known == socket)
                    _sockets.TryRemove(key, out _);
            }
        }
    }

    public void Dispose()
    {
        if (_stop)
            return;
        _stop = true;
        Libc.Signal(_wake);
        _thread.Join();
        Libc.Close(_epoll);
        Libc.Close(_wake);
    }

    private void Run()
    {
        var raw = stackalloc byte[MostEvents * 16];
        Span<Libc.EpollEvent> events = stackalloc Libc.EpollEvent[MostEvents];
        while (!_stop)
        {
            var ready = Libc.EpollWait(_epoll, raw, events);
            var exhausted = false;
            lock (_serving)
            {
                for (var i = 0; i < ready; i++)
                {
                    if (!_sockets.TryGetValue(events[i].Data, out var socket))
                        continue;
                    var fd = Libc.Accept(socket.Fd);
                    if (fd >= 0)
                        _accepted(fd, socket);
                    else
                        exhausted |= fd is -Libc.EMFILE or -Libc.ENFILE;
                }
            }

            // The connection stays in the queue and would wake this thread again at once.
            if (exhausted)
                Thread.Sleep(DescriptorPause);
        }
    }
}
