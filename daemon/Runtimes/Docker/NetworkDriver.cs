using System.Globalization;
using System.Net;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// Docker's network driver: each of Docker's networks is one of the cluster's, each of its endpoints one in the registry. Every
/// request may come again, and those that take away may come for what is gone.
/// </summary>
internal sealed partial class NetworkDriver(
    NodeAgent agent, DockerEndpoints endpoints, IpamDriver ipam, NetworkBindings bindings, IReadOnlyList<IPAddress> resolvers, ILogger logger)
{
    /// <summary>Label of a network that <c>docker network create</c> made: the id of Docker's.</summary>
    public const string CreatedByLabel = "overlaynet.docker.network";

    public const string ProvisionalPrefix = "docker-";

    /// <summary>Label of an endpoint whose container has the routes to the resolver by it.</summary>
    private const string ResolverRouteLabel = "overlaynet.docker.resolver";

    private const string Generic = "com.docker.network.generic", Internal = "com.docker.network.internal";
    private const string PortMap = "com.docker.network.portmap", MtuOption = "com.docker.network.driver.mtu";

    public async Task CreateNetwork(CreateNetworkRequest request, PluginScope scope)
    {
        if (bindings.Find(request.NetworkID) is { } bound && endpoints.Snapshot.Networks.ContainsKey(bound))
            return;
        var options = GenericOptions(request.Options);
        if (request.IPv4Data is not [var data4, ..])
            throw Refuse.Invalid("subnet-missing", "subnet", null, "Docker gave no IPv4 subnet", "create the network with '--ipam-driver overlaynet'");
        if (scope == PluginScope.Local && data4.AddressSpace != IpamDriver.AddressSpace)
            throw Refuse.Invalid("ipam-foreign", "ipam-driver", data4.AddressSpace, "addresses of another IPAM driver are this host's only, and would be given out twice in the cluster",
                "create the network with '--ipam-driver overlaynet'");
        var data6 = request.IPv6Data?.FirstOrDefault();
        var isInternal = request.Options?.GetValueOrDefault(Internal) is { ValueKind: JsonValueKind.True };
        var network = Existing(options, data4.Pool) is { } existing
            ? Checked(existing, data4.Pool, isInternal)
            : scope == PluginScope.Global
            ? throw Refuse.NotFound(Kinds.Network, request.NetworkID, "it is not in the cluster any more", "remove the swarm's network and create it again")
            : await Create(request.NetworkID, options, data4, data6, isInternal).ConfigureAwait(false);
        bindings.Bind(request.NetworkID, network.Id);
        Log.Bound(logger, request.NetworkID, network.Name);
    }

    public async Task DeleteNetwork(NetworkRequest request)
    {
        var id = bindings.Find(request.NetworkID);
        bindings.Unbind(request.NetworkID);
        if (id is null || !endpoints.Snapshot.Networks.TryGetValue(id, out var network)
            || network.Labels.GetValueOrDefault(CreatedByLabel) != request.NetworkID)
            return;
        try
        {
            await agent.Registry.DeleteNetwork(id, CancellationToken.None).ConfigureAwait(false);
        }
        catch (RegistryException e)
        {
            // Docker has taken its part away already: what is still used by others stays the cluster's, and comes back here.
            Log.NetworkStays(logger, network.Name, e.Message);
            agent.Events.Append("docker", "network-stays", network.Name, e.Message);
        }
    }

    public async Task<CreateEndpointResponse> CreateEndpoint(CreateEndpointRequest request)
    {
        var network = Network(request.NetworkID);
        var given = request.Interface ?? new EndpointInterface();
        var endpoint = endpoints.Find(request.EndpointID);
        if (endpoint is null)
        {
            var (ip, ip6) = (Address(given.Address, 32), Address(given.AddressIPv6, 128));
            var lease = ip is null && ip6 is null ? null : endpoints.At(network, (ip ?? ip6)!);
            if (lease is not null && !DockerEndpoints.IsLease(lease))
                throw Refuse.Conflict("address-taken", "ip", (ip ?? ip6)!.ToString(), $"endpoint '{lease.Name}' has it", "remove that container first");
            lease ??= await endpoints.Reserve(network, ip, ip6).ConfigureAwait(false);
            if (ip6 is not null && !ip6.Equals(lease.Address6))
                throw Refuse.Conflict("address-pair", "ip6", ip6.ToString(), "it was reserved together with another IPv4 address", "start the container again");
            if (given.MacAddress.Length > 0 && given.MacAddress != lease.Mac)
                throw Refuse.Invalid("mac-differs", "mac-address", given.MacAddress, $"the MAC of an address follows from it: {lease.Mac}", "leave --mac-address out");
            var options = DriverOptions.From(request.Options);
            (endpoint, _) = await endpoints.Update(lease, new EndpointUpdateRequest
            {
                Name = options.Name,
                Service = options.Service,
                Aliases = options.Aliases,
                Weight = options.Weight,
                Labels = options.Labels(request.EndpointID),
            }).ConfigureAwait(false);
        }
        return new CreateEndpointResponse(new EndpointInterface { MacAddress = given.MacAddress.Length > 0 ? "" : endpoint.Mac });
    }

    public async Task<JoinEndpointResponse> Join(JoinEndpointRequest request)
    {
        var network = Network(request.NetworkID);
        var endpoint = endpoints.Find(request.EndpointID)
            ?? throw Refuse.NotFound(Kinds.Endpoint, request.EndpointID, "it was withdrawn meanwhile", "start the container again");
        if (!request.SandboxKey.StartsWith('/'))
            throw Refuse.Invalid("sandbox-relative", "sandbox", request.SandboxKey, "it is not an absolute path", "start dockerd with an absolute --exec-root");
        var hasResolver = endpoint.Labels.ContainsKey(ResolverRouteLabel)
            || !endpoints.All.Any(other => other.Id != endpoint.Id && other.Netns == request.SandboxKey && other.Labels.ContainsKey(ResolverRouteLabel));
        (endpoint, var revision) = await endpoints.Update(endpoint, new EndpointUpdateRequest
        {
            Netns = request.SandboxKey,
            State = EndpointState.Starting,
            Labels = hasResolver ? new(endpoint.Labels) { [ResolverRouteLabel] = "yes" } : null,
        }).ConfigureAwait(false);
        await endpoints.Built(endpoint, revision).ConfigureAwait(false);
        // Docker publishes ports only through docker_gwbridge, which it adds for want of another gateway.
        var leadsOutside = !network.Internal && !Publishes(request.Options);
        return new JoinEndpointResponse(
            new InterfaceName(ObjectNames.HandOver(endpoint), "eth"),
            leadsOutside ? network.Gateway4?.ToString() ?? "" : "",
            leadsOutside ? network.Gateway6?.ToString() ?? "" : "",
            hasResolver ? [.. ResolverRoutes(network, endpoint)] : [],
            DisableGatewayService: network.Internal);
    }

    public async Task Leave(EndpointRequest request)
    {
        if (endpoints.Find(request.EndpointID) is not { Netns.Length: > 0 } endpoint)
            return;
        var (left, revision) = await endpoints.Update(endpoint, new EndpointUpdateRequest
        {
            State = EndpointState.Starting,
            Netns = "",
            Labels = endpoint.Labels.Where(label => label.Key != ResolverRouteLabel).ToDictionary(),
        }).ConfigureAwait(false);
        await endpoints.Built(left, revision).ConfigureAwait(false);
    }

    public async Task DeleteEndpoint(EndpointRequest request)
    {
        if (endpoints.Find(request.EndpointID) is not { } endpoint)
            return;
        ipam.Withdrawn(endpoint);
        await endpoints.Remove(endpoint).ConfigureAwait(false);
        Log.Removed(logger, endpoint.Id, endpoint.Name);
    }

    public OperInfoResponse OperInfo(EndpointRequest request) => new(endpoints.Find(request.EndpointID) is { } endpoint
        ? new Dictionary<string, string> { ["overlaynet.endpoint"] = endpoint.Id, ["overlaynet.state"] = endpoint.State.ToString().ToLowerInvariant() }
        : []);

    /// <summary>The name of a network whose name Docker has not told yet.</summary>
    public static string ProvisionalName(string dockerId) => $"{ProvisionalPrefix}{dockerId[..Math.Min(12, dockerId.Length)]}";

    private Network Network(string dockerNetworkId) =>
        bindings.Find(dockerNetworkId) is { } id && endpoints.Snapshot.Networks.TryGetValue(id, out var network)
            ? network
            : throw Refuse.NotFound(Kinds.Network, dockerNetworkId, "Docker's network is none of the cluster's (any more)", "remove it with 'docker network rm', and see 'overlaynet network ls'");

    private Network? Existing(Dictionary<string, string> options, string pool)
    {
        var named = options.GetValueOrDefault(IpamDriver.NetworkOption);
        if (named is { Length: > 0 } && endpoints.Snapshot.FindNetwork(named).Value is { } network)
            return network;
        var owner = endpoints.Snapshot.Networks.Values.FirstOrDefault(other => other.Subnet4?.ToString() == pool);
        return owner is null
            ? null
            : throw Refuse.Conflict("subnet-taken", "subnet", pool, $"network '{owner.Name}' has it",
                $"to use that network say -o {IpamDriver.NetworkOption}={owner.Name}; else choose another subnet");
    }

    private static Network Checked(Network network, string pool, bool isInternal)
    {
        if (network.Subnet4?.ToString() != pool)
            throw Refuse.Invalid("subnet-differs", "subnet", pool, $"network '{network.Name}' has {network.Subnet4}", $"say --ipam-opt {IpamDriver.NetworkOption}={network.Name} too, and leave --subnet out");
        return network.Internal == isInternal
            ? network
            : throw Refuse.Invalid("internal-differs", "internal", isInternal ? "true" : "false", $"network '{network.Name}' is {(network.Internal ? "" : "not ")}internal", network.Internal ? "say --internal" : "leave --internal out");
    }

    private async Task<Network> Create(string dockerId, Dictionary<string, string> options, IpamData data4, IpamData? data6, bool isInternal)
    {
        var range = Prefixes.Parse(data4.Pool) is var (address, length) ? ipam.TakeOffer(Prefixes.Of(address, length)) : null;
        var (network, revision) = await agent.Registry.CreateNetwork(new NetworkCreateRequest
        {
            // Docker does not tell a driver the network's name; it is taken over as soon as Docker's events say it.
            Name = options.GetValueOrDefault(IpamDriver.NetworkOption) is { Length: > 0 } name ? name : ProvisionalName(dockerId),
            Subnet = data4.Pool,
            Subnet6 = data6?.Pool,
            IpRange = range,
            Gateway = data4.Gateway.Split('/')[0] is { Length: > 0 } gateway ? gateway : null,
            Gateway6 = data6?.Gateway.Split('/')[0] is { Length: > 0 } gateway6 ? gateway6 : null,
            Mtu = Number(options, MtuOption) ?? 0,
            Vni = Number(options, "overlaynet.vni"),
            Internal = isInternal,
            Labels = new() { [CreatedByLabel] = dockerId },
        }, CancellationToken.None).ConfigureAwait(false);
        await agent.Follower.WaitFor(revision, CancellationToken.None).ConfigureAwait(false);
        return network;
    }

    private IEnumerable<StaticRoute> ResolverRoutes(Network network, Endpoint endpoint)
    {
        foreach (var resolver in resolvers)
        {
            var bits = Prefixes.Bits(resolver);
            var (gateway, has) = bits == 32 ? (network.Gateway4, endpoint.Address4 is not null) : (network.Gateway6, endpoint.Address6 is not null);
            if (gateway is not null && has)
                yield return new StaticRoute($"{resolver}/{bits}", 0, gateway.ToString());
        }
    }

    private static bool Publishes(Dictionary<string, JsonElement>? options) =>
        options?.GetValueOrDefault(PortMap) is { ValueKind: JsonValueKind.Array } ports && ports.GetArrayLength() > 0;

    private static Dictionary<string, string> GenericOptions(Dictionary<string, JsonElement>? options) =>
        options?.GetValueOrDefault(Generic) is { ValueKind: JsonValueKind.Object } generic
            ? generic.EnumerateObject().Where(entry => entry.Value.ValueKind == JsonValueKind.String).ToDictionary(entry => entry.Name, entry => entry.Value.GetString()!)
            : [];

    private static int? Number(Dictionary<string, string> options, string key)
    {
        if (!options.TryGetValue(key, out var text))
            return null;
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            ? number
            : throw Refuse.Invalid("invalid-option", key, text, "it is not a number", $"say -o {key}=NUMBER");
    }

    private static IPAddress? Address(string cidr, int bits) => cidr.Length > 0 ? Names.Address("ip", cidr.Split('/')[0], bits) : null;

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "docker: network {DockerId} is network {Network}")]
        public static partial void Bound(ILogger logger, string dockerId, string network);

        [LoggerMessage(2, LogLevel.Warning, "docker: network {Network} stays in the cluster: {Reason}")]
        public static partial void NetworkStays(ILogger logger, string network, string reason);

        [LoggerMessage(3, LogLevel.Information, "docker: endpoint {Id} ({Name}): removed")]
        public static partial void Removed(ILogger logger, string id, string name);
    }
}
