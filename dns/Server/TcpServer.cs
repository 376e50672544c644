using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Dns.Answer;

namespace OverlayNet.Dns.Server;

/// <summary>Queries over TCP (RFC 7766): pipelining, answers out of order when forwarding takes time, an idle limit and caps.</summary>
internal sealed class TcpServer : IDisposable
{
    private readonly DnsServerOptions _options;
    private readonly WorkerPool _workers;
    private readonly IStreamForwarder _forwarder;
    private readonly TimeProvider _time;
    private readonly AcceptLoop _accept;
    private readonly ConcurrentDictionary<TcpConnection, bool> _connections = new();
    private readonly ConcurrentDictionary<IPAddress, int> _perClient = new();
    private readonly CancellationTokenSource _stop = new();
    private long _refused;
    private long _accepted;

    public TcpServer(DnsServerOptions options, WorkerPool workers, IStreamForwarder forwarder, TimeProvider time)
    {
        _options = options;
        _workers = workers;
        _forwarder = forwarder;
        _time = time;
        _accept = new AcceptLoop(Accepted);
    }

    public int Connections => _connections.Count;

    public long AcceptedTotal => Interlocked.Read(ref _accepted);

    public long RefusedTotal => Interlocked.Read(ref _refused);

    public void Add(ListenerSocket socket) => _accept.Add(socket);

    public void Remove(ListenerSocket socket) => _accept.Remove(socket);

    public void Dispose()
    {
        _accept.Dispose();
        _stop.Cancel();
    }

    private void Accepted(int fd, ListenerSocket listener)
    {
        Socket socket;
        IPAddress address;
        try
        {
            socket = new Socket(new SafeSocketHandle(fd, ownsHandle: true));
            address = ((IPEndPoint)socket.RemoteEndPoint!).Address;
        }
        catch (SocketException)
        {
            return; // reset before it was accepted
        }

        var mine = _perClient.AddOrUpdate(address, 1, (_, n) => n + 1);
        if (mine > _options.TcpConnectionsPerClient || _connections.Count >= _options.TcpConnections)
        {
            Interlocked.Increment(ref _refused);
            Release(address);
            socket.Dispose();
            return;
        }

        Interlocked.Increment(ref _accepted);
        var connection = new TcpConnection(socket, ClientAddress.From(address), listener, _workers, _forwarder, _options, _time);
        _connections[connection] = true;
        _ = RunAsync(connection, address);
    }

    private async Task RunAsync(TcpConnection connection, IPAddress address)
    {
        // Away from the accepting thread at once.
        await Task.Yield();
        try
        {
            await connection.RunAsync(_stop.Token).ConfigureAwait(false);
        }
        finally
        {
            _connections.TryRemove(connection, out _);
            Release(address);
        }
    }

    private void Release(IPAddress address)
    {
        // Down to nothing removes the key, or the table would grow with every client ever seen.
        if (_perClient.AddOrUpdate(address, 0, (_, n) => n - 1) <= 0)
            _perClient.TryRemove(new KeyValuePair<IPAddress, int>(address, 0));
    }
}
