using System.Collections.Immutable;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// The registry at one revision, in memory. Immutable: a change gives a new snapshot that shares what stayed the same,
/// so planners may keep and compare snapshots by reference.
/// </summary>
public sealed class Snapshot
{
    /// <summary>The least length of an id's beginning that refers to the object, as in Docker's short ids.</summary>
    private const int MinIdPrefix = 4;
    private const string UsualInterface = "eth0";

    private static readonly ImmutableHashSet<string> NoIds = ImmutableHashSet<string>.Empty;

    private readonly ImmutableDictionary<NameKey, Ids> _byName;
    private readonly ImmutableDictionary<string, ImmutableHashSet<string>> _serviceEndpoints;
    private readonly ImmutableDictionary<string, ImmutableHashSet<string>> _networkEndpoints;
    private readonly ImmutableDictionary<string, ImmutableHashSet<string>> _networkServices;
    private readonly ImmutableDictionary<string, ImmutableHashSet<string>> _nodeEndpoints;

    private Snapshot(Builder from)
    {
        ClusterId = from.ClusterId;
        ClusterDomain = from.ClusterDomain;
        Incarnation = from.Incarnation;
        Revision = from.Revision;
        Nodes = from.Nodes.ToImmutable();
        Networks = from.Networks.ToImmutable();
        Services = from.Services.ToImmutable();
        Endpoints = from.Endpoints.ToImmutable();
        Vips = from.Vips.ToImmutable();
        VipHolders = from.VipHolders.ToImmutable();
        _byName = from.ByName.ToImmutable();
        _serviceEndpoints = from.ServiceEndpoints.ToImmutable();
        _networkEndpoints = from.NetworkEndpoints.ToImmutable();
        _networkServices = from.NetworkServices.ToImmutable();
        _nodeEndpoints = from.NodeEndpoints.ToImmutable();
    }

    /// <summary>A registry without any object, at revision 0 of incarnation 0.</summary>
    public static Snapshot Empty { get; } = From(new RegistrySnapshot { ClusterId = "", ClusterDomain = "overlay.internal" });

    public string ClusterId { get; }

    public string ClusterDomain { get; }

    public long Incarnation { get; }

    public long Revision { get; }

    /// <summary>By id.</summary>
    public ImmutableDictionary<string, Node> Nodes { get; }

    /// <summary>By id.</summary>
    public ImmutableDictionary<string, Network> Networks { get; }

    /// <summary>By id.</summary>
    public ImmutableDictionary<string, Service> Services { get; }

    /// <summary>By id.</summary>
    public ImmutableDictionary<string, Endpoint> Endpoints { get; }

    /// <summary>Floating VIPs by id.</summary>
    public ImmutableDictionary<string, FloatingVip> Vips { get; }

    /// <summary>By lease set; absent: never held.</summary>
    public ImmutableDictionary<string, VipHolder> VipHolders { get; }

    public static Snapshot From(RegistrySnapshot contract)
    {
        var builder = new Builder
        {
            ClusterId = contract.ClusterId,
            ClusterDomain = contract.ClusterDomain,
            Incarnation = contract.Incarnation,
            Revision = contract.Revision,
        };
        foreach (var node in contract.Nodes)
            builder.Put(node);
        foreach (var network in contract.Networks)
            builder.Put(network);
        foreach (var service in contract.Services)
            builder.Put(service);
        foreach (var endpoint in contract.Endpoints)
            builder.Put(endpoint);
        foreach (var vip in contract.Vips)
            builder.Put(vip);
        foreach (var holder in contract.VipHolders)
            builder.VipHolders[holder.Set] = holder;
        return new Snapshot(builder);
    }

    /// <summary>Objects are ordered by id, so that equal registries give equal text.</summary>
    public RegistrySnapshot ToContract() => new()
    {
        ClusterId = ClusterId,
        ClusterDomain = ClusterDomain,
        Incarnation = Incarnation,
        Revision = Revision,
        Nodes = Ordered(Nodes),
        Networks = Ordered(Networks),
        Services = Ordered(Services),
        Endpoints = Ordered(Endpoints),
        Vips = Ordered(Vips),
        VipHolders = Ordered(VipHolders),
    };

