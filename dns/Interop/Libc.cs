using System.Runtime.InteropServices;

namespace OverlayNet.Dns.Interop;

/// <summary>
/// The system calls of the query path. Errors come back as <c>-errno</c>, read straight after the call on the same
/// thread; SetLastError marshalling would cost on every call.
/// </summary>
internal static unsafe partial class Libc
{
    public const int AF_INET = 2, AF_INET6 = 10;
    public const int SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_NONBLOCK = 0x800, SOCK_CLOEXEC = 0x80000;
    public const int SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_RCVBUF = 8, SO_REUSEPORT = 15, SO_RCVTIMEO = 20, SO_RCVBUFFORCE = 33;
    public const int IPPROTO_IP = 0, IPPROTO_IPV6 = 41, IPV6_V6ONLY = 26, IP_FREEBIND = 15, IPV6_FREEBIND = 78;
    public const int MSG_DONTWAIT = 0x40, MSG_WAITFORONE = 0x10000;
    private const int SOL_UDP = 17, UDP_SEGMENT = 103;
    private const int PR_SET_TIMERSLACK = 29;
    public const int F_GETFL = 3, F_SETFL = 4, O_NONBLOCK = 0x800;
    public const int EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2;
    public const uint EPOLLIN = 1, EPOLLERR = 8, EPOLLHUP = 16;
    public const int EPOLL_CLOEXEC = 0x80000, EFD_CLOEXEC = 0x80000, EFD_NONBLOCK = 0x800;
    public const int EIO = 5, EACCES = 13, EINVAL = 22, ENFILE = 23, EMFILE = 24, EMSGSIZE = 90, ENOPROTOOPT = 92, EOPNOTSUPP = 95, EADDRINUSE = 98, EADDRNOTAVAIL = 99;

    /// <summary><c>struct iovec</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct IoVec
    {
        public void* Base;
        public nuint Length;
    }

    /// <summary><c>struct msghdr</c>, 64-bit layout.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct MsgHdr
    {
        public void* Name;
        public uint NameLength;
        public IoVec* Iov;
        public nuint IovLength;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }

    /// <summary><c>struct mmsghdr</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct MMsgHdr
    {
        public MsgHdr Header;
        public uint Length;
    }

    /// <summary><c>struct epoll_event</c>; packed on x86-64 only (linux/eventpoll.h).</summary>
    public struct EpollEvent
    {
        public uint Events;
        public ulong Data;
    }

