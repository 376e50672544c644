namespace OverlayNet.Kernel.Netlink;

/// <summary>The edge below <see cref="NetlinkSocket"/>: datagrams in and out. The kernel's is a socket; a test's is a script.</summary>
public interface INetlinkTransport : IDisposable
{
    /// <summary>Sends one datagram of one or more messages.</summary>
    /// <exception cref="KernelException">What send(2) said.</exception>
    void Send(ReadOnlySpan<byte> datagram);

    /// <summary>Waits for one datagram.</summary>
    /// <returns>Its length in octets; 0 after <see cref="Stop"/>.</returns>
    /// <exception cref="NetlinkOverrunException">The kernel dropped messages for this socket.</exception>
    int Receive(Span<byte> buffer);

    /// <summary>Joins a multicast group (NETLINK_ADD_MEMBERSHIP).</summary>
    void Join(uint group);

    /// <summary>Wakes a thread waiting in <see cref="Receive"/>, now and from now on. May be called from any thread.</summary>
    void Stop();
}
