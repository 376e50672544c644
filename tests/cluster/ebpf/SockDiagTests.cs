using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Balancers.Ebpf;

namespace OverlayNet.ClusterTests.Ebpf;

public sealed class SockDiagTests : IDisposable
{
    private readonly SocketWorld world = new();

    [Theory]
    [InlineData("10.99.0.200", SocketType.Stream)]
    [InlineData("10.99.0.200", SocketType.Dgram)]
    [InlineData("fd99::200", SocketType.Stream)]
    [InlineData("fd99::200", SocketType.Dgram)]
    public void ShowsWhatIsRememberedWithASocketAndDestroysIt(string vip, SocketType type)
    {
        var address = IPAddress.Parse(vip);
        world.Container(0, 1).Dispose();
        world.Serve(0, 2);
        world.Apply(world.Network(0, SocketWorld.Service((2, 1))));
        using var socket = world.Connect(0, 1, type, address);
        using var maps = SocketMaps.Adopt(world.PinDirectory);
        using var netns = world.Container(0, 1);
        using var netlink = NetlinkSocket.Open(NetlinkProtocol.SockDiag, netns);
        var protocol = (byte)(type == SocketType.Stream ? ProtocolType.Tcp : ProtocolType.Udp);
        var found = Assert.Single(SockDiag.Dump(netlink, (byte)(address.AddressFamily == AddressFamily.InterNetwork ? 2 : 10), protocol, maps!.Sockets.Fd));
        Assert.Equal(1, found.State);
        Assert.Equal(socket.LocalEndPoint, found.Local);
        Assert.Equal(new IPEndPoint(address.AddressFamily == AddressFamily.InterNetwork ? SocketWorld.Address4(2) : SocketWorld.Address6(2), SocketWorld.Port), found.Remote);
        if (type == SocketType.Stream)
            Assert.Equal(Address16.From(address), MemoryMarshal.Read<SocketBinding>(found.Storage).Vip);
        Assert.True(SockDiag.Destroy(netlink, found));
        Assert.False(SockDiag.Destroy(netlink, found));
        Assert.Throws<SocketException>(() => SocketWorld.Ask(socket));
        Assert.DoesNotContain(SockDiag.Dump(netlink, 2, protocol), left => left.State == 1);
    }

    public void Dispose() => world.Dispose();
}
