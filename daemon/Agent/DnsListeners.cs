using System.Net;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Daemon.Keeper;
using OverlayNet.Dns;
using OverlayNet.Dns.InKernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Agent;

/// <summary>One address the DNS server is to listen at.</summary>
/// <param name="NetworkId">Whose clients ask there; null: the node itself.</param>
/// <param name="Netns">Name of the namespace the address is in; null: the host's.</param>
public sealed record DnsListenAddress(string? NetworkId, string? Netns, IPAddress Address);

/// <summary>
/// Keeps the server's sockets as desired: taken over from the keeper where a predecessor left them, else made inside
/// the network's namespace and given to the keeper, so that a successor finds them with the queries that wait in them.
/// Where the kernel can answer by itself, its programs are attached to the networks' bridges, and kept likewise.
/// </summary>
internal sealed partial class DnsListeners(DnsServer server, KernelAnswers? kernel, KeeperClient keeper, ILogger logger)
{
    private const int Port = 53, NoSuchDevice = 19;
    private readonly Dictionary<string, (SafeFileHandle Udp, SafeFileHandle Tcp)> _open = [];

    // Networks whose bridge has, or should have, a program that answers; those where it failed were said once.
    private HashSet<string> _answering = [];
    private readonly HashSet<string> _refused = [];

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
        AnswerInKernel(desired, all: true);
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
        AnswerInKernel(desired, all: false);
    }

    /// <summary>
    /// Programs on the bridges of the networks that are listened in. One that the predecessor left is replaced: until then it
    /// answers what the predecessor knew.
    /// </summary>
    /// <param name="all">False: only where the predecessor left one.</param>
    private void AnswerInKernel(IReadOnlyList<DnsListenAddress> desired, bool all)
    {
        if (kernel is null)
            return;
        var wanted = new HashSet<string>();
        foreach (var network in desired.Where(listen => listen is { NetworkId: not null, Netns: not null }).GroupBy(listen => (listen.NetworkId, listen.Netns)))
        {
            var id = "";
            try
            {
                using var netns = NamedNamespaces.OpenPinned(network.Key.Netns!);
                id = $"answers/{network.Key.Netns}/{netns.Identity}";
                wanted.Add(id);
                IPAddress[] addresses = [.. network.Select(listen => listen.Address)];
                keeper.Inherited.Remove(id, out var kept);
                if (kernel.Holds(id, addresses) || (kept is null && !all))
                    continue;
                if (netns.Run(() => Attach(id, network.Key.NetworkId!, addresses, kept)))
                {
                    using var link = kernel.LinkOf(id);
                    keeper.Put(id, link);
                }
                _refused.Remove(id);
            }
            catch (KernelException e)
            {
                // The sockets answer all the same. A namespace that is missing was said by them.
                if (id.Length > 0 && _refused.Add(id))
                    Log.NotInKernel(logger, id, e.Message);
            }
        }
        if (!all)
            return;
        foreach (var id in _answering.Except(wanted))
        {
            kernel.Detach(id);
            keeper.Drop(id);
            _refused.Remove(id);
        }
        _answering = wanted;
    }

    /// <returns>Whether the link is a new one, which nobody keeps yet.</returns>
    private bool Attach(string id, string networkId, IPAddress[] addresses, SafeFileHandle? kept)
    {
        using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
        if (new RouteLinks(route).Get(Overlay.Overlay.BridgeName) is not { } bridge)
        {
            kept?.Dispose();
            throw new KernelException($"interface {Overlay.Overlay.BridgeName}", NoSuchDevice);
        }
        var isNew = kernel!.Attach(id, networkId, bridge.Index, addresses, Port, kept is null ? null : BpfLink.Adopt(kept, id));
        Log.InKernel(logger, id, isNew ? "attached" : "taken over");
        return isNew;
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

        [LoggerMessage(4, LogLevel.Information, "dns: the kernel answers, {Key}: {What}")]
        public static partial void InKernel(ILogger logger, string key, string what);

        [LoggerMessage(5, LogLevel.Warning, "dns: the kernel cannot answer, the daemon does, {Key}: {Reason}")]
        public static partial void NotInKernel(ILogger logger, string key, string reason);

        [LoggerMessage(3, LogLevel.Information, "dns: no longer listening, {Key}")]
        public static partial void Closed(ILogger logger, string key);
    }
}
