using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace OverlayNet.Kernel;

/// <summary>A unix SOCK_SEQPACKET connection that carries one text and at most one open descriptor a message (unix(7), SCM_RIGHTS).</summary>
public sealed unsafe partial class DescriptorChannel : IDisposable
{
    private const int AF_UNIX = 1, SOCK_SEQPACKET = 5, SCM_RIGHTS = 1, MSG_CMSG_CLOEXEC = 0x40000000, MSG_NOSIGNAL = 0x4000;
    private const int TextLength = 4096, ControlLength = 24, PathOffset = 2, PathLength = 108;
    private readonly int _fd;

    private DescriptorChannel(int fd) => _fd = fd;

    /// <summary>Listens on a path, whose file is made new with mode 0600.</summary>
    /// <exception cref="KernelException">What bind or listen said.</exception>
    public static DescriptorChannel Listen(string path)
    {
        File.Delete(path);
        var fd = NewSocket();
        Span<byte> address = stackalloc byte[PathOffset + PathLength];
        var length = Address(path, address);
        fixed (byte* pointer = address)
        {
            if (Libc.Bind(fd, pointer, length) != 0 || ListenCall(fd, 16) != 0)
                throw CloseAfter(fd, $"listen on {path}");
        }
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        return new DescriptorChannel(fd);
    }

    /// <returns>Null when nobody listens there.</returns>
    public static DescriptorChannel? TryConnect(string path)
    {
        var fd = NewSocket();
        Span<byte> address = stackalloc byte[PathOffset + PathLength];
        var length = Address(path, address);
        fixed (byte* pointer = address)
        {
            if (ConnectCall(fd, pointer, length) == 0)
                return new DescriptorChannel(fd);
        }
        Libc.Close(fd);
        return null;
    }

    /// <summary>Waits for a peer.</summary>
    public DescriptorChannel Accept()
    {
        int fd;
        do
            fd = AcceptCall(_fd, null, null, Libc.SOCK_CLOEXEC);
        while (fd < 0 && Marshal.GetLastPInvokeError() == Libc.EINTR);
        return fd >= 0 ? new DescriptorChannel(fd) : throw Libc.Failure("accept on a unix socket");
    }

    /// <param name="text">UTF-8, at most 4096 octets.</param>
    /// <param name="descriptor">Duplicated for the peer; stays the caller's.</param>
    /// <exception cref="KernelException">The peer is gone (EPIPE), or what sendmsg said.</exception>
    public void Send(string text, SafeHandle? descriptor = null)
    {
        var octets = Encoding.UTF8.GetBytes(text);
        if (octets.Length > TextLength)
            throw new ArgumentException($"a message has at most {TextLength} octets, not {octets.Length}", nameof(text));
        Span<byte> control = stackalloc byte[ControlLength];
        control.Clear();
        fixed (byte* data = octets)
        fixed (byte* rights = control)
        {
            var vector = new IoVector { Base = data, Length = (nuint)octets.Length };
            var message = new MessageHeader { Vectors = &vector, VectorCount = 1 };
            if (descriptor is not null)
            {
                // struct cmsghdr: size_t length, int level, int type, then the descriptor.
                BinaryPrimitives.WriteUInt64LittleEndian(control, 16 + sizeof(int));
                MemoryMarshal.Write(control[8..], Libc.SOL_SOCKET);
                MemoryMarshal.Write(control[12..], SCM_RIGHTS);
                MemoryMarshal.Write(control[16..], (int)descriptor.DangerousGetHandle());
                message.Control = rights;
                message.ControlLength = ControlLength;
            }
            while (SendMsg(_fd, &message, MSG_NOSIGNAL) < 0)
            {
                if (Marshal.GetLastPInvokeError() != Libc.EINTR)
                    throw Libc.Failure("send on a unix socket");
            }
        }
        GC.KeepAlive(descriptor);
    }

    /// <returns>Null when the peer closed. The descriptor belongs to the caller.</returns>
    public (string Text, SafeFileHandle? Descriptor)? Receive()
    {
        Span<byte> data = stackalloc byte[TextLength];
        Span<byte> control = stackalloc byte[ControlLength];
        control.Clear();
        fixed (byte* pointer = data)
        fixed (byte* rights = control)
        {
            var vector = new IoVector { Base = pointer, Length = TextLength };
            var message = new MessageHeader { Vectors = &vector, VectorCount = 1, Control = rights, ControlLength = ControlLength };
            nint received;
            while ((received = RecvMsg(_fd, &message, MSG_CMSG_CLOEXEC)) < 0)
            {
                if (Marshal.GetLastPInvokeError() != Libc.EINTR)
                    throw Libc.Failure("receive on a unix socket");
            }
            if (received == 0)
                return null;
            var passed = message.ControlLength >= 16 + sizeof(int) && MemoryMarshal.Read<int>(control[12..]) == SCM_RIGHTS
                ? new SafeFileHandle(MemoryMarshal.Read<int>(control[16..]), ownsHandle: true)
                : null;
            return (Encoding.UTF8.GetString(data[..(int)received]), passed);
        }
    }

    public void Dispose() => Libc.Close(_fd);

    private static int NewSocket()
    {
        var fd = Libc.Socket(AF_UNIX, SOCK_SEQPACKET | Libc.SOCK_CLOEXEC, 0);
        return fd >= 0 ? fd : throw Libc.Failure("unix socket");
    }

    private static uint Address(string path, Span<byte> address)
    {
        address.Clear();
        MemoryMarshal.Write(address, (ushort)AF_UNIX);
        if (Encoding.UTF8.GetByteCount(path) >= PathLength)
            throw new ArgumentException($"the path of a unix socket has at most {PathLength - 1} octets: {path}", nameof(path));
        return (uint)(PathOffset + Encoding.UTF8.GetBytes(path, address[PathOffset..]) + 1);
    }

    private static KernelException CloseAfter(int fd, string what)
    {
        var failure = Libc.Failure(what);
        Libc.Close(fd);
        return failure;
    }

    private struct IoVector
    {
        public byte* Base;
        public nuint Length;
    }

    /// <summary>struct msghdr of 64-bit Linux.</summary>
    private struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public IoVector* Vectors;
        public nuint VectorCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }

    [LibraryImport("libc", EntryPoint = "listen", SetLastError = true)]
    private static partial int ListenCall(int fd, int backlog);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static partial int ConnectCall(int fd, void* address, uint length);

    [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
    private static partial int AcceptCall(int fd, void* address, uint* length, int flags);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMsg(int fd, MessageHeader* message, int flags);

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    private static partial nint RecvMsg(int fd, MessageHeader* message, int flags);
}