    /// <summary>
    /// The registry after a message of the watch stream: a snapshot replaces everything, changes of a revision not newer than
    /// <see cref="Revision"/> are ignored, a sign of life only moves the revision.
    /// </summary>
    /// <exception cref="InvalidOperationException">Changes of another incarnation: the watcher has to start from a snapshot.</exception>
    public Snapshot Apply(WatchMessage message)
    {
        if (message.Snapshot is not null)
            return From(message.Snapshot);
        if (message.Incarnation != Incarnation)
            throw new InvalidOperationException(
                $"changes of incarnation {message.Incarnation} do not apply to a snapshot of incarnation {Incarnation}");
        if (message.Revision <= Revision)
            return this;
        var builder = new Builder(this) { Revision = message.Revision };
        foreach (var change in message.Changes ?? [])
            builder.Apply(change);
        return new Snapshot(builder);
    }

    /// <summary>The same revision with further endpoints, or other versions of some.</summary>
    public Snapshot With(IReadOnlyCollection<Endpoint> endpoints)
    {
        if (endpoints.Count == 0)
            return this;
        var builder = new Builder(this) { Revision = Revision };
        foreach (var endpoint in endpoints)
            builder.Put(endpoint);
        return new Snapshot(builder);
    }

    /// <summary>By id, name, or the beginning of an id.</summary>
    public Lookup<Node> FindNode(string reference) => Find(Nodes, Kinds.Node, [""], reference, n => n.Id);

    /// <summary>By id, name, or the beginning of an id.</summary>
    public Lookup<Network> FindNetwork(string reference) => Find(Networks, Kinds.Network, [""], reference, n => n.Id);

    /// <summary>By id, name, or the beginning of an id.</summary>
    /// <param name="networkId">Id of the network to look in; null: all, where equal names make the reference ambiguous.</param>
    public Lookup<Service> FindService(string reference, string? networkId = null) =>
        Find(Services, Kinds.Service, networkId is null ? Networks.Keys : [networkId], reference, s => s.Id, s => networkId is null || s.NetworkId == networkId);

    /// <summary>By id, name, or the beginning of an id.</summary>
    /// <param name="networkId">Id of the network to look in; null: all, where equal names make the reference ambiguous.</param>
    public Lookup<Endpoint> FindEndpoint(string reference, string? networkId = null) =>
        Find(Endpoints, Kinds.Endpoint, networkId is null ? Networks.Keys : [networkId], reference, e => e.Id, e => networkId is null || e.NetworkId == networkId);

    /// <summary>By id, name, or the beginning of an id.</summary>
    public Lookup<FloatingVip> FindVip(string reference) => Find(Vips, Kinds.Vip, [""], reference, v => v.Id);

    /// <summary>The endpoints behind a service, in no particular order.</summary>
    public IEnumerable<Endpoint> EndpointsOf(Service service) => Members(_serviceEndpoints, service.Id, Endpoints);

    /// <summary>Container and node endpoints of a network, in no particular order.</summary>
    public IEnumerable<Endpoint> EndpointsOf(Network network) => Members(_networkEndpoints, network.Id, Endpoints);

    /// <summary>Container endpoints on a node and its own, in no particular order.</summary>
    public IEnumerable<Endpoint> EndpointsOf(Node node) => Members(_nodeEndpoints, node.Id, Endpoints);

    /// <summary>Endpoints by their exact name; a container and a node's own may have the same.</summary>
    public IEnumerable<Endpoint> EndpointsNamed(string name, Network network) =>
        _byName.GetValueOrDefault(new NameKey(Kinds.Endpoint, network.Id, name)).All.Select(id => Endpoints[id]);

    public IEnumerable<Service> ServicesOf(Network network) => Members(_networkServices, network.Id, Services);

    /// <summary>The id of a node's own endpoint on a network.</summary>
    public static string NodeEndpointId(string nodeId, string networkId) => $"node-{nodeId}-{networkId}";

