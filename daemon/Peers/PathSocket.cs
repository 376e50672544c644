using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Peers;

/// <summary>One node's end of a probe of the way: a UDP socket at the node's own address in a network, from which marked datagrams are sent, and at which they are counted.</summary>
internal sealed class PathSocket : IDisposable
{
    /// <summary>Datagrams each way.</summary>
    public const int Count = 5;

    /// <summary>How long each end counts.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(1.5);
    private static readonly TimeSpan Between = TimeSpan.FromMilliseconds(20);
    private readonly Socket _socket;
    private readonly IPAddress _peer;
    private readonly byte[] _token;

    private PathSocket(Socket socket, IPAddress peer, byte[] token) => (_socket, _peer, _token) = (socket, peer, token);

    public int Port => ((IPEndPoint)_socket.LocalEndPoint!).Port;

    /// <param name="token">In every datagram of the probe: others do not count.</param>
    /// <exception cref="RegistryException">One of the two nodes is not in the network, or its namespace is not there.</exception>
    public static PathSocket Open(Snapshot snapshot, string self, string peer, string networkId, int family, byte[] token)
    {
        if (!snapshot.Networks.TryGetValue(networkId, out var network))
            throw Refuse.NotFound(Kinds.Network, networkId);
        IPAddress AddressOf(string node) => snapshot.EndpointsOf(network).FirstOrDefault(endpoint => endpoint.Kind == EndpointKind.Node && endpoint.NodeId == node) is { } own && (family == 6 ? own.Address6 : own.Address4) is { } address
            ? address
            : throw Refuse.Conflict("not-in-network", "network", network.Name, $"node {snapshot.Nodes.GetValueOrDefault(node)?.Name ?? node} has no IPv{(family == 6 ? '6' : '4')} address of its own in it", "probe a network that has endpoints on both nodes");
        var (own, other) = (AddressOf(self), AddressOf(peer));
        try
        {
            using var netns = NamedNamespaces.OpenPinned(ObjectNames.Netns(self, network));
            var socket = netns.Run(() => new Socket(own.AddressFamily, SocketType.Dgram, ProtocolType.Udp));
            socket.Bind(new IPEndPoint(own, 0));
            return new PathSocket(socket, other, token);
        }
        catch (Exception e) when (e is KernelException or SocketException)
        {
            throw Refuse.Conflict("not-in-network", "network", network.Name, $"no socket can be had in its namespace: {e.Message}", "see 'overlaynet doctor' on that node");
        }
    }

    /// <summary>Sends all datagrams, and counts those of the other end until all are there or the time is over.</summary>
    public async Task<int> ExchangeAsync(int port, CancellationToken cancel)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        limit.CancelAfter(Patience);
        var counting = CountAsync(limit.Token);
        for (byte i = 0; i < Count; i++)
        {
            try
            {
                await _socket.SendToAsync((byte[])[.. _token, i], new IPEndPoint(_peer, port), limit.Token).ConfigureAwait(false);
                await Task.Delay(Between, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException)
            {
                // What is not sent does not arrive: the other end's count says so.
            }
        }
        return await counting.ConfigureAwait(false);
    }

    public void Dispose() => _socket.Dispose();

    private async Task<int> CountAsync(CancellationToken limit)
    {
        var seen = new HashSet<byte>();
        var buffer = new byte[_token.Length + 2];
        var from = new IPEndPoint(_peer.AddressFamily == AddressFamily.InterNetwork ? IPAddress.Any : IPAddress.IPv6Any, 0);
        while (seen.Count < Count)
        {
            try
            {
                var received = await _socket.ReceiveFromAsync(buffer, from, limit).ConfigureAwait(false);
                if (received.ReceivedBytes == _token.Length + 1 && buffer.AsSpan(0, _token.Length).SequenceEqual(_token))
                    seen.Add(buffer[_token.Length]);
            }
            catch (SocketException)
            {
                // An ICMP error about what was sent; what comes in is another matter.
            }
            catch (OperationCanceledException)
            {
                break;
            }
        }
        return seen.Count;
    }
}
