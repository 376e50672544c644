using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.InKernel;
using OverlayNet.Dns.Interop;

namespace OverlayNet.Dns.Server;

/// <summary>
/// One thread that answers the UDP queries of any number of sockets: epoll, a batch of queries by recvmmsg, answers
/// written in place, the batch back by sendmmsg. Nothing on this path allocates or waits; what must wait is copied
/// out to <see cref="IForwardSink"/>.
/// </summary>
internal sealed unsafe class UdpLoop : IDisposable
{
    private const int Batch = 64;
    // An odd number of cache lines, so that the starts of the buffers do not all fall on the same few cache sets.
    private const int BufferSize = 23 * 64;
    private const int AddressSize = 32;
    private const int MostEvents = 64;

    // A socket may take this many batches in a row before the others get their turn.
    private const int MostRounds = 4;
    private const int BusyBatch = 2;

    // A thread with one socket waits in recvmmsg itself, which saves a system call per batch. Commands end the wait by
    // a datagram to the socket; should that not arrive (no loopback in the namespace), after this time.
    private static readonly TimeSpan CommandLatency = TimeSpan.FromMilliseconds(100);

    private readonly QueryProcessor _processor;
    private readonly RateLimiter _limiter;
    private readonly IForwardSink _forward;
    private readonly KernelAnswers? _kernel;
    private readonly TimeProvider _time;
    private readonly Thread _thread;
    private readonly int _epoll;
    private readonly int _wake;
    private readonly ConcurrentQueue<Action> _commands = new();
    private readonly List<ListenerSocket?> _sockets = [];
    private volatile ListenerSocket? _only;
    private bool _stop;

    private readonly void* _memory;
    private readonly Libc.MMsgHdr* _receive;
    private readonly Libc.IoVec* _vectors;
    private readonly byte* _addresses;
    private readonly byte* _buffers;
    private readonly AnswerBatch _answers = new(Batch);
    private BatchPacer _pacer;

    // How many messages' fields the last receive wrote.
    private int _written;

    public UdpLoop(int number, QueryProcessor processor, RateLimiter limiter, IForwardSink forward, TimeProvider time, KernelAnswers? kernel)
    {
        _processor = processor;
        _limiter = limiter;
        _forward = forward;
        _kernel = kernel;
        _time = time;
        _pacer = new BatchPacer(time.TimestampFrequency);
        _epoll = Libc.EpollCreate();
        _wake = Libc.EventFd();
        if (_epoll < 0 || _wake < 0)
            throw new InvalidOperationException("Cannot create an epoll instance or eventfd: " + Libc.Describe(Math.Min(_epoll, _wake)));
        Libc.EpollAdd(_epoll, _wake, Libc.EPOLLIN, ulong.MaxValue);

        const int PerMessage = 64 + 16 + AddressSize + BufferSize;
        _memory = NativeMemory.AlignedAlloc(Batch * PerMessage, 64);
        NativeMemory.Clear(_memory, Batch * PerMessage);
        _receive = (Libc.MMsgHdr*)_memory;
        _vectors = (Libc.IoVec*)(_receive + Batch);
        _addresses = (byte*)(_vectors + Batch);
        _buffers = _addresses + Batch * AddressSize;
        for (var i = 0; i < Batch; i++)
        {
            _vectors[i].Base = _buffers + i * BufferSize;
            _vectors[i].Length = BufferSize;
            _receive[i].Header.Name = _addresses + i * AddressSize;
            _receive[i].Header.NameLength = AddressSize;
            _receive[i].Header.Iov = _vectors + i;
            _receive[i].Header.IovLength = 1;
        }

        _thread = new Thread(Run) { IsBackground = true, Name = $"dns-udp-{number}" };
        _thread.Start();
    }

    public DnsCounters Counters => _processor.Counters;

    public void Add(ListenerSocket socket) => Execute(() =>
    {
        var index = _sockets.IndexOf(null);
        if (index < 0)
        {
            index = _sockets.Count;
            _sockets.Add(null);
        }

        var result = Libc.EpollAdd(_epoll, socket.Fd, Libc.EPOLLIN, (ulong)index);
        if (result < 0)
            throw new InvalidOperationException($"Cannot watch descriptor {socket.Fd}: {Libc.Describe(result)}");
        _sockets[index] = socket;
    });

    /// <summary>Returns when the thread no longer uses the socket.</summary>
    public void Remove(ListenerSocket socket) => Execute(() =>
    {
        var index = _sockets.IndexOf(socket);
        if (index < 0)
            return;
        Libc.EpollRemove(_epoll, socket.Fd);
        _sockets[index] = null;
    });