    /// <summary>A node's own endpoint on a network, or null while it has none.</summary>
    public Endpoint? NodeEndpoint(string nodeId, string networkId) =>
        Endpoints.GetValueOrDefault(NodeEndpointId(nodeId, networkId));

    /// <summary>
    /// Whether this snapshot and the other have everything in common that concerns a network: itself, its services and endpoints, and
    /// all nodes and networks. By reference, as snapshots share what stayed the same: false may also mean equal.
    /// </summary>
    public bool SharesNetwork(Snapshot other, string networkId) =>
        ClusterId == other.ClusterId
        && ReferenceEquals(Nodes, other.Nodes)
        && ReferenceEquals(Networks, other.Networks)
        && ReferenceEquals(_networkEndpoints.GetValueOrDefault(networkId, NoIds), other._networkEndpoints.GetValueOrDefault(networkId, NoIds))
        && ReferenceEquals(_networkServices.GetValueOrDefault(networkId, NoIds), other._networkServices.GetValueOrDefault(networkId, NoIds));

    private static IEnumerable<T> Members<T>(
        ImmutableDictionary<string, ImmutableHashSet<string>> index, string id, ImmutableDictionary<string, T> objects)
    {
        foreach (var member in index.GetValueOrDefault(id, NoIds))
            yield return objects[member];
    }

    private static List<T> Ordered<T>(ImmutableDictionary<string, T> objects) =>
        [.. objects.OrderBy(o => o.Key, StringComparer.Ordinal).Select(o => o.Value)];

    /// <param name="scopes">Networks in which the name is looked for; "" for kinds whose names are the cluster's.</param>
    private Lookup<T> Find<T>(
        ImmutableDictionary<string, T> objects, string kind, IEnumerable<string> scopes, string reference, Func<T, string> id,
        Func<T, bool>? within = null)
        where T : class
    {
        if (reference.Length == 0)
            return Lookup<T>.None;
        if (objects.TryGetValue(reference, out var exact) && (within is null || within(exact)))
            return Lookup<T>.Of([exact]);
        var name = reference.ToLowerInvariant();
        var named = scopes.SelectMany(scope => _byName.GetValueOrDefault(new NameKey(kind, scope, name)).All).ToList();
        if (named.Count > 0)
            return Lookup<T>.Of([.. named.Order(StringComparer.Ordinal).Select(i => objects[i])]);
        if (reference.Length < MinIdPrefix)
            return Lookup<T>.None;
        return Lookup<T>.Of([.. objects.Values
            .Where(o => id(o).StartsWith(reference, StringComparison.Ordinal) && (within is null || within(o)))]);
    }

    /// <param name="Scope">Id of a network; "" for kinds whose names are the cluster's.</param>
    private readonly record struct NameKey(string Kind, string Scope, string Name);

    /// <summary>The ids that have a name: nearly always one, so that a set for each of many names would only cost memory.</summary>
    private readonly struct Ids
    {
        private readonly object? _oneOrSet;

        private Ids(object? oneOrSet) => _oneOrSet = oneOrSet;

        public bool IsEmpty => _oneOrSet is null;

        public IEnumerable<string> All => _oneOrSet switch
        {
            null => [],
            string one => [one],
            var set => (ImmutableHashSet<string>)set,
        };

        public Ids With(string id) => _oneOrSet switch
        {
            null => new Ids(id),
            string one when one == id => this,
            string one => new Ids(NoIds.Add(one).Add(id)),
            var set => new Ids(((ImmutableHashSet<string>)set).Add(id)),
        };

        public Ids Without(string id) => _oneOrSet switch
        {
            null => this,
            string one => one == id ? default : this,
            var set => ((ImmutableHashSet<string>)set).Remove(id) is { Count: > 1 } left ? new Ids(left) : new Ids(((ImmutableHashSet<string>)set).Remove(id).FirstOrDefault()),
        };
    }

    private sealed class Builder
    {
        public Builder()
        {
        }

