using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Dns;

namespace OverlayNet.UnitTests.Dns;

public sealed class ListenerTests
{
    [Fact]
    public void KeptSocketsSurviveAndTheSuccessorAnswersWhatWaitedInThem()
    {
        var (udp, tcp) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
        using var keepUdp = udp;
        using var keepTcp = tcp;
        var port = DnsSockets.GetPort(udp);
        using (var first = new DnsServer(new DnsServerOptions(), NullLogger.Instance))
        {
            first.Apply(SampleConfig.Config);
            first.AddListener("a", "n1", udp, tcp, leaveOpen: true);
            Assert.Equal(["10.1.0.2"], Ask(port).Data);
            first.Stop();
        }

        using var client = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = DnsTestServer.Patience };
        client.Connect(IPAddress.Loopback, port);
        client.Send(TestQuery.Build("web", RrType.A));
        using var stream = new TcpClient();
        stream.Connect(IPAddress.Loopback, port); // the listening socket was not shut down
        stream.GetStream().ReadTimeout = DnsTestServer.Patience;
        var query = TestQuery.Build("web", RrType.A);
        stream.GetStream().Write([0, (byte)query.Length, .. query]);

        using var second = new DnsServer(new DnsServerOptions(), NullLogger.Instance);
        second.Apply(SampleConfig.Config);
        second.AddListener("a", "n1", (int)udp.DangerousGetHandle(), (int)tcp.DangerousGetHandle(), leaveOpen: true);
        var buffer = new byte[512];
        Assert.Equal(["10.1.0.2"], Reply.Parse(buffer[..client.Receive(buffer)]).Data);
        stream.GetStream().ReadExactly(buffer, 0, 2);
        var length = buffer[1];
        stream.GetStream().ReadExactly(buffer, 0, length);
        Assert.Equal(["10.1.0.2"], Reply.Parse(buffer[..length]).Data);
    }

    [Fact]
    public void ManyListenersComeAndGo()
    {
        using var server = new DnsServer(new DnsServerOptions { UdpThreads = 2 }, NullLogger.Instance);
        server.Apply(SampleConfig.Config);
        var ports = new List<int>();
        for (var i = 0; i < 40; i++)
        {
            var (udp, tcp) = DnsSockets.Open(new IPEndPoint(IPAddress.Loopback, 0));
            ports.Add(DnsSockets.GetPort(udp));
            server.AddListener("l" + i, i % 2 == 0 ? "n1" : "n2", udp, tcp, leaveOpen: false);
        }

        for (var i = 0; i < 40; i++)
            Assert.Equal([i % 2 == 0 ? "10.1.0.2" : "10.2.0.2"], Ask(ports[i]).Data);
        for (var i = 0; i < 39; i++)
            Assert.True(server.RemoveListener("l" + i));
        Assert.False(server.RemoveListener("l0"));
        Assert.Equal(["10.2.0.2"], Ask(ports[39]).Data);
        Assert.True(server.RemoveListener("l39"));
        Assert.Throws<SocketException>(() => Ask(ports[39]));
    }

    [Fact]
    public void AnIdIsUsedOnce()
    {
        using var server = new DnsTestServer(SampleConfig.Config);
        var error = Assert.Throws<ArgumentException>(() => server.Server.AddListener("test", "n1", -1, -1, leaveOpen: true));
        Assert.Contains("'test'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATakenAddressIsNamed()
    {
        using var server = new DnsTestServer(SampleConfig.Config);
        var endpoint = new IPEndPoint(IPAddress.Loopback, server.Port);
        var error = Assert.Throws<SocketException>(() => DnsSockets.Open(endpoint));
        Assert.Equal(SocketError.AddressAlreadyInUse, error.SocketErrorCode);
        Assert.Contains(endpoint.ToString(), error.Message, StringComparison.Ordinal);
    }

    private static Reply Ask(int port)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp) { ReceiveTimeout = DnsTestServer.Patience };
        socket.Connect(IPAddress.Loopback, port);
        socket.Send(TestQuery.Build("web", RrType.A));
        var buffer = new byte[512];
        return Reply.Parse(buffer[..socket.Receive(buffer)]);
    }
}
