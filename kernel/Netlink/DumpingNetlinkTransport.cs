namespace OverlayNet.Kernel.Netlink;

/// <summary>Prints every datagram in hex, for OVERLAYNET_NETLINK_DEBUG=1.</summary>
internal sealed class DumpingNetlinkTransport(INetlinkTransport inner, TextWriter output) : INetlinkTransport
{
    public void Send(ReadOnlySpan<byte> datagram)
    {
        output.WriteLine($"netlink > {Convert.ToHexStringLower(datagram)}");
        inner.Send(datagram);
    }

    public int Receive(Span<byte> buffer)
    {
        var length = inner.Receive(buffer);
        output.WriteLine($"netlink < {Convert.ToHexStringLower(buffer[..length])}");
        return length;
    }

    public void Join(uint group) => inner.Join(group);

    public void Stop() => inner.Stop();

    public void Dispose() => inner.Dispose();
}