        public Builder(Snapshot from)
        {
            ClusterId = from.ClusterId;
            ClusterDomain = from.ClusterDomain;
            Incarnation = from.Incarnation;
            Nodes = from.Nodes.ToBuilder();
            Networks = from.Networks.ToBuilder();
            Services = from.Services.ToBuilder();
            Endpoints = from.Endpoints.ToBuilder();
            Vips = from.Vips.ToBuilder();
            VipHolders = from.VipHolders.ToBuilder();
            ByName = from._byName.ToBuilder();
            ServiceEndpoints = from._serviceEndpoints.ToBuilder();
            NetworkEndpoints = from._networkEndpoints.ToBuilder();
            NetworkServices = from._networkServices.ToBuilder();
            NodeEndpoints = from._nodeEndpoints.ToBuilder();
        }

        public string ClusterId { get; init; } = "";
        public string ClusterDomain { get; init; } = "";
        public long Incarnation { get; init; }
        public long Revision { get; init; }
        public ImmutableDictionary<string, Node>.Builder Nodes { get; } = ImmutableDictionary.CreateBuilder<string, Node>();
        public ImmutableDictionary<string, Network>.Builder Networks { get; } = ImmutableDictionary.CreateBuilder<string, Network>();
        public ImmutableDictionary<string, Service>.Builder Services { get; } = ImmutableDictionary.CreateBuilder<string, Service>();
        public ImmutableDictionary<string, Endpoint>.Builder Endpoints { get; } = ImmutableDictionary.CreateBuilder<string, Endpoint>();
        public ImmutableDictionary<string, FloatingVip>.Builder Vips { get; } = ImmutableDictionary.CreateBuilder<string, FloatingVip>();
        public ImmutableDictionary<string, VipHolder>.Builder VipHolders { get; } = ImmutableDictionary.CreateBuilder<string, VipHolder>();
        public ImmutableDictionary<NameKey, Ids>.Builder ByName { get; } = ImmutableDictionary.CreateBuilder<NameKey, Ids>();
        public ImmutableDictionary<string, ImmutableHashSet<string>>.Builder ServiceEndpoints { get; } = Index();
        public ImmutableDictionary<string, ImmutableHashSet<string>>.Builder NetworkEndpoints { get; } = Index();
        public ImmutableDictionary<string, ImmutableHashSet<string>>.Builder NetworkServices { get; } = Index();
        public ImmutableDictionary<string, ImmutableHashSet<string>>.Builder NodeEndpoints { get; } = Index();

        public void Apply(RegistryChange change)
        {
            if (change.Node is not null)
                Put(change.Node);
            if (change.Network is not null)
                Put(change.Network);
            if (change.Service is not null)
                Put(change.Service);
            if (change.Endpoint is not null)
                Put(change.Endpoint);
            if (change.Vip is not null)
                Put(change.Vip);
            if (change.VipHolder is not null)
                VipHolders[change.VipHolder.Set] = change.VipHolder;
            if (change.DeletedId is not null)
                Delete(change.DeletedKind, change.DeletedId);
        }

        public void Put(Node node)
        {
            Delete(Kinds.Node, node.Id);
            Nodes[node.Id] = node;
            AddName(new NameKey(Kinds.Node, "", node.Name), node.Id);
        }

        public void Put(Network network)
        {
            Delete(Kinds.Network, network.Id);
            Networks[network.Id] = network;
            AddName(new NameKey(Kinds.Network, "", network.Name), network.Id);
        }

        public void Put(Service service)
        {
            Delete(Kinds.Service, service.Id);
            Services[service.Id] = service;
            AddName(new NameKey(Kinds.Service, service.NetworkId, service.Name), service.Id);
            Add(NetworkServices, service.NetworkId, service.Id);
        }

        public void Put(Endpoint endpoint)
        {
            Delete(Kinds.Endpoint, endpoint.Id);
            endpoint = Lean(endpoint);
            Endpoints[endpoint.Id] = endpoint;
            AddName(new NameKey(Kinds.Endpoint, endpoint.NetworkId, endpoint.Name), endpoint.Id);
            Add(NetworkEndpoints, endpoint.NetworkId, endpoint.Id);
            Add(NodeEndpoints, endpoint.NodeId, endpoint.Id);
            if (endpoint.ServiceId is not null)
                Add(ServiceEndpoints, endpoint.ServiceId, endpoint.Id);
        }

