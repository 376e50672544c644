using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;

namespace OverlayNet.Bench.Attach;

/// <summary>A server that only accepts, in a container's namespace.</summary>
internal static class Listener
{
    public static Socket In(string netnsPath, int port)
    {
        using var netns = NetworkNamespace.Open(netnsPath);
        return netns.Run(() =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Any, port));
            socket.Listen(64);
            return socket;
        });
    }
}
