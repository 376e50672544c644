using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Consul;

/// <summary>
/// The registry as a Consul client sees it: nodes are Consul's nodes, container endpoints of services are instances, states are checks. Pure, and the
/// same for the same registry, so that who waits for a change is not woken by nothing.
/// </summary>
internal sealed class ConsulCatalog(Snapshot snapshot, string? dc = null, string? network = null)
{
    /// <summary>Labels of endpoints that an application registered here.</summary>
    public const string IdLabel = "consul.id", TagsLabel = "consul.tags", CheckLabel = "consul.check", MetaLabel = "consul.meta.";
    private const string Passing = "passing", Critical = "critical", Internal = "consul.";

    public IReadOnlyList<string> Datacenters => [.. snapshot.Nodes.Values.Select(node => node.Dc).Distinct().Order(StringComparer.Ordinal)];

    public IEnumerable<Node> Nodes => snapshot.Nodes.Values.Where(node => dc is null || node.Dc == dc).OrderBy(node => node.Name, StringComparer.Ordinal);

    /// <summary>Every service with all tags of its instances. A service without instances is there too: whoever follows it should not take it for gone.</summary>
    public SortedDictionary<string, List<string>> Services()
    {
        var services = new SortedDictionary<string, List<string>>(StringComparer.Ordinal) { ["consul"] = [] };
        foreach (var service in snapshot.Services.Values.Where(IsAsked))
        {
            var tags = snapshot.EndpointsOf(service).Where(IsInstance).SelectMany(endpoint => TagsOf(service, endpoint));
            services[service.Name] = [.. services.GetValueOrDefault(service.Name, []).Concat(tags).Distinct().Order(StringComparer.Ordinal)];
        }
        return services;
    }

    public List<ConsulEntry> Instances(string service, IReadOnlyList<string> tags, bool onlyPassing) =>
    [
        .. snapshot.Services.Values.Where(one => one.Name == service && IsAsked(one)).SelectMany(EntriesOf)
            .Where(entry => tags.All(entry.Service.Tags.Contains) && (!onlyPassing || entry.Checks.All(check => check.Status == Passing)))
            .OrderBy(entry => entry.Node.Node, StringComparer.Ordinal).ThenBy(entry => entry.Service.ID, StringComparer.Ordinal),
    ];

    public List<ConsulCatalogService> Flat(string service, IReadOnlyList<string> tags) => [.. Instances(service, tags, onlyPassing: false).Select(entry => new ConsulCatalogService
    {
        ID = entry.Node.ID,
        Node = entry.Node.Node,
        Address = entry.Node.Address,
        Datacenter = entry.Node.Datacenter,
        TaggedAddresses = entry.Node.TaggedAddresses,
        NodeMeta = entry.Node.Meta,
        ServiceID = entry.Service.ID,
        ServiceName = entry.Service.Service,
        ServiceTags = entry.Service.Tags,
        ServiceAddress = entry.Service.Address,
        ServiceTaggedAddresses = entry.Service.TaggedAddresses,
        ServicePort = entry.Service.Port,
        ServiceMeta = entry.Service.Meta,
        ServiceWeights = entry.Service.Weights,
        Namespace = entry.Service.Namespace,
        CreateIndex = entry.Service.CreateIndex,
        ModifyIndex = entry.Service.ModifyIndex,
    })];

    /// <returns>Null: there is no such node.</returns>
    public ConsulNodeServices? Node(string reference) => Find(reference) is { } node
        ? new ConsulNodeServices(Of(node), EntriesOn(node).ToDictionary(entry => entry.Service.ID, entry => entry.Service))
        : null;

    public Dictionary<string, ConsulService> ServicesOn(string nodeId) => snapshot.Nodes.TryGetValue(nodeId, out var node)
        ? EntriesOn(node).ToDictionary(entry => entry.Service.ID, entry => entry.Service)
        : [];

    public List<ConsulCheck> ChecksOnNode(string reference) => Find(reference) is { } node
        ? [.. NodeChecks(node), .. EntriesOn(node).SelectMany(entry => entry.Checks.Where(check => check.ServiceID.Length > 0))]
        : [];

    public List<ConsulCheck> ChecksOf(string service) =>
        [.. Instances(service, [], onlyPassing: false).SelectMany(entry => entry.Checks.Where(check => check.ServiceID.Length > 0))];

