using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using OverlayNet.Kernel;
using OverlayNet.RuntimeTests.Docker;

namespace OverlayNet.Bench.Runtimes;

/// <summary>Asks Docker's resolver from inside a container, as the container's own programs do.</summary>
internal sealed class Resolver : IDisposable
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1), Patience = TimeSpan.FromSeconds(60);
    private static readonly IPEndPoint _server = new(IPAddress.Parse("127.0.0.11"), 53);
    private readonly NetworkNamespace _netns;
    private readonly Socket _socket;

    public Resolver(DockerHost host, string container)
    {
        _netns = NetworkNamespace.Open((string)host.Inspect(container)["NetworkSettings"]!["SandboxKey"]!);
        _socket = _netns.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp));
        _socket.ReceiveTimeout = 200;
    }

    /// <summary>The timestamp at which a name first had so many addresses.</summary>
    public long Until(string name, int addresses)
    {
        var started = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(started) < Patience)
        {
            if (Count(name) == addresses)
                return Stopwatch.GetTimestamp();
            Thread.Sleep(Pause);
        }
        throw new TimeoutException($"{name} has {Count(name)} addresses, not {addresses}");
    }

    public void Dispose()
    {
        _socket.Dispose();
        _netns.Dispose();
    }

    /// <summary>A records in the answer; -1: none came.</summary>
    private int Count(string name)
    {
        var query = new List<byte> { (byte)Random.Shared.Next(256), (byte)Random.Shared.Next(256), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        foreach (var label in name.Split('.'))
        {
            query.Add((byte)label.Length);
            query.AddRange(Encoding.ASCII.GetBytes(label));
        }
        query.AddRange([0, 0, 1, 0, 1]);
        var answer = new byte[4096];
        try
        {
            _socket.SendTo(query.ToArray(), _server);
            var length = _socket.Receive(answer);
            return length >= 12 && answer[0] == query[0] && answer[1] == query[1] ? (answer[6] << 8) | answer[7] : -1;
        }
        catch (SocketException)
        {
            return -1;
        }
    }
}
