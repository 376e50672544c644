using System.Collections.Concurrent;
using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Peers;

/// <summary>Probes of the way that other nodes have asked this one to take part in: it sends its half, and keeps for a moment what it has seen of theirs.</summary>
internal sealed class PathAnswers
{
    private const int Most = 32, LongestToken = 64;
    private static readonly TimeSpan Kept = TimeSpan.FromSeconds(10);
    private readonly ConcurrentDictionary<string, Task<int>> _running = [];
    private long _last;

    /// <param name="caller">The node that asks, by its certificate.</param>
    /// <exception cref="RegistryException">400, 404 or 409: it cannot be done.</exception>
    public PathProbeStarted Begin(Snapshot snapshot, string self, string caller, PathProbeRequest request)
    {
        if (request.Family is not (4 or 6))
            throw Refuse.Invalid("invalid-probe", "family", request.Family.ToString(CultureInfo.InvariantCulture), "it is no IP version", "send 4 or 6");
        if (request.Port is < 1 or > ushort.MaxValue)
            throw Refuse.Invalid("invalid-probe", "port", request.Port.ToString(CultureInfo.InvariantCulture), "it is no port", "send 1 to 65535");
        if (request.Token.Length is 0 or > LongestToken || request.Token.Length % 2 != 0 || !request.Token.All(char.IsAsciiHexDigit))
            throw Refuse.Invalid("invalid-probe", "token", null, "it is no hexadecimal number", $"send up to {LongestToken} digits");
        if (_running.Count >= Most)
            throw Refuse.Conflict("too-many-probes", "node", null, $"{Most} run already", "try again in a second");
        var socket = PathSocket.Open(snapshot, self, caller, request.Network, request.Family, Convert.FromHexString(request.Token));
        var id = Interlocked.Increment(ref _last).ToString(CultureInfo.InvariantCulture);
        var port = socket.Port;
        _running[id] = Run(id, socket, request.Port);
        return new PathProbeStarted { Id = id, Port = port };
    }

    /// <summary>Waits for the end of a probe.</summary>
    /// <returns>Datagrams of the asking node that arrived here.</returns>
    /// <exception cref="RegistryException">404: there is none, or not any more.</exception>
    public Task<int> End(string id, CancellationToken cancel) =>
        _running.TryGetValue(id, out var running) ? running.WaitAsync(cancel) : throw Refuse.NotFound("probe", id, "there is none", "begin another one");

    private async Task<int> Run(string id, PathSocket socket, int port)
    {
        using (socket)
        {
            var arrived = await socket.ExchangeAsync(port, CancellationToken.None).ConfigureAwait(false);
            _ = Task.Delay(Kept).ContinueWith(_ => _running.TryRemove(id, out Task<int>? _), TaskScheduler.Default);
            return arrived;
        }
    }
}
