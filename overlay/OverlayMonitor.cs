using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>Something the monitor heard.</summary>
public abstract record OverlayEvent;

/// <summary>A container's namespace ended: its endpoint must be withdrawn. Said once for each endpoint.</summary>
public sealed record EndpointVanished(string Network, string EndpointId) : OverlayEvent;

/// <summary>Something of ours changed (by hand, or by our own Apply), or changes were missed: apply again.</summary>
/// <param name="Network">Name of the network; null: the host, or unknown.</param>
public sealed record OverlayChanged(string? Network) : OverlayEvent;

/// <summary>
/// Hears within milliseconds when a container's namespace ends and when links, addresses, routes, neighbours or FDB
/// entries of ours are changed. Sits in the networks' namespaces and the host's, never in a container's.
/// </summary>
public sealed class OverlayMonitor : IDisposable
{
    private readonly Action<OverlayEvent> heard;
    private readonly Lock gate = new();
    private readonly Dictionary<string, Listener> networks = [];
    private readonly HashSet<string> vanished = [];
    private readonly FileSystemWatcher pins;
    private readonly NetlinkMonitor host;
    private readonly ProcessWatch processes;
    private OverlayConfig? config;
    private bool disposed;

    /// <param name="hostPath">The network namespace of the host; null: the process's own.</param>
    /// <param name="heard">
    /// Called on the monitor's threads, one call at a time; several changes may come as several events. It must hand
    /// over and return: <see cref="Watch"/> and <see cref="Dispose"/> wait for it.
    /// </param>
    /// <exception cref="KernelException">A socket could not be made.</exception>
    public OverlayMonitor(string? hostPath, Action<OverlayEvent> heard)
    {
        this.heard = heard;
        Directory.CreateDirectory(NamedNamespaces.Directory);
        using (var netns = hostPath is null ? NetworkNamespace.OpenHost() : NetworkNamespace.Open(hostPath))
            host = new NetlinkMonitor(netns, RouteGroups.Links | RouteGroups.Addresses, OnHost, () => Raise(new OverlayChanged(null)));
        processes = new ProcessWatch(OnProcessEnded);
        pins = new FileSystemWatcher(NamedNamespaces.Directory) { NotifyFilter = NotifyFilters.FileName };
        pins.Deleted += (_, file) => OnUnpinned(file.Name ?? "");
        pins.Error += (_, _) => Raise(new OverlayChanged(null));
        pins.EnableRaisingEvents = true;
    }

    /// <summary>
    /// Follows a configuration: call it before Apply (so that what Apply takes away is not reported) and after (so
    /// that new namespaces are listened to). Endpoints that are gone already are reported from here.
    /// </summary>
    public void Watch(OverlayConfig desired)
    {
        List<NetlinkMonitor> stop = [];
        lock (gate)
        {
            if (disposed)
                return;
            config = desired;
            vanished.IntersectWith(desired.Networks.SelectMany(network => network.Endpoints).Select(endpoint => endpoint.Id));
            var wanted = desired.Networks.ToDictionary(network => network.Netns);
            foreach (var (name, listener) in networks.Where(pair => !wanted.ContainsKey(pair.Key)).ToList())
            {
                networks.Remove(name);
                stop.Add(listener.Monitor);
            }
            foreach (var (name, network) in wanted)
            {
                if (!networks.ContainsKey(name) && Listen(network) is { } listener)
                    networks[name] = listener;
            }
        }
        // Outside the lock: the thread that ends here may be waiting for it.
        foreach (var monitor in stop)
            monitor.Dispose();
        processes.Follow(Endpoints().Select(pair => ProcessWatch.ProcessOf(pair.Endpoint.Netns)).OfType<int>());
        // Whatever ended before the sockets were there was not heard.
        foreach (var (network, endpoint) in Endpoints())
            Check(network, endpoint);
    }

    public void Dispose()
    {
        List<NetlinkMonitor> stop;
        lock (gate)
        {
            if (disposed)
                return;
            disposed = true;
            stop = [.. networks.Values.Select(listener => listener.Monitor), host];
            networks.Clear();
        }
        pins.Dispose();
        processes.Dispose();
        foreach (var monitor in stop)
            monitor.Dispose();
    }

