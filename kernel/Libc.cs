using System.Runtime.InteropServices;

namespace OverlayNet.Kernel;

/// <summary>The C library's calls that have no managed counterpart, and their constants (values of x86-64 and arm64 Linux, which agree here).</summary>
internal static unsafe partial class Libc
{
    private const string Library = "libc";

    internal const int AF_UNSPEC = 0, AF_INET = 2, AF_INET6 = 10, AF_NETLINK = 16, AF_BRIDGE = 7;
    internal const int SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, SOCK_CLOEXEC = 0x80000, SOCK_NONBLOCK = 0x800;
    internal const int SOL_SOCKET = 1, SOL_NETLINK = 270;
    internal const int SO_SNDBUFFORCE = 32, SO_RCVBUFFORCE = 33, SO_NETNS_COOKIE = 71, SO_RCVTIMEO = 20;
    internal const int MSG_TRUNC = 0x20, MSG_DONTWAIT = 0x40, MSG_PEEK = 0x2;
    internal const int CLONE_NEWNS = 0x00020000, CLONE_NEWNET = 0x40000000, CLONE_FS = 0x00000200;
    internal const int O_RDONLY = 0, O_WRONLY = 1, O_CLOEXEC = 0x80000, O_CREAT = 0x40, O_EXCL = 0x80;
    internal const ulong MS_BIND = 4096, MS_REC = 16384, MS_SHARED = 1 << 20, MS_SLAVE = 1 << 19;
    internal const int MNT_DETACH = 2;
    internal const short POLLIN = 1, POLLERR = 8, POLLHUP = 16;
    internal const int EFD_CLOEXEC = 0x80000, EFD_NONBLOCK = 0x800;

    internal const int EPERM = 1, ENOENT = 2, EINTR = 4, EAGAIN = 11, EEXIST = 17, EBUSY = 16, EINVAL = 22, ENODEV = 19,
        EOPNOTSUPP = 95, EADDRNOTAVAIL = 99, ENOBUFS = 105, ESRCH = 3, EMSGSIZE = 90;

    internal struct PollFd
    {
        public int Fd;
        public short Events;
        public short Revents;
    }

    [LibraryImport(Library, EntryPoint = "socket", SetLastError = true)]
    internal static partial int Socket(int domain, int type, int protocol);

    [LibraryImport(Library, EntryPoint = "bind", SetLastError = true)]
    internal static partial int Bind(int fd, void* address, uint length);

    [LibraryImport(Library, EntryPoint = "getsockname", SetLastError = true)]
    internal static partial int GetSockName(int fd, void* address, uint* length);

    [LibraryImport(Library, EntryPoint = "setsockopt", SetLastError = true)]
    internal static partial int SetSockOpt(int fd, int level, int name, void* value, uint length);

    [LibraryImport(Library, EntryPoint = "getsockopt", SetLastError = true)]
    internal static partial int GetSockOpt(int fd, int level, int name, void* value, uint* length);

    [LibraryImport(Library, EntryPoint = "send", SetLastError = true)]
    internal static partial nint Send(int fd, void* buffer, nuint length, int flags);

    [LibraryImport(Library, EntryPoint = "recv", SetLastError = true)]
    internal static partial nint Recv(int fd, void* buffer, nuint length, int flags);

    [LibraryImport(Library, EntryPoint = "close", SetLastError = true)]
    internal static partial int Close(int fd);

    [LibraryImport(Library, EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Open(string path, int flags, uint mode);

    [LibraryImport(Library, EntryPoint = "setns", SetLastError = true)]
    internal static partial int SetNs(int fd, int type);

    [LibraryImport(Library, EntryPoint = "unshare", SetLastError = true)]
    internal static partial int Unshare(int flags);

    [LibraryImport(Library, EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Mount(string source, string target, string? type, ulong flags, void* data);

    [LibraryImport(Library, EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Umount(string target, int flags);

    [LibraryImport(Library, EntryPoint = "poll", SetLastError = true)]
    internal static partial int Poll(PollFd* fds, nuint count, int timeoutMs);

    [LibraryImport(Library, EntryPoint = "eventfd", SetLastError = true)]
    internal static partial int EventFd(uint initial, int flags);

    [LibraryImport(Library, EntryPoint = "write", SetLastError = true)]
    internal static partial nint Write(int fd, void* buffer, nuint length);

    [LibraryImport(Library, EntryPoint = "gettid")]
    internal static partial int GetTid();

    [LibraryImport(Library, EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int Ioctl(int fd, nuint request, nint argument);

    /// <summary>The kernel's own words for an errno value.</summary>
    internal static string Describe(int errno) => Marshal.GetPInvokeErrorMessage(errno);

    /// <summary>The errno of the last failed call on this thread as an exception that names the object.</summary>
    internal static KernelException Failure(string what) => new(what, Marshal.GetLastPInvokeError());
}
