using System.Net;
using System.Net.Sockets;
using OverlayNet.Vip;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>What programs in containers see of a VIP served at the socket layer.</summary>
public sealed class TranslationTests : IDisposable
{
    private readonly SocketWorld world = new();

    [Fact]
    public void TheProbeFindsThePathUsable() => Assert.True(world.Balancer.Availability.Usable, world.Balancer.Availability.Reason);

    [Theory]
    [InlineData("10.99.0.200", "10.99.0.1")]
    [InlineData("fd99::200", "fd99::1")]
    [InlineData("::ffff:10.99.0.200", "10.99.0.1")]
    public void StreamsReachARealServerKeepTheirSourceAndShowTheVip(string vip, string client)
    {
        Start((2, 1));
        using var socket = world.Connect(0, 1, SocketType.Stream, IPAddress.Parse(vip));
        Assert.Equal($"0.2 {client}", SocketWorld.Ask(socket));
        Assert.Equal(new IPEndPoint(IPAddress.Parse(vip), 80), socket.RemoteEndPoint);
    }

    [Theory]
    [InlineData("10.99.0.200", "10.99.0.1")]
    [InlineData("fd99::200", "fd99::1")]
    [InlineData("::ffff:10.99.0.200", "10.99.0.1")]
    public void ConnectedDatagramsReachARealServerAndShowTheVip(string vip, string client)
    {
        Start((2, 1));
        using var socket = world.Connect(0, 1, SocketType.Dgram, IPAddress.Parse(vip));
        Assert.Equal($"0.2 {client}", SocketWorld.Ask(socket));
        Assert.Equal(new IPEndPoint(IPAddress.Parse(vip), 80), socket.RemoteEndPoint);
    }

    [Theory]
    [InlineData("10.99.0.200", "10.99.0.1")]
    [InlineData("fd99::200", "fd99::1")]
    [InlineData("::ffff:10.99.0.200", "10.99.0.1")]
    public void UnconnectedDatagramsAreAnsweredFromTheVipByOneRealServer(string vip, string client)
    {
        Start((2, 1), (3, 1));
        var address = IPAddress.Parse(vip);
        using var socket = world.Client(0, 1, SocketType.Dgram, address.AddressFamily);
        var (first, from) = SocketWorld.AskFrom(socket, address);
        Assert.Equal(new IPEndPoint(address, 80), from);
        Assert.EndsWith(" " + client, first);
        for (var i = 0; i < 10; i++)
            Assert.Equal((first, from), SocketWorld.AskFrom(socket, address));
    }

    public void Dispose() => world.Dispose();

    private void Start(params (int Number, int Weight)[] real)
    {
        world.Container(0, 1).Dispose();
        foreach (var (number, _) in real)
            world.Serve(0, number);
        world.Apply(world.Network(0, SocketWorld.Service(real)));
    }
}
