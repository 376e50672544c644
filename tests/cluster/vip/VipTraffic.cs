using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>A server in a container that says who it is and whom it sees. A socket stays in the namespace it was made in, whatever thread uses it.</summary>
public sealed class TestServer : IDisposable
{
    private readonly Socket listener;
    private readonly ConcurrentBag<Socket> accepted = [];

    private TestServer(Socket listener, string name)
    {
        this.listener = listener;
        Name = name;
    }

    public string Name { get; }

    /// <param name="address">What to bind to: the container's own address, or a wildcard.</param>
    public static TestServer Tcp(VipContainer container, IPAddress address, int port)
    {
        var server = new TestServer(VipTraffic.Socket(container.Namespace, address.AddressFamily, SocketType.Stream), container.Name);
        server.listener.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        server.listener.Bind(new IPEndPoint(address, port));
        server.listener.Listen(1024);
        _ = server.AcceptAsync();
        return server;
    }

    public static TestServer Udp(VipContainer container, IPAddress address, int port)
    {
        var server = new TestServer(VipTraffic.Socket(container.Namespace, address.AddressFamily, SocketType.Dgram), container.Name);
        server.listener.Bind(new IPEndPoint(address, port));
        _ = server.AnswerAsync();
        return server;
    }

    public void Dispose()
    {
        listener.Dispose();
        foreach (var socket in accepted)
            socket.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var socket = await listener.AcceptAsync();
                accepted.Add(socket);
                _ = ServeAsync(socket);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        var buffer = new byte[256];
        try
        {
            socket.NoDelay = true;
            await socket.SendAsync(Encoding.ASCII.GetBytes($"{Name} {((IPEndPoint)socket.RemoteEndPoint!).Address}\n"));
            while (await socket.ReceiveAsync(buffer) is var length and > 0)
                await socket.SendAsync(buffer.AsMemory(0, length));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The client went away.
        }
        finally
        {
            socket.Dispose();
        }
    }

    private async Task AnswerAsync()
    {
        var buffer = new byte[65536];
        try
        {
            while (true)
            {
                var any = new IPEndPoint(listener.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
                var received = await listener.ReceiveFromAsync(buffer, any);
                var from = (IPEndPoint)received.RemoteEndPoint;
                // A long question gets a long answer, so that fragments go both ways.
                var answer = Encoding.ASCII.GetBytes($"{Name} {from.Address} ".PadRight(Math.Max(received.ReceivedBytes, 1)));
                await listener.SendToAsync(answer, from);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }
}

/// <summary>Clients.</summary>
public static class VipTraffic
{
    private const int Milliseconds = 5000;

    public static Socket Socket(TestNamespace netns, AddressFamily family, SocketType type)
    {
        using var open = netns.Open();
        return open.Run(() => new Socket(family, type, type == SocketType.Stream ? ProtocolType.Tcp : ProtocolType.Udp));
    }

    /// <summary>Opens a connection and reads the greeting.</summary>
    public static TestConnection Connect(TestNamespace from, IPAddress address, int port, Socket? prepared = null)
    {
        var socket = prepared ?? Socket(from, address.AddressFamily, SocketType.Stream);
        try
        {
            socket.NoDelay = true;
            using var limit = new CancellationTokenSource(Milliseconds);
            socket.ConnectAsync(new IPEndPoint(address, port), limit.Token).AsTask().GetAwaiter().GetResult();
            socket.ReceiveTimeout = socket.SendTimeout = Milliseconds;
            var greeting = new StringBuilder();
            Span<byte> one = stackalloc byte[1];
            while (socket.Receive(one) == 1 && one[0] != '\n')
                greeting.Append((char)one[0]);
            var parts = greeting.ToString().Split(' ');
            return new TestConnection(socket, parts[0], parts.Length > 1 ? IPAddress.Parse(parts[1]) : IPAddress.None);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Many short connections, one after the other.</summary>
    /// <returns>How many each server got.</returns>
    public static Dictionary<string, int> Spread(TestNamespace from, IPAddress address, int port, int count)
    {
        using var open = from.Open();
        var sockets = open.Run(() => Enumerable.Range(0, count).Select(_ => new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp)).ToArray());
        var counts = new Dictionary<string, int>();
        foreach (var socket in sockets)
        {
            using var connection = Connect(from, address, port, socket);
            counts[connection.Server] = counts.GetValueOrDefault(connection.Server) + 1;
        }
        return counts;
    }

    /// <summary>One datagram and its answer.</summary>
    /// <param name="connected">With a connected socket, answers from any other address than the one asked never arrive.</param>
    public static (string Server, IPAddress SeenAs, IPEndPoint From) Ask(TestNamespace from, IPAddress address, int port, bool connected, int size = 1, Socket? socket = null)
    {
        var own = socket is null;
        socket ??= Socket(from, address.AddressFamily, SocketType.Dgram);
        try
        {
            socket.ReceiveTimeout = Milliseconds;
            var target = new IPEndPoint(address, port);
            if (connected && !socket.Connected)
                socket.Connect(target);
            var question = new byte[size];
            if (connected)
                socket.Send(question);
            else
                socket.SendTo(question, target);
            var buffer = new byte[65536];
            EndPoint sender = new IPEndPoint(address.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
            var length = socket.ReceiveFrom(buffer, ref sender);
            Assert.True(length >= size, $"{length} octets came back for {size}");
            var parts = Encoding.ASCII.GetString(buffer, 0, length).Split(' ');
            return (parts[0], IPAddress.Parse(parts[1]), (IPEndPoint)sender);
        }
        finally
        {
            if (own)
                socket.Dispose();
        }
    }
}

/// <summary>A connection that can be asked whether it still works.</summary>
public sealed record TestConnection(Socket Socket, string Server, IPAddress SeenAs) : IDisposable
{
    public bool IsAlive()
    {
        Span<byte> buffer = stackalloc byte[4];
        try
        {
            return Socket.Send("ping"u8) == 4 && Socket.Receive(buffer) > 0;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    public void Dispose() => Socket.Dispose();
}