    public void Dispose()
    {
        if (_stop)
            return;
        Execute(() => _stop = true);
        _thread.Join();
        Libc.Close(_epoll);
        Libc.Close(_wake);
        NativeMemory.AlignedFree(_memory);
        _answers.Dispose();
    }

    private void Execute(Action command)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _commands.Enqueue(() =>
        {
            try
            {
                command();
                done.SetResult();
            }
            catch (Exception error)
            {
                done.SetException(error);
            }
        });
        Libc.Signal(_wake);
        if (_only is { } only)
            Libc.Poke(only.Fd);
        done.Task.GetAwaiter().GetResult();
    }

    private void Run()
    {
        var raw = stackalloc byte[MostEvents * 16];
        Span<Libc.EpollEvent> events = stackalloc Libc.EpollEvent[MostEvents];
        Libc.SetTimerSlack();
        while (!_stop)
        {
            if (_only is { } only)
            {
                Serve(only, wait: true);
                if (!_commands.IsEmpty)
                    RunCommands();
                continue;
            }

            var ready = Libc.EpollWait(_epoll, raw, events);
            for (var i = 0; i < ready; i++)
            {
                if (events[i].Data == ulong.MaxValue)
                {
                    Libc.Drain(_wake);
                    RunCommands();
                }
                else if (_sockets[(int)events[i].Data] is { } socket)
                {
                    // A full queue is worth another look before the kernel is asked which sockets are ready.
                    for (var round = 0; round < MostRounds && Serve(socket, wait: false) >= BusyBatch; round++)
                    {
                    }
                }
            }
        }
    }

    private void RunCommands()
    {
        while (_commands.TryDequeue(out var command))
            command();
        var socket = _sockets.Count(s => s is not null) == 1 ? _sockets.Find(s => s is not null) : null;
        if (socket is not null && socket != _only)
            Libc.SetBlocking(socket.Fd, CommandLatency);
        _only = socket;
    }

    /// <summary>Answers one batch; returns how many queries there were.</summary>
    private int Serve(ListenerSocket socket, bool wait)
    {
        for (var i = 0; i < _written; i++)
            _receive[i].Header.NameLength = AddressSize;
        var received = Libc.RecvMMsg(socket.Fd, _receive, Batch, wait);
        _written = Math.Max(received, 0);
        if (received <= 0)
            return 0;

        // Before the view is looked at: what changes from here on is not put in.
        var version = _kernel?.Version ?? 0;
        var view = socket.View;
        var now = _time.GetTimestamp();
        _answers.Clear();
        for (var i = 0; i < received; i++)
        {
            var packet = _buffers + i * BufferSize;
            var length = (int)_receive[i].Length;
            var client = ClientAddress.FromSockAddr(_addresses + i * AddressSize);
            int answer;
            if (_limiter.Allow(client, now, out var slip))
            {
                answer = _processor.Process(packet, length, tcp: false, client, view);
                if (answer == QueryProcessor.Forward)
                {
                    answer = _forward.TryAnswerFromCache(_processor, packet, client, now);
                    if (answer == QueryProcessor.Forward)
                    {
                        var address = new ReadOnlySpan<byte>(_addresses + i * AddressSize, (int)_receive[i].Header.NameLength);
                        answer = _forward.TrySubmit(socket, new ReadOnlySpan<byte>(packet, length), address, client, view)
                            ? QueryProcessor.Drop
                            : _processor.Fail(Rcode.ServFail, tcp: false, client);
                    }
                }
                else if (_kernel is not null && socket.KernelNetwork != 0 && _processor.LastingRecord is { IsEmpty: false } record)
                {
                    _kernel.Learn(version, socket.KernelNetwork, _processor.Query.Type, _processor.Query.Name, record);
                }
            }
            else
            {
                Counters.RateLimited++;
                answer = slip ? _processor.Truncate(packet, length) : QueryProcessor.Drop;
            }

            if (answer > 0)
                _answers.Add(packet, answer, _addresses + i * AddressSize, (int)_receive[i].Header.NameLength);
        }

        var messages = _answers.Send(socket);
        Counters.Merged = _answers.Merged;
        Counters.SendFailed = _answers.Failed;
        Counters.CountBatch(_time.GetElapsedTime(now).TotalSeconds, received);
        if (_pacer.ShouldWait(now, received, messages))
            Libc.Pause(BatchPacer.Wait);
        return received;
    }
}
