using System.Runtime.InteropServices;

namespace OverlayNet.Kernel.Netlink;

/// <summary>A netlink socket of the kernel.</summary>
internal sealed unsafe class KernelNetlinkTransport : INetlinkTransport
{
    private const int AddMembership = 1, CapAck = 10, ExtAck = 11, StrictCheck = 12;

    // Acks of a large batch must fit while we are still sending, and one atomic nftables batch is one datagram.
    private const int ReceiveBuffer = 8 << 20, SendBuffer = 64 << 20;
    private readonly int fd;
    private readonly int wake;
    private bool disposed;

    internal KernelNetlinkTransport(NetlinkProtocol protocol)
    {
        fd = Libc.Socket(Libc.AF_NETLINK, Libc.SOCK_RAW | Libc.SOCK_CLOEXEC, (int)protocol);
        if (fd < 0)
            throw Libc.Failure($"netlink socket ({protocol})");
        wake = Libc.EventFd(0, Libc.EFD_CLOEXEC | Libc.EFD_NONBLOCK);
        SetOption(Libc.SOL_NETLINK, CapAck, 1);
        SetOption(Libc.SOL_NETLINK, ExtAck, 1);
        SetOption(Libc.SOL_NETLINK, StrictCheck, 1);
        SetOption(Libc.SOL_SOCKET, Libc.SO_RCVBUFFORCE, ReceiveBuffer);
        SetOption(Libc.SOL_SOCKET, Libc.SO_SNDBUFFORCE, SendBuffer);
        var address = new SockAddrNetlink { Family = Libc.AF_NETLINK };
        if (Libc.Bind(fd, &address, (uint)sizeof(SockAddrNetlink)) != 0)
        {
            var failure = Libc.Failure($"bind netlink socket ({protocol})");
            Dispose();
            throw failure;
        }
    }

    public void Send(ReadOnlySpan<byte> datagram)
    {
        fixed (byte* data = datagram)
        {
            while (Libc.Send(fd, data, (nuint)datagram.Length, 0) < 0)
            {
                if (Marshal.GetLastPInvokeError() != Libc.EINTR)
                    throw Libc.Failure($"send {datagram.Length} octets to the kernel by netlink");
            }
        }
    }

    public int Receive(Span<byte> buffer)
    {
        var polled = stackalloc Libc.PollFd[2];
        polled[0] = new Libc.PollFd { Fd = fd, Events = Libc.POLLIN };
        polled[1] = new Libc.PollFd { Fd = wake, Events = Libc.POLLIN };
        fixed (byte* data = buffer)
        {
            while (true)
            {
                var received = Libc.Recv(fd, data, (nuint)buffer.Length, Libc.MSG_TRUNC | Libc.MSG_DONTWAIT);
                if (received > buffer.Length)
                    throw new InvalidDataException($"netlink datagram of {received} octets does not fit {buffer.Length}");
                if (received >= 0)
                    return (int)received;
                switch (Marshal.GetLastPInvokeError())
                {
                    case Libc.EINTR:
                        break;
                    case Libc.ENOBUFS:
                        throw new NetlinkOverrunException();
                    case Libc.EAGAIN:
                        Libc.Poll(polled, 2, -1);
                        if (polled[1].Revents != 0)
                            return 0;
                        break;
                    default:
                        throw Libc.Failure("receive from the kernel by netlink");
                }
            }
        }
    }

    public void Join(uint group)
    {
        if (Libc.SetSockOpt(fd, Libc.SOL_NETLINK, AddMembership, &group, sizeof(uint)) != 0)
            throw Libc.Failure($"join netlink group {group}");
    }

    public void Stop()
    {
        ulong one = 1;
        Libc.Write(wake, &one, sizeof(ulong));
    }

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        Libc.Close(fd);
        Libc.Close(wake);
    }

    // Options that an older kernel lacks only make errors terser or buffers smaller.
    private void SetOption(int level, int name, int value) => Libc.SetSockOpt(fd, level, name, &value, sizeof(int));

    private struct SockAddrNetlink
    {
        public ushort Family;
        public ushort Pad;
        public uint PortId;
        public uint Groups;
    }
}
