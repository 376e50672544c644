using System.Net;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using OverlayNet.Dns.Answer;
using OverlayNet.Dns.Forward;
using OverlayNet.Dns.InKernel;
using OverlayNet.Dns.Server;
using OverlayNet.Dns.Table;
using OverlayNet.Dns.Taps;

namespace OverlayNet.Dns;

/// <summary>
/// The DNS server of a node. It answers what <see cref="DnsConfig"/> says on the sockets it is given and forwards the
/// rest. All members may be called from any thread. Sockets should be added after the first <see cref="Apply"/>, so
/// that queries that waited in them for a successor process are answered from known state.
/// </summary>
public sealed partial class DnsServer : IDisposable
{
    /// <summary>Names of nodes live in a network of this name, which every client sees last.</summary>
    private const string NodesNetwork = "node";

    private readonly Lock _lock = new();
    private readonly DnsServerOptions _options;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly ServerCookies _cookies;
    private readonly QueryTap[] _taps;
    private readonly WorkerPool _workers;
    private readonly Forwarder _forwarder;
    private readonly ForwardDispatcher _dispatcher;
    private readonly TcpServer _tcp;
    private readonly UdpLoop[] _udp;
    private readonly KernelAnswers? _kernel;
    private readonly Dictionary<string, Listener> _listeners = [];
    private readonly Dictionary<string, NetworkView> _views = [];
    private readonly Dictionary<string, Scope> _scopes = [];
    private ILookup<string, DnsSource> _sources = Array.Empty<DnsSource>().ToLookup(s => s.NetworkId);
    private NetworkView _nodes;
    private ZoneInfo _zone;
    private DnsConfig _config = new();
    private DateTimeOffset? _appliedAt;
    private int _nextLoop;
    private bool _stopped;

    private sealed record Listener(string? NetworkId, ListenerSocket? Udp, UdpLoop? Loop, ListenerSocket? Tcp)
    {
        public ListenerView View
        {
            set
            {
                Udp?.View = value;
                Tcp?.View = value;
            }
        }
    }

    /// <param name="kernel">Where answers are put that the kernel can give by itself; null: nowhere. Stays the caller's.</param>
    /// <exception cref="ArgumentException">Taps are shown every answer: with them the kernel must not give any.</exception>
    public DnsServer(DnsServerOptions options, ILogger logger, TimeProvider? time = null, KernelAnswers? kernel = null)
    {
        _options = options;
        _logger = logger;
        _time = time ?? TimeProvider.System;
        _cookies = new ServerCookies(_time, options.CookieSecret);
        _taps = [.. Taps(options, logger, _time)];
        if (kernel is not null && _taps.Length > 0)
            throw new ArgumentException("Queries that the kernel answers are neither logged nor written to dnstap; use one or the other.", nameof(kernel));
        _kernel = kernel;
        _workers = new WorkerPool(_cookies, _taps);
        _forwarder = new Forwarder(options, logger, _time);
        _dispatcher = new ForwardDispatcher(_forwarder, _workers, options);
        _zone = MakeZone(_config);
        _nodes = MakeView("", NodesNetwork, _config, reverse: false);
        _tcp = new TcpServer(options, _workers, _dispatcher, _time);
        _udp = new UdpLoop[Math.Max(1, options.UdpThreads)];
        for (var i = 0; i < _udp.Length; i++)
        {
            _udp[i] = new UdpLoop(
                i, new QueryProcessor(_cookies, _taps), new RateLimiter(options.ClientQueriesPerSecond, _time.TimestampFrequency), _dispatcher, _time, kernel);
        }
    }

    /// <summary>The state applied last.</summary>
    public DnsConfig Config
    {
        get
        {
            lock (_lock)
                return _config;
        }
    }