    /// <param name="state">any, passing, warning or critical.</param>
    public List<ConsulCheck> ChecksIn(string state) =>
        [.. Nodes.SelectMany(node => ChecksOnNode(node.Id)).Where(check => state == "any" || check.Status == state)];

    public static ConsulNode Of(Node node) => new()
    {
        ID = node.Id,
        Node = node.Name,
        Address = node.Address.ToString(),
        Datacenter = node.Dc,
        TaggedAddresses = new Dictionary<string, string> { ["lan"] = node.Address.ToString(), ["wan"] = node.Address.ToString() },
        Meta = node.Labels.ToDictionary(label => MetaKey(label.Key), label => label.Value),
    };

    /// <summary>The instance's id for Consul: the one it was registered by, else the endpoint's.</summary>
    public static string IdOf(Endpoint endpoint) => endpoint.Labels.GetValueOrDefault(IdLabel) ?? endpoint.Id;

    public static string CheckIdOf(Endpoint endpoint) => endpoint.Labels.GetValueOrDefault(CheckLabel) ?? $"service:{IdOf(endpoint)}";

    /// <summary>Tags of an instance: those it was registered with, and the labels of service and endpoint, as <c>key=value</c>.</summary>
    public static IReadOnlyList<string> TagsOf(Service service, Endpoint endpoint) =>
    [
        .. (endpoint.Labels.GetValueOrDefault(TagsLabel) ?? service.Labels.GetValueOrDefault(TagsLabel) ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries)
            .Concat(service.Labels.Concat(endpoint.Labels).Where(label => !label.Key.StartsWith(Internal, StringComparison.Ordinal))
                .OrderBy(label => label.Key, StringComparer.Ordinal).Select(label => label.Value.Length == 0 ? label.Key : $"{label.Key}={label.Value}"))
            .Distinct(),
    ];

    private Node? Find(string reference) => Nodes.FirstOrDefault(node => node.Name == reference || node.Id == reference);

    private bool IsAsked(Service service) => network is null || snapshot.Networks.GetValueOrDefault(service.NetworkId)?.Name == network;

    private bool IsInstance(Endpoint endpoint) =>
        endpoint.Kind == EndpointKind.Container && snapshot.Nodes.TryGetValue(endpoint.NodeId, out var node) && (dc is null || node.Dc == dc);

    private IEnumerable<ConsulEntry> EntriesOf(Service service)
    {
        var panic = PanicMode.On(snapshot, service);
        return snapshot.EndpointsOf(service).Where(IsInstance).Select(endpoint => Entry(service, endpoint, panic));
    }

    private IEnumerable<ConsulEntry> EntriesOn(Node node) => snapshot.EndpointsOf(node)
        .Where(endpoint => IsInstance(endpoint) && endpoint.ServiceId is not null && snapshot.Services.TryGetValue(endpoint.ServiceId, out var service) && IsAsked(service))
        .OrderBy(endpoint => endpoint.Id, StringComparer.Ordinal)
        .Select(endpoint => Entry(snapshot.Services[endpoint.ServiceId!], endpoint, PanicMode.On(snapshot, snapshot.Services[endpoint.ServiceId!])));

    private ConsulEntry Entry(Service service, Endpoint endpoint, bool panic)
    {
        var node = snapshot.Nodes[endpoint.NodeId];
        var port = service.Ports.FirstOrDefault()?.Target ?? 0;
        var addresses = new Dictionary<string, ConsulAddress>();
        if (endpoint.Address4 is { } four)
            addresses["lan_ipv4"] = new ConsulAddress(four.ToString(), port);
        if (endpoint.Address6 is { } six)
            addresses["lan_ipv6"] = new ConsulAddress(six.ToString(), port);
        var on = snapshot.Networks.GetValueOrDefault(endpoint.NetworkId)?.Name ?? endpoint.NetworkId;
        var meta = new Dictionary<string, string> { ["network"] = on, ["endpoint"] = endpoint.Name };
        foreach (var (key, value) in service.Labels.Concat(endpoint.Labels))
        {
            if (key.StartsWith(MetaLabel, StringComparison.Ordinal))
                meta[MetaKey(key[MetaLabel.Length..])] = value;
            else if (!key.StartsWith(Internal, StringComparison.Ordinal))
                meta[MetaKey(key)] = value;
        }
        // Not more than its configured weight: a ramp would wake everybody who waits for a change.
        return new ConsulEntry(Of(node), new ConsulService
        {
            ID = IdOf(endpoint),
            Service = service.Name,
            Tags = TagsOf(service, endpoint),
            Meta = meta,
            Address = (endpoint.Address4 ?? endpoint.Address6)?.ToString() ?? "",
            TaggedAddresses = addresses,
            Port = port,
            Weights = new ConsulWeights(endpoint.Weight, 1),
            Namespace = on,
            Datacenter = node.Dc,
            CreateIndex = Math.Max(1, endpoint.CreatedAtUnixMs),
            ModifyIndex = Math.Max(1, Math.Max(endpoint.CreatedAtUnixMs, endpoint.StateSinceUnixMs)),
        }, [.. NodeChecks(node), Check(service, endpoint, node, panic)]);
    }