    [LibraryImport("libc", EntryPoint = "socket")]
    private static partial int SocketRaw(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "bind")]
    private static partial int BindRaw(int fd, void* address, uint length);

    [LibraryImport("libc", EntryPoint = "listen")]
    private static partial int ListenRaw(int fd, int backlog);

    [LibraryImport("libc", EntryPoint = "setsockopt")]
    private static partial int SetSockOptRaw(int fd, int level, int name, void* value, uint length);

    // Variadic in C; with integer arguments the call is the same on Linux's 64-bit ABIs.
    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int FcntlRaw(int fd, int command, nint argument);

    [LibraryImport("libc", EntryPoint = "getsockname")]
    private static partial int GetSockNameRaw(int fd, void* address, uint* length);

    [LibraryImport("libc", EntryPoint = "accept4")]
    private static partial int Accept4Raw(int fd, void* address, uint* length, int flags);

    [LibraryImport("libc", EntryPoint = "recvmmsg")]
    private static partial int RecvMMsgRaw(int fd, MMsgHdr* vector, uint count, int flags, void* timeout);

    [LibraryImport("libc", EntryPoint = "sendmmsg")]
    private static partial int SendMMsgRaw(int fd, MMsgHdr* vector, uint count, int flags);

    [LibraryImport("libc", EntryPoint = "sendto")]
    private static partial nint SendToRaw(int fd, void* buffer, nuint length, int flags, void* address, uint addressLength);

    [LibraryImport("libc", EntryPoint = "epoll_create1")]
    private static partial int EpollCreateRaw(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl")]
    private static partial int EpollCtlRaw(int epfd, int operation, int fd, void* @event);

    [LibraryImport("libc", EntryPoint = "epoll_wait")]
    private static partial int EpollWaitRaw(int epfd, void* events, int count, int timeoutMilliseconds);

    [LibraryImport("libc", EntryPoint = "eventfd")]
    private static partial int EventFdRaw(uint initial, int flags);

    [LibraryImport("libc", EntryPoint = "read")]
    private static partial nint ReadRaw(int fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write")]
    private static partial nint WriteRaw(int fd, void* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "nanosleep")]
    private static partial int NanoSleepRaw(void* time, void* remaining);

    // Variadic in C, as fcntl.
    [LibraryImport("libc", EntryPoint = "prctl")]
    private static partial int PrctlRaw(int option, nint argument, nint a3, nint a4, nint a5);

    [LibraryImport("libc", EntryPoint = "close")]
    public static partial int Close(int fd);

    public static int Socket(int family, int type) => Result(SocketRaw(family, type, 0));

    public static int Bind(int fd, ReadOnlySpan<byte> address)
    {
        fixed (byte* p = address)
            return Result(BindRaw(fd, p, (uint)address.Length));
    }

    public static int Listen(int fd, int backlog) => Result(ListenRaw(fd, backlog));

    public static int SetSockOpt(int fd, int level, int name, int value) =>
        Result(SetSockOptRaw(fd, level, name, &value, sizeof(int)));

    public static int GetSockName(int fd, Span<byte> address)
    {
        var length = (uint)address.Length;
        fixed (byte* p = address)
            return Result(GetSockNameRaw(fd, p, &length));
    }

    /// <summary>Accepted sockets are non-blocking and close-on-exec.</summary>
    public static int Accept(int fd) => Result(Accept4Raw(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC));

    /// <param name="fd">A datagram socket.</param>
    /// <param name="vector">Messages.</param>
    /// <param name="count">Of them.</param>
    /// <param name="wait">Whether to wait for the first one; as long as <see cref="SetBlocking"/> said.</param>
    public static int RecvMMsg(int fd, MMsgHdr* vector, int count, bool wait) =>
        Result(RecvMMsgRaw(fd, vector, (uint)count, wait ? MSG_WAITFORONE : MSG_DONTWAIT, null));

    public static void SetNonBlocking(int fd) => FcntlRaw(fd, F_SETFL, FcntlRaw(fd, F_GETFL, 0) | O_NONBLOCK);

    /// <summary>Makes receiving block, at most for the given time.</summary>
    public static void SetBlocking(int fd, TimeSpan timeout)
    {
        var flags = FcntlRaw(fd, F_GETFL, 0);
        FcntlRaw(fd, F_SETFL, flags & ~O_NONBLOCK);
        var time = stackalloc long[2];
        time[0] = (long)timeout.TotalSeconds;
        time[1] = timeout.Ticks % TimeSpan.TicksPerSecond / TimeSpan.TicksPerMicrosecond;
        SetSockOptRaw(fd, SOL_SOCKET, SO_RCVTIMEO, time, 16);
    }

    /// <summary>Sends an empty datagram from a socket to itself, which ends a blocking receive.</summary>
    public static void Poke(int fd)
    {
        var address = stackalloc byte[28];
        uint length = 28;
        if (GetSockNameRaw(fd, address, &length) == 0)
            SendToRaw(fd, null, 0, MSG_DONTWAIT, address, length);
    }

    public static int SendMMsg(int fd, MMsgHdr* vector, int count) =>
        Result(SendMMsgRaw(fd, vector, (uint)count, MSG_DONTWAIT));

    /// <summary>Makes a control message of <c>UDP_SEGMENT</c>: a <c>struct cmsghdr</c> and a 16-bit size, 24 bytes.</summary>
    public static void WriteSegmentControl(byte* control)
    {
        *(nuint*)control = 16 + sizeof(ushort); // CMSG_LEN
        *(int*)(control + 8) = SOL_UDP;
        *(int*)(control + 12) = UDP_SEGMENT;
    }

    /// <summary>Octets of each datagram that a message is cut into.</summary>
    public static void SetSegmentSize(byte* control, ushort size) => *(ushort*)(control + 16) = size;

    /// <summary>Sleeps for less than a second.</summary>
    public static void Pause(TimeSpan time)
    {
        var timespec = stackalloc nint[2];
        timespec[0] = 0;
        timespec[1] = (nint)time.TotalNanoseconds;
        NanoSleepRaw(timespec, null);
    }

    /// <summary>Lets the calling thread's sleeps end on time; by default the kernel may be 50 us late (prctl(2)).</summary>
    public static void SetTimerSlack() => PrctlRaw(PR_SET_TIMERSLACK, 1000, 0, 0, 0);

    public static int SendTo(int fd, ReadOnlySpan<byte> data, ReadOnlySpan<byte> address)
    {
        fixed (byte* p = data, a = address)
            return Result((int)SendToRaw(fd, p, (nuint)data.Length, MSG_DONTWAIT, a, (uint)address.Length));
    }

    public static int EpollCreate() => Result(EpollCreateRaw(EPOLL_CLOEXEC));

    public static int EpollAdd(int epfd, int fd, uint events, ulong data)
    {
        var buffer = stackalloc byte[16];
        *(uint*)buffer = events;
        *(ulong*)(buffer + EventDataOffset) = data;
        return Result(EpollCtlRaw(epfd, EPOLL_CTL_ADD, fd, buffer));
    }

    public static int EpollRemove(int epfd, int fd)
    {
        var unused = stackalloc byte[16];
        return Result(EpollCtlRaw(epfd, EPOLL_CTL_DEL, fd, unused));
    }

    /// <param name="epfd">The epoll instance.</param>
    /// <param name="buffer">Room for <paramref name="events"/>.Length × 16 bytes.</param>
    /// <param name="events">Receives what is ready.</param>
    public static int EpollWait(int epfd, byte* buffer, Span<EpollEvent> events)
    {
        var count = Result(EpollWaitRaw(epfd, buffer, events.Length, -1));
        for (var i = 0; i < count; i++)
        {
            var at = buffer + i * EventSize;
            events[i].Events = *(uint*)at;
            events[i].Data = *(ulong*)(at + EventDataOffset);
        }

        return count;
    }

    public static int EventFd() => Result(EventFdRaw(0, EFD_CLOEXEC | EFD_NONBLOCK));

    public static void Signal(int eventFd)
    {
        ulong one = 1;
        WriteRaw(eventFd, &one, sizeof(ulong));
    }

    public static void Drain(int eventFd)
    {
        ulong value;
        ReadRaw(eventFd, &value, sizeof(ulong));
    }

    public static string Describe(int negativeErrno) => Marshal.GetPInvokeErrorMessage(-negativeErrno);

    private static readonly int EventDataOffset = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;

    private static int EventSize => EventDataOffset + 8;

    private static int Result(int value) => value >= 0 ? value : -Marshal.GetLastSystemError();
}
