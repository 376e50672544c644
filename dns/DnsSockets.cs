using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Dns.Interop;

namespace OverlayNet.Dns;

/// <summary>
/// Makes listening sockets in the calling thread's network namespace. A socket stays in the namespace it was made in,
/// so the caller enters the namespace, makes the pair, and may then use it from any thread.
/// </summary>
public static class DnsSockets
{
    /// <summary>
    /// Room for the queries that arrive while a successor process takes the sockets over: the kernel doubles it and charges
    /// 768 octets for a query, so it holds those of two seconds at 20,000 a second. Memory is used only by what waits.
    /// </summary>
    public const int ReceiveBuffer = 16 << 20;

    private const int Backlog = 256;

    /// <summary>A bound UDP socket and a listening TCP socket, both close-on-exec and non-blocking.</summary>
    /// <param name="endpoint">A specific address: replies then leave from it without further ado.</param>
    /// <param name="freeBind">Bind before the address is configured.</param>
    /// <param name="reusePort">Several sockets on one address (one per thread).</param>
    /// <exception cref="SocketException">The kernel refused; the message names the endpoint.</exception>
    public static (SafeFileHandle Udp, SafeFileHandle Tcp) Open(IPEndPoint endpoint, bool freeBind = false, bool reusePort = false)
    {
        for (var attempt = 0; ; attempt++)
        {
            var udp = OpenUdp(endpoint, freeBind, reusePort);
            try
            {
                // Port 0 asks for any; both transports then share the one the kernel chose for UDP.
                var bound = new IPEndPoint(endpoint.Address, GetPort(udp));
                return (udp, OpenTcp(bound, freeBind, reusePort));
            }
            catch (SocketException error) when (endpoint.Port == 0 && error.SocketErrorCode == SocketError.AddressAlreadyInUse && attempt < 16)
            {
                udp.Dispose();
            }
            catch
            {
                udp.Dispose();
                throw;
            }
        }
    }

    /// <inheritdoc cref="Open"/>
    public static SafeFileHandle OpenUdp(IPEndPoint endpoint, bool freeBind = false, bool reusePort = false)
    {
        var handle = Make(endpoint, Libc.SOCK_DGRAM, freeBind, reusePort);
        var fd = (int)handle.DangerousGetHandle();
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; else as much as the limit allows.
        if (Libc.SetSockOpt(fd, Libc.SOL_SOCKET, Libc.SO_RCVBUFFORCE, ReceiveBuffer) < 0)
            Libc.SetSockOpt(fd, Libc.SOL_SOCKET, Libc.SO_RCVBUF, ReceiveBuffer);
        Bind(handle, endpoint);
        return handle;
    }

    /// <inheritdoc cref="Open"/>
    public static SafeFileHandle OpenTcp(IPEndPoint endpoint, bool freeBind = false, bool reusePort = false)
    {
        var handle = Make(endpoint, Libc.SOCK_STREAM, freeBind, reusePort);
        var fd = (int)handle.DangerousGetHandle();
        Libc.SetSockOpt(fd, Libc.SOL_SOCKET, Libc.SO_REUSEADDR, 1);
        Bind(handle, endpoint);
        Check(Libc.Listen(fd, Backlog), handle, $"listen on {endpoint}");
        return handle;
    }

    /// <summary>The port a bound socket has.</summary>
    public static int GetPort(SafeFileHandle socket)
    {
        Span<byte> address = stackalloc byte[28];
        Libc.GetSockName((int)socket.DangerousGetHandle(), address);
        return BinaryPrimitives.ReadUInt16BigEndian(address[2..]);
    }

    private static SafeFileHandle Make(IPEndPoint endpoint, int type, bool freeBind, bool reusePort)
    {
        var v6 = endpoint.AddressFamily == AddressFamily.InterNetworkV6;
        var fd = Libc.Socket(v6 ? Libc.AF_INET6 : Libc.AF_INET, type | Libc.SOCK_NONBLOCK | Libc.SOCK_CLOEXEC);
        if (fd < 0)
            throw Error(fd, $"make a socket for {endpoint}");
        if (v6)
            Libc.SetSockOpt(fd, Libc.IPPROTO_IPV6, Libc.IPV6_V6ONLY, 1);
        if (freeBind)
            Libc.SetSockOpt(fd, v6 ? Libc.IPPROTO_IPV6 : Libc.IPPROTO_IP, v6 ? Libc.IPV6_FREEBIND : Libc.IP_FREEBIND, 1);
        if (reusePort)
            Libc.SetSockOpt(fd, Libc.SOL_SOCKET, Libc.SO_REUSEPORT, 1);
        return new SafeFileHandle(fd, ownsHandle: true);
    }

    private static void Bind(SafeFileHandle handle, IPEndPoint endpoint)
    {
        var address = endpoint.Serialize();
        Check(Libc.Bind((int)handle.DangerousGetHandle(), address.Buffer.Span[..address.Size]), handle, $"bind {endpoint}");
    }

    private static void Check(int result, SafeFileHandle handle, string what)
    {
        if (result >= 0)
            return;
        handle.Dispose();
        throw Error(result, what);
    }

    private static SocketException Error(int result, string what) =>
        new((int)Code(-result), $"Cannot {what}: {Libc.Describe(result)}");

    // SocketException does not take errno values, which differ between systems.
    private static SocketError Code(int errno) => errno switch
    {
        Libc.EACCES => SocketError.AccessDenied,
        Libc.EADDRINUSE => SocketError.AddressAlreadyInUse,
        Libc.EADDRNOTAVAIL => SocketError.AddressNotAvailable,
        _ => SocketError.SocketError,
    };
}
