using System.Buffers.Binary;

namespace OverlayNet.Kernel;

/// <summary>Sends whole Ethernet frames on one interface (packet(7)); receives nothing.</summary>
public sealed unsafe class PacketSender : IDisposable
{
    private readonly int _interface;
    private int _fd;

    /// <summary>Opens the socket in the calling thread's namespace.</summary>
    /// <exception cref="KernelException">EPERM without CAP_NET_RAW.</exception>
    public PacketSender(int interfaceIndex)
    {
        _interface = interfaceIndex;
        _fd = Libc.Socket(Libc.AF_PACKET, Libc.SOCK_RAW | Libc.SOCK_CLOEXEC | Libc.SOCK_NONBLOCK, 0);
        if (_fd < 0)
            throw Libc.Failure($"packet socket on interface {interfaceIndex}");
    }

    /// <returns>False when the frame could not be sent now (interface down, no buffer).</returns>
    public bool TrySend(ReadOnlySpan<byte> frame)
    {
        // struct sockaddr_ll: family, protocol (network order), interface.
        Span<byte> address = stackalloc byte[20];
        address.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(address, Libc.AF_PACKET);
        frame.Slice(12, 2).CopyTo(address[2..]);
        BinaryPrimitives.WriteInt32LittleEndian(address[4..], _interface);
        fixed (byte* to = address)
        fixed (byte* data = frame)
            return Libc.SendTo(_fd, data, (nuint)frame.Length, 0, to, (uint)address.Length) == frame.Length;
    }

    public void Dispose()
    {
        if (_fd >= 0)
            _ = Libc.Close(_fd);
        _fd = -1;
    }
}
