using System.Net;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Daemon.Keeper;
using OverlayNet.Dns;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Agent;

/// <summary>One address the DNS server is to listen at.</summary>
/// <param name="NetworkId">Whose clients ask there; null: the node itself.</param>
/// <param name="Netns">Name of the namespace the address is in; null: the host's.</param>
public sealed record DnsListenAddress(string? NetworkId, string? Netns, IPAddress Address);

/// <summary>
/// Keeps the server's sockets as desired: taken over from the keeper where a predecessor left them, else made inside
/// the network's namespace and given to the keeper, so that a successor finds them with the queries that wait in them.
/// </summary>
internal sealed partial class DnsListeners(DnsServer server, KeeperClient keeper, ILogger logger)
{
    private const int Port = 53;
    private readonly Dictionary<string, (SafeFileHandle Udp, SafeFileHandle Tcp)> _open = [];

    /// <returns>Errors by address; those listeners are tried again at the next call.</returns>
    public IReadOnlyDictionary<string, string> Apply(IReadOnlyList<DnsListenAddress> desired)
    {
        var errors = new Dictionary<string, string>();
        var wanted = new Dictionary<string, DnsListenAddress>();
        foreach (var listen in desired)
        {
            try
            {
                wanted[KeyOf(listen)] = listen;
            }
            catch (KernelException e)
            {
                errors[listen.Address.ToString()] = e.Message;
            }
        }
        foreach (var key in _open.Keys.Except(wanted.Keys).ToList())
            Close(key);
        foreach (var (key, listen) in wanted)
        {
            if (_open.ContainsKey(key))
                continue;
            try
            {
                Open(key, listen);
            }
            catch (Exception e) when (e is SocketException or KernelException)
            {
                errors[listen.Address.ToString()] = e.Message;
            }
        }
        DropStrangers();
        return errors;
    }

    /// <summary>Takes over those of the desired that the predecessor left; all else that is to be done is for <see cref="Apply"/>.</summary>
    public void TakeOver(IReadOnlyList<DnsListenAddress> desired)
    {
        foreach (var listen in desired)
        {
            try
            {
                var key = KeyOf(listen);
                if (keeper.Inherited.ContainsKey(key + "/udp") && keeper.Inherited.ContainsKey(key + "/tcp"))
                    Open(key, listen);
            }
            catch (KernelException)
            {
                // Its namespace is gone: made again, or said to be missing, by the first application.
            }
        }
    }

    /// <summary>A name that changes with the namespace: sockets of one that was deleted and made again are of no use.</summary>
    private static string KeyOf(DnsListenAddress listen)
    {
        if (listen.Netns is null)
            return $"dns/host/{listen.Address}";
        using var netns = NamedNamespaces.OpenPinned(listen.Netns);
        return $"dns/{listen.Netns}/{netns.Identity}/{listen.Address}";
    }

    private void Open(string key, DnsListenAddress listen)
    {
        SafeFileHandle udp, tcp;
        if (keeper.Inherited.Remove(key + "/udp", out var keptUdp) & keeper.Inherited.Remove(key + "/tcp", out var keptTcp))
        {
            (udp, tcp) = (keptUdp!, keptTcp!);
            Log.Adopted(logger, key);
        }
        else
        {
            keptUdp?.Dispose();
            keptTcp?.Dispose();
            (udp, tcp) = Make(listen);
            keeper.Put(key + "/udp", udp);
            keeper.Put(key + "/tcp", tcp);
            Log.Opened(logger, key);
        }
        _open[key] = (udp, tcp);
        server.AddListener(key, listen.NetworkId, udp, tcp, leaveOpen: true);
    }

    private static (SafeFileHandle Udp, SafeFileHandle Tcp) Make(DnsListenAddress listen)
    {
        // Free bind: a v6 address may still be tentative.
        var endPoint = new IPEndPoint(listen.Address, Port);
        if (listen.Netns is null)
            return DnsSockets.Open(endPoint, freeBind: true);
        using var netns = NamedNamespaces.OpenPinned(listen.Netns);
        return netns.Run(() => DnsSockets.Open(endPoint, freeBind: true));
    }

    private void Close(string key)
    {
        server.RemoveListener(key);
        if (!_open.Remove(key, out var sockets))
            return;
        sockets.Udp.Dispose();
        sockets.Tcp.Dispose();
        keeper.Drop(key + "/udp");
        keeper.Drop(key + "/tcp");
        Log.Closed(logger, key);
    }

    /// <summary>What the predecessor left and nobody wants any more would keep a removed network's namespace alive.</summary>
    private void DropStrangers()
    {
        foreach (var (name, handle) in keeper.Inherited)
        {
            handle.Dispose();
            keeper.Drop(name);
        }
        keeper.Inherited.Clear();
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "dns: listening, {Key}")]
        public static partial void Opened(ILogger logger, string key);

        [LoggerMessage(2, LogLevel.Information, "dns: sockets taken over, {Key}")]
        public static partial void Adopted(ILogger logger, string key);

        [LoggerMessage(3, LogLevel.Information, "dns: no longer listening, {Key}")]
        public static partial void Closed(ILogger logger, string key);
    }
}
