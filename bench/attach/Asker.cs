using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using OverlayNet.ClusterTests.Harness;
using OverlayNet.Kernel;

namespace OverlayNet.Bench.Attach;

/// <summary>A client in a container of one node: asks the network's resolver, and connects to VIPs.</summary>
internal sealed class Asker : IDisposable
{
    private const int MaxTries = 20_000;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(0.5);
    private readonly NetworkNamespace _netns;
    private readonly Socket _dns;
    private readonly IPEndPoint _server;

    public Asker(Container container, IPEndPoint server)
    {
        _netns = NetworkNamespace.Open(container.NetnsPath);
        _server = server;
        _dns = _netns.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp));
        _dns.ReceiveTimeout = 200;
    }

    /// <summary>When <c>tasks.SERVICE</c> first listed the address, and when a connection to the VIP was first accepted.</summary>
    public (long Name, long Vip) Serving(string service, IPAddress address, IPEndPoint vip)
    {
        long name = 0, balanced = 0;
        for (var attempt = 0; attempt < MaxTries && (name == 0 || balanced == 0); attempt++)
        {
            if (name == 0 && Lists($"tasks.{service}", address))
                name = Stopwatch.GetTimestamp();
            if (balanced == 0 && Accepts(vip))
                balanced = Stopwatch.GetTimestamp();
            if (name == 0 || balanced == 0)
                Thread.Sleep(Pause);
        }
        return name != 0 && balanced != 0 ? (name, balanced) : throw new TimeoutException($"{service} is not served in {_netns.Path}");
    }

    public void Dispose()
    {
        _dns.Dispose();
        _netns.Dispose();
    }

    private bool Accepts(IPEndPoint vip)
    {
        using var socket = _netns.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        try
        {
            socket.Connect(vip);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private bool Lists(string name, IPAddress address)
    {
        var query = new List<byte> { (byte)Random.Shared.Next(256), (byte)Random.Shared.Next(256), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 };
        foreach (var label in name.Split('.'))
        {
            query.Add((byte)label.Length);
            query.AddRange(Encoding.ASCII.GetBytes(label));
        }
        query.AddRange([0, 0, 1, 0, 1]);
        _dns.SendTo(query.ToArray(), _server);
        var answer = new byte[512];
        try
        {
            var length = _dns.Receive(answer);
            return answer[0] == query[0] && answer[1] == query[1] && answer.AsSpan(0, length).IndexOf(address.GetAddressBytes()) > 0;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
