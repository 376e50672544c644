using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.GuestTests.Vip;

/// <summary>Servers and clients inside namespaces. A socket stays in the namespace it was made in, so they all run in this process.</summary>
internal static class Traffic
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    /// <summary>Answers each TCP connection with the server's name and the client's address, then each line with the same.</summary>
    internal static IDisposable TcpServer(LabTask task, IPAddress bind, int port)
    {
        var listener = Inside(task, () =>
        {
            var made = new TcpListener(bind, port);
            made.Server.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
            made.Start(1024);
            return made;
        });
        _ = Task.Run(async () =>
        {
            while (true)
            {
                Socket client;
                try
                {
                    client = await listener.AcceptSocketAsync();
                }
                catch (Exception e) when (e is SocketException or ObjectDisposedException)
                {
                    return;
                }
                _ = Task.Run(() => Serve(client));
            }
        });
        return listener;

        async Task Serve(Socket client)
        {
            using (client)
            {
                try
                {
                    var answer = Encoding.ASCII.GetBytes($"{task.Id} {((IPEndPoint)client.RemoteEndPoint!).Address}\n");
                    await client.SendAsync(answer);
                    var buffer = new byte[4096];
                    while (await client.ReceiveAsync(buffer) > 0)
                        await client.SendAsync(answer);
                }
                catch (SocketException)
                {
                }
            }
        }
    }

    /// <summary>Answers each datagram with the server's name, the client's address and how many octets came.</summary>
    internal static IDisposable UdpServer(LabTask task, IPAddress bind, int port)
    {
        var socket = Inside(task, () =>
        {
            var made = new Socket(bind.AddressFamily, SocketType.Dgram, ProtocolType.Udp);
            made.Bind(new IPEndPoint(bind, port));
            return made;
        });
        _ = Task.Run(async () =>
        {
            var buffer = new byte[65536];
            var any = new IPEndPoint(bind.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
            while (true)
            {
                try
                {
                    var received = await socket.ReceiveFromAsync(buffer, any);
                    await socket.SendToAsync(Encoding.ASCII.GetBytes($"{task.Id} {((IPEndPoint)received.RemoteEndPoint).Address} {received.ReceivedBytes}"), received.RemoteEndPoint);
                }
                catch (ObjectDisposedException)
                {
                    return;
                }
                catch (SocketException) when (!socket.IsBound)
                {
                    return;
                }
                catch (SocketException)
                {
                    // An ICMP error for an earlier answer.
                }
            }
        });
        return socket;
    }

    /// <summary>Opens a TCP connection and reads the first answer; the connection stays open.</summary>
    internal static (Socket Socket, string Answer) Connect(LabTask client, IPAddress address, int port, IPAddress? source = null)
    {
        var socket = Inside(client, () => new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
        try
        {
            socket.ReceiveTimeout = socket.SendTimeout = (int)Patience.TotalMilliseconds;
            if (source is not null)
                socket.Bind(new IPEndPoint(source, 0));
            if (!socket.ConnectAsync(address, port).Wait(Patience))
                throw new TimeoutException($"connect to {address} port {port}");
            return (socket, ReadLine(socket));
        }
        catch (Exception e)
        {
            socket.Dispose();
            throw e is AggregateException { InnerException: { } inner } ? inner : e;
        }
    }

    /// <summary>One connection: the answer.</summary>
    internal static string Ask(LabTask client, IPAddress address, int port)
    {
        var (socket, answer) = Connect(client, address, port);
        socket.Dispose();
        return answer;
    }

    /// <summary>Sends something on an open connection and reads the answer; null when the connection is dead.</summary>
    internal static string? Echo(Socket socket)
    {
        try
        {
            socket.Send("x\n"u8);
            return ReadLine(socket);
        }
        catch (Exception e) when (e is SocketException or EndOfStreamException)
        {
            return null;
        }
    }

    /// <summary>One datagram and its answer. A connected socket takes it from the address it sent to only; an unconnected one says where it came from.</summary>
    internal static (string Answer, IPEndPoint From) AskUdp(LabTask client, IPAddress address, int port, bool connected, int octets = 8)
    {
        using var socket = Inside(client, () => new Socket(address.AddressFamily, SocketType.Dgram, ProtocolType.Udp));
        var to = new IPEndPoint(address, port);
        var buffer = new byte[256];
        for (var attempt = 1; ; attempt++)
        {
            socket.ReceiveTimeout = 3000;
            try
            {
                EndPoint from = new IPEndPoint(address.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
                int length;
                if (connected)
                {
                    if (attempt == 1)
                        socket.Connect(to);
                    socket.Send(new byte[octets]);
                    length = socket.Receive(buffer);
                    from = to;
                }
                else
                {
                    socket.SendTo(new byte[octets], to);
                    length = socket.ReceiveFrom(buffer, ref from);
                }
                return (Encoding.ASCII.GetString(buffer, 0, length), (IPEndPoint)from);
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.TimedOut && attempt < 3)
            {
            }
        }
    }

    private static string ReadLine(Socket socket)
    {
        var line = new StringBuilder();
        var one = new byte[1];
        while (true)
        {
            if (socket.Receive(one) == 0)
                throw new EndOfStreamException();
            if (one[0] == '\n')
                return line.ToString();
            line.Append((char)one[0]);
        }
    }

    private static T Inside<T>(LabTask task, Func<T> make)
    {
        using var netns = task.Netns.Open();
        return netns.Run(make);
    }
}