    private Listener? Listen(OverlayNetwork network)
    {
        try
        {
            using var netns = NamedNamespaces.OpenPinned(network.Netns);
            return new Listener(network.Name, netns, OnNetwork, OnMissed);
        }
        catch (KernelException)
        {
            // Not made yet: Apply makes it, and the next Watch listens.
            return null;
        }
    }

    private void OnNetwork(Listener network, RouteNotification notification)
    {
        switch (notification)
        {
            case { Removed: true, Subject: Link link }:
                var endpoint = Endpoints().FirstOrDefault(pair => pair.Network == network.Name && pair.Endpoint.HostInterface == link.Name).Endpoint;
                if (endpoint is null || !Check(network.Name, endpoint))
                    Raise(new OverlayChanged(network.Name));
                break;
            // Resolution of what the node itself talks to comes and goes all the time on its link; the bridge's entries are ours.
            case { Subject: Neighbour neighbour } when neighbour.Interface != network.Bridge:
                break;
            default:
                Raise(new OverlayChanged(network.Name));
                break;
        }
    }

    private void OnHost(RouteNotification notification)
    {
        var ours = notification.Subject switch
        {
            Link link => link.Name.StartsWith(TransitReconciler.OutsidePrefix, StringComparison.Ordinal),
            LinkAddress address => TransitAddresses.Range4.Contains(address.Address) || TransitAddresses.Range6.Contains(address.Address),
            _ => false,
        };
        if (ours)
            Raise(new OverlayChanged(null));
    }

    private void OnMissed(string network)
    {
        foreach (var (name, endpoint) in Endpoints())
        {
            if (name == network)
                Check(name, endpoint);
        }
        Raise(new OverlayChanged(network));
    }

    private void OnProcessEnded(int process)
    {
        foreach (var (network, endpoint) in Endpoints())
        {
            if (ProcessWatch.ProcessOf(endpoint.Netns) == process)
                Check(network, endpoint);
        }
    }

    private void OnUnpinned(string name)
    {
        var path = NamedNamespaces.PathOf(name);
        foreach (var (network, endpoint) in Endpoints())
        {
            if (endpoint.Netns == path || endpoint.Netns == "/var" + path)
                Check(network, endpoint);
        }
        if (config?.Networks.FirstOrDefault(network => network.Netns == name) is { } own)
            Raise(new OverlayChanged(own.Name));
    }

    /// <summary>Reports an endpoint whose namespace cannot be opened any more.</summary>
    /// <returns>False when it can: then only its link went.</returns>
    private bool Check(string network, LocalEndpoint endpoint)
    {
        // Still to come: what is lost meanwhile is made again.
        if (endpoint.HandOver is not null)
            return false;
        try
        {
            NamespaceIdentity.Open(endpoint.Netns, endpoint.NetnsIdentity).Dispose();
            return false;
        }
        catch (KernelException)
        {
            bool first;
            lock (gate)
                first = vanished.Add(endpoint.Id);
            if (first)
                Raise(new EndpointVanished(network, endpoint.Id));
            return true;
        }
    }

    private List<(string Network, LocalEndpoint Endpoint)> Endpoints() =>
        [.. config?.Networks.SelectMany(network => network.Endpoints.Select(endpoint => (network.Name, endpoint))) ?? []];

    private void Raise(OverlayEvent what)
    {
        lock (heard)
        {
            if (!disposed)
                heard(what);
        }
    }

    /// <summary>The ear in one network's namespace.</summary>
    private sealed class Listener
    {
        private volatile int bridge;

        internal Listener(string name, NetworkNamespace netns, Action<Listener, RouteNotification> changed, Action<string> missed)
        {
            Name = name;
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
            Monitor = new NetlinkMonitor(netns, RouteGroups.All, notification =>
            {
                if (notification is { Removed: false, Subject: Link { Name: NetworkReconciler.BridgeName } link })
                    bridge = link.Index;
                changed(this, notification);
            }, () => missed(name));
            if (new RouteLinks(socket).Get(NetworkReconciler.BridgeName) is { } present)
                bridge = present.Index;
        }

        internal string Name { get; }

        internal NetlinkMonitor Monitor { get; }

        /// <summary>Index of the bridge; 0 while there is none.</summary>
        internal int Bridge => bridge;
    }
}
