using System.Runtime.InteropServices;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Interop;

namespace OverlayNet.Dns.Server;

/// <summary>A socket somebody handed in, and what it answers from.</summary>
internal sealed class ListenerSocket
{
    private readonly Lock _closing = new();
    private readonly SafeHandle _handle;
    private readonly bool _leaveOpen;
    private ListenerView _view;
    private bool _closed;

    public ListenerSocket(SafeHandle handle, bool leaveOpen, ListenerView view)
    {
        _handle = handle;
        _leaveOpen = leaveOpen;
        _view = view;
        var added = false;
        handle.DangerousAddRef(ref added);
        Fd = (int)handle.DangerousGetHandle();
    }

    public int Fd { get; }

    /// <summary>The network's number in the answers given by the kernel; 0: the kernel answers nothing here.</summary>
    public uint KernelNetwork { get; init; }

    /// <summary>Whether the kernel cuts messages into datagrams on the way out. Its thread's.</summary>
    public bool Segments { get; set; } = true;

    public ListenerView View { get => Volatile.Read(ref _view); set => Volatile.Write(ref _view, value); }

    /// <summary>Sends from any thread; nothing once the listener is closed.</summary>
    public bool Send(ReadOnlySpan<byte> message, ReadOnlySpan<byte> address)
    {
        lock (_closing)
            return !_closed && Libc.SendTo(Fd, message, address) >= 0;
    }

    /// <summary>After this nothing touches the descriptor; it is closed unless the owner keeps it.</summary>
    public void Close()
    {
        lock (_closing)
        {
            if (_closed)
                return;
            _closed = true;
        }

        _handle.DangerousRelease();
        if (!_leaveOpen)
            _handle.Dispose();
    }
}