    /// <summary>
    /// Makes the server answer from a new state, by difference to the old; queries are answered throughout. Applying
    /// the same state again does nothing.
    /// </summary>
    /// <exception cref="FormatException">Cluster domain, data centre or an upstream's domain is not a domain name.</exception>
    public void Apply(DnsConfig config)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopped, this);
            var zoneChanged = _config.ClusterDomain != config.ClusterDomain || _config.DataCenter != config.DataCenter
                || _config.Ttl != config.Ttl || _config.NegativeTtl != config.NegativeTtl;
            var viewsChanged = zoneChanged;
            if (zoneChanged)
            {
                _zone = MakeZone(config);
                _views.Clear();
                _nodes = MakeView("", NodesNetwork, config, reverse: false);
            }

            try
            {
                viewsChanged |= ApplyNetworks(config);
            }
            catch
            {
                // Names may be half changed: what the kernel says of them must not outlive that.
                _kernel?.Clear();
                throw;
            }

            ApplyNodes(config, zoneChanged);
            var wasSynced = _zone.Synced;
            _zone.Serial = (uint)config.Revision;
            _zone.Synced = config.Synced;

            viewsChanged |= !SameSources(_config.Sources, config.Sources)
                || !_config.FixedAddresses.SequenceEqual(config.FixedAddresses)
                || !ReferenceEquals(_config.Forward, config.Forward);
            var forwardChanged = viewsChanged || _appliedAt is null;
            _config = config;
            _appliedAt = _time.GetUtcNow();
            if (viewsChanged)
                RefreshListenerViews();
            if (viewsChanged || _zone.Synced != wasSynced)
                _kernel?.Clear();

            if (forwardChanged)
                _forwarder.Apply(config.Forward, [.. config.FixedAddresses, .. config.Networks.SelectMany(n => n.ListenerAddresses)]);
        }
    }

    /// <summary>Starts answering on sockets the caller made (<see cref="DnsSockets"/>) or inherited.</summary>
    /// <param name="id">Name for <see cref="RemoveListener"/>.</param>
    /// <param name="networkId">Whose clients ask here; null: the fixed listener, which sees every network.</param>
    /// <param name="udp">Bound to a specific address; null: none.</param>
    /// <param name="tcp">Listening; null: none.</param>
    /// <param name="leaveOpen">Whether the descriptors outlive this server: they are then never closed nor shut down.</param>
    /// <exception cref="ArgumentException">The id is in use.</exception>
    public void AddListener(string id, string? networkId, SafeHandle? udp, SafeHandle? tcp, bool leaveOpen)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopped, this);
            if (_listeners.ContainsKey(id))
                throw new ArgumentException($"Listener '{id}' exists already; remove it first.", nameof(id));
            var view = MakeListenerView(networkId);
            var loop = _udp[_nextLoop++ % _udp.Length];
            var listener = new Listener(
                networkId,
                udp is null ? null : new ListenerSocket(udp, leaveOpen, view) { KernelNetwork = networkId is null ? 0 : _kernel?.NumberOf(networkId) ?? 0 },
                udp is null ? null : loop,
                tcp is null ? null : new ListenerSocket(tcp, leaveOpen, view));
            if (listener.Udp is not null)
                loop.Add(listener.Udp);
            if (listener.Tcp is not null)
                _tcp.Add(listener.Tcp);
            _listeners[id] = listener;
        }
    }

    /// <inheritdoc cref="AddListener(string, string?, SafeHandle?, SafeHandle?, bool)"/>
    /// <param name="id">Name for <see cref="RemoveListener"/>.</param>
    /// <param name="networkId">Whose clients ask here; null: the fixed listener.</param>
    /// <param name="udpFd">Descriptor, or -1.</param>
    /// <param name="tcpFd">Descriptor, or -1.</param>
    /// <param name="leaveOpen">Whether the descriptors outlive this server.</param>
    public void AddListener(string id, string? networkId, int udpFd, int tcpFd, bool leaveOpen) =>
        AddListener(
            id,
            networkId,
            udpFd < 0 ? null : new SafeFileHandle(udpFd, ownsHandle: !leaveOpen),
            tcpFd < 0 ? null : new SafeFileHandle(tcpFd, ownsHandle: !leaveOpen),
            leaveOpen);

    /// <summary>Stops answering there; when it returns, nothing uses the descriptors any more. False: no such listener.</summary>
    public bool RemoveListener(string id)
    {
        lock (_lock)
        {
            if (!_listeners.Remove(id, out var listener))
                return false;
            Close(listener);
            return true;
        }
    }

    /// <summary>Ids of the listeners.</summary>
    public IReadOnlyCollection<string> Listeners
    {
        get
        {
            lock (_lock)
                return [.. _listeners.Keys];
        }
    }

    /// <summary>Stops for good. Descriptors handed in with leaveOpen stay as they are, with what waits in them.</summary>
    public void Stop()
    {
        lock (_lock)
        {
            if (_stopped)
                return;
            _stopped = true;
            foreach (var listener in _listeners.Values)
                Close(listener);
            _listeners.Clear();
        }

        foreach (var loop in _udp)
            loop.Dispose();
        _tcp.Dispose();
        _forwarder.Dispose();
        foreach (var tap in _taps)
            tap.Dispose();
    }

    public void Dispose() => Stop();

    private static IEnumerable<QueryTap> Taps(DnsServerOptions options, ILogger logger, TimeProvider time)
    {
        if (options.LogEvery > 0)
            yield return new QueryLog(logger, options.LogEvery);
        if (options.DnstapFile is { } path)
            yield return new Dnstap(path, options.Identity, Math.Max(1, options.DnstapEvery), logger, time);
    }

    private void Close(Listener listener)
    {
        if (listener.Udp is { } udp)
        {
            listener.Loop!.Remove(udp);
            udp.Close();
        }

        if (listener.Tcp is { } tcp)
        {
            _tcp.Remove(tcp);
            tcp.Close();
        }
    }

    private static ZoneInfo MakeZone(DnsConfig config) =>
        new(config.ClusterDomain, config.DataCenter, (uint)Math.Clamp(config.NegativeTtl.TotalSeconds, 0, 5));

    private NetworkView MakeView(string id, string name, DnsConfig config, bool reverse) =>
        new(id, name, _zone.Suffix, (uint)Math.Max(0, config.Ttl.TotalSeconds), reverse);

    /// <summary>True when a network came, went or changed otherwise than in its names.</summary>
    private bool ApplyNetworks(DnsConfig config)
    {
        var changed = false;
        var present = new HashSet<string>(config.Networks.Count);
        foreach (var network in config.Networks)
        {
            present.Add(network.Id);
            if (!_views.TryGetValue(network.Id, out var view) || view.Name != network.Name)
            {
                _views[network.Id] = view = MakeView(network.Id, network.Name, config, reverse: true);
                changed = true;
            }
            else if (ReferenceEquals(view.Network, network))
            {
                continue;
            }

            changed |= view.Network.Internal != network.Internal
                || !view.Network.Subnets.SequenceEqual(network.Subnets)
                || !view.Network.ListenerAddresses.SequenceEqual(network.ListenerAddresses);
            var names = view.Apply(network);
            _kernel?.Forget(_kernel.NumberOf(network.Id), [.. names.SelectMany(name => AskedForms(view, name))]);
            if (view.Label.Length == 0)
                Log.BadNetworkName(_logger, network.Name);
        }

        if (present.Count == _views.Count)
            return changed;
        foreach (var id in _views.Keys.Where(id => !present.Contains(id)).ToList())
            _views.Remove(id);
        return true;
    }

    /// <summary>Every name, with the root octet, by which a network's clients get the answer of one of its entries.</summary>
    private IEnumerable<byte[]> AskedForms(NetworkView view, byte[] name) =>
    [
        [.. name, 0],
        [.. name, .. view.Label, 0],
        [.. name, .. view.Label, .. _zone.Suffix],
        [.. name, .. view.Label, .. _zone.Domain],
    ];

    private void ApplyNodes(DnsConfig config, bool anew)
    {
        if (!anew && ReferenceEquals(config.Nodes, _config.Nodes))
            return;
        _nodes.Apply(new DnsNetwork
        {
            Id = "",
            Name = NodesNetwork,
            Endpoints = [.. config.Nodes.Select(n => new DnsEndpoint { Id = n.Name, Name = n.Name, Addresses = n.Addresses, Node = n.Name })],
        });
    }

    /// <summary>Views are made together, so that listeners and sources with the same networks share their scopes.</summary>
    private void RefreshListenerViews()
    {
        _scopes.Clear();
        _sources = _config.Sources.ToLookup(s => s.NetworkId);
        foreach (var listener in _listeners.Values)
            listener.View = MakeListenerView(listener.NetworkId);
    }

    private ListenerView MakeListenerView(string? networkId)
    {
        Scope fallback;
        IPAddress[] addresses;
        IEnumerable<DnsSource> sources;
        if (networkId is null)
        {
            fallback = MakeScope([.. _config.Networks.Select(n => n.Id)], isNode: true);
            addresses = [.. _config.FixedAddresses];
            sources = _config.Sources;
        }
        else
        {
            fallback = MakeScope([networkId], isNode: false);
            addresses = _views.TryGetValue(networkId, out var view) ? [.. view.Network.ListenerAddresses] : [];
            sources = _sources[networkId];
        }

        Dictionary<ClientAddress, Scope>? map = null;
        foreach (var source in sources)
        {
            map ??= [];
            map[ClientAddress.From(source.Address)] =
                MakeScope([source.NetworkId, .. source.NetworkIds.Where(id => id != source.NetworkId)], isNode: false);
        }

        var below = _config.Forward.Domains
            .Select(d => DnsName.Encode(d.Domain))
            .Where(d => d.Length > _zone.Domain.Length && DnsName.IsAtOrBelow(d, _zone.Domain))
            .ToArray();
        return new ListenerView(
            _zone, fallback, map is null ? null : new SourceMap(map), addresses,
            below.Length == 0 ? null : new DomainSet(below), _config.Forward.ForwardSingleLabel)
        {
            OwnNetworkFirst = networkId is not null && _views.ContainsKey(networkId),
        };
    }

    /// <param name="networkIds">In search order.</param>
    /// <param name="isNode">The node itself always reaches the outside.</param>
    private Scope MakeScope(IReadOnlyList<string> networkIds, bool isNode)
    {
        var key = isNode + "\n" + string.Join('\n', networkIds);
        if (_scopes.TryGetValue(key, out var known))
            return known;
        var views = new List<NetworkView>(networkIds.Count + 1);
        foreach (var id in networkIds)
        {
            if (_views.TryGetValue(id, out var view))
                views.Add(view);
        }

        var internalOnly = !isNode && views.Count > 0 && views.TrueForAll(v => v.Network.Internal);
        views.Add(_nodes);
        return _scopes[key] = new Scope([.. views], internalOnly);
    }

    private static bool SameSources(IReadOnlyList<DnsSource> a, IReadOnlyList<DnsSource> b) =>
        ReferenceEquals(a, b)
        || (a.Count == b.Count && a.Zip(b).All(p =>
            p.First.NetworkId == p.Second.NetworkId && p.First.Address.Equals(p.Second.Address)
            && p.First.NetworkIds.SequenceEqual(p.Second.NetworkIds)));

    private static partial class Log
    {
        [LoggerMessage(Level = LogLevel.Warning, Message = "Network name '{Name}' is not a domain name; its members resolve by short names only")]
        public static partial void BadNetworkName(ILogger logger, string name);
    }
}