    /// <summary>
    /// A silent daemon does not make a node's instances bad: other nodes probe them, and their own states say what was found.
    /// </summary>
    private static IEnumerable<ConsulCheck> NodeChecks(Node node)
    {
        yield return new ConsulCheck
        {
            Node = node.Name,
            CheckID = "serfHealth",
            Name = "Serf Health Status",
            Status = node.State == NodeState.Down ? Critical : Passing,
            Output = node.State switch
            {
                NodeState.Ready => "Agent alive and reachable",
                NodeState.Unmanaged => "the node's daemon is silent; its endpoints are probed by other nodes",
                _ => "the node is down",
            },
        };
        if (node.Availability == NodeAvailability.Drain)
            yield return new ConsulCheck { Node = node.Name, CheckID = "_node_maintenance", Name = "Node Maintenance Mode", Status = Critical, Output = "the node is being drained" };
    }

    private static ConsulCheck Check(Service service, Endpoint endpoint, Node node, bool panic)
    {
        var (status, output) = PanicMode.Seen(endpoint, panic).State switch
        {
            EndpointState.Healthy when endpoint.State != EndpointState.Healthy => (Passing, "in a panic all endpoints are used: too few pass their checks"),
            EndpointState.Healthy => (Passing, "healthy"),
            EndpointState.Recovering => (Passing, "recovering: it takes a share that grows"),
            EndpointState.Draining => (Critical, "draining: it gets no new connections"),
            EndpointState.Maintenance => (Critical, "in maintenance"),
            EndpointState.Starting => (Critical, "starting: it has not passed yet"),
            EndpointState.Unreachable => (Critical, "unreachable"),
            _ => (Critical, "it fails its check"),
        };
        var maintained = endpoint.State is EndpointState.Draining or EndpointState.Maintenance;
        var id = IdOf(endpoint);
        return new ConsulCheck
        {
            Node = node.Name,
            CheckID = maintained ? $"_service_maintenance:{id}" : CheckIdOf(endpoint),
            Name = maintained ? "Service Maintenance Mode" : $"Service '{service.Name}' check",
            Status = status,
            Output = output,
            ServiceID = id,
            ServiceName = service.Name,
            ServiceTags = TagsOf(service, endpoint),
            Type = (endpoint.Health ?? service.Health)?.Kind.ToString().ToLowerInvariant() ?? "",
        };
    }

    /// <summary>Consul's keys have letters, digits, '-' and '_'.</summary>
    private static string MetaKey(string key) => string.Concat(key.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' ? c : '_'));

    /// <summary>A wait as clients write it, in Go's form: <c>30s</c>, <c>5m</c>, <c>1m30s</c>, <c>100ms</c>.</summary>
    /// <returns>Null: it is none.</returns>
    public static TimeSpan? Duration(string text)
    {
        var total = TimeSpan.Zero;
        var rest = text.AsSpan();
        if (rest.IsEmpty)
            return null;
        while (!rest.IsEmpty)
        {
            var digits = 0;
            while (digits < rest.Length && (char.IsAsciiDigit(rest[digits]) || rest[digits] == '.'))
                digits++;
            if (!double.TryParse(rest[..digits], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number))
                return null;
            rest = rest[digits..];
            var letters = 0;
            while (letters < rest.Length && char.IsAsciiLetter(rest[letters]))
                letters++;
            double? seconds = rest[..letters] switch
            {
                "ms" => 0.001,
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                "us" => 0.000001,
                "ns" => 0.000000001,
                // Clients write no wait at all as a bare 0.
                "" when number == 0 => 0,
                _ => null,
            };
            if (seconds is null || number * seconds > TimeSpan.FromDays(1).TotalSeconds)
                return null;
            total += TimeSpan.FromSeconds(number * seconds.Value);
            rest = rest[letters..];
        }
        return total;
    }
}