        public void Put(FloatingVip vip)
        {
            Delete(Kinds.Vip, vip.Id);
            Vips[vip.Id] = vip;
            AddName(new NameKey(Kinds.Vip, "", vip.Name), vip.Id);
        }

        private void Delete(string? kind, string id)
        {
            switch (kind)
            {
                case Kinds.Vip when Vips.Remove(id, out var vip):
                    RemoveName(new NameKey(Kinds.Vip, "", vip.Name), id);
                    break;
                case Kinds.VipHolder:
                    VipHolders.Remove(id);
                    break;
                case Kinds.Node when Nodes.Remove(id, out var node):
                    RemoveName(new NameKey(Kinds.Node, "", node.Name), id);
                    break;
                case Kinds.Network when Networks.Remove(id, out var network):
                    RemoveName(new NameKey(Kinds.Network, "", network.Name), id);
                    break;
                case Kinds.Service when Services.Remove(id, out var service):
                    RemoveName(new NameKey(Kinds.Service, service.NetworkId, service.Name), id);
                    Remove(NetworkServices, service.NetworkId, id);
                    break;
                case Kinds.Endpoint when Endpoints.Remove(id, out var endpoint):
                    RemoveName(new NameKey(Kinds.Endpoint, endpoint.NetworkId, endpoint.Name), id);
                    Remove(NetworkEndpoints, endpoint.NetworkId, id);
                    Remove(NodeEndpoints, endpoint.NodeId, id);
                    if (endpoint.ServiceId is not null)
                        Remove(ServiceEndpoints, endpoint.ServiceId, id);
                    break;
            }
        }

        /// <summary>The same endpoint with what it has in common with others held once: there may be many, and each comes with copies of its own.</summary>
        private Endpoint Lean(Endpoint endpoint)
        {
            var node = Nodes.GetValueOrDefault(endpoint.NodeId)?.Id ?? endpoint.NodeId;
            var network = Networks.GetValueOrDefault(endpoint.NetworkId)?.Id ?? endpoint.NetworkId;
            var service = endpoint.ServiceId is null ? null : Services.GetValueOrDefault(endpoint.ServiceId)?.Id ?? endpoint.ServiceId;
            var aliases = endpoint.Aliases.Count == 0 ? [] : endpoint.Aliases;
            var labels = endpoint.Labels.Count == 0 ? NoLabels.Instance : endpoint.Labels;
            var name = endpoint.Interface == UsualInterface ? UsualInterface : endpoint.Interface;
            // Planners know by reference what stayed the same.
            return ReferenceEquals(node, endpoint.NodeId) && ReferenceEquals(network, endpoint.NetworkId) && ReferenceEquals(service, endpoint.ServiceId)
                && ReferenceEquals(aliases, endpoint.Aliases) && ReferenceEquals(labels, endpoint.Labels) && ReferenceEquals(name, endpoint.Interface)
                ? endpoint
                : endpoint with { NodeId = node, NetworkId = network, ServiceId = service, Aliases = aliases, Labels = labels, Interface = name };
        }

        private void AddName(NameKey key, string id) => ByName[key] = ByName.GetValueOrDefault(key).With(id);

        private void RemoveName(NameKey key, string id)
        {
            var left = ByName.GetValueOrDefault(key).Without(id);
            if (left.IsEmpty)
                ByName.Remove(key);
            else
                ByName[key] = left;
        }

        private static ImmutableDictionary<string, ImmutableHashSet<string>>.Builder Index() =>
            ImmutableDictionary.CreateBuilder<string, ImmutableHashSet<string>>();

        private static void Add(ImmutableDictionary<string, ImmutableHashSet<string>>.Builder index, string key, string id) =>
            index[key] = index.GetValueOrDefault(key, NoIds).Add(id);

        private static void Remove(ImmutableDictionary<string, ImmutableHashSet<string>>.Builder index, string key, string id)
        {
            if (!index.TryGetValue(key, out var ids))
                return;
            ids = ids.Remove(id);
            if (ids.IsEmpty)
                index.Remove(key);
            else
                index[key] = ids;
        }
    }
}
