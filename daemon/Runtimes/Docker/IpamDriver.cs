using System.Collections.Concurrent;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// Docker's IPAM driver: pools are the subnets of the cluster's networks, addresses are endpoints in the registry, so that no
/// two nodes give out the same.
/// </summary>
internal sealed class IpamDriver(DockerEndpoints endpoints, TimeProvider time)
{
    public const string AddressSpace = "overlaynet";

    /// <summary>Option that names a network of the cluster, of both drivers (<c>--ipam-opt</c>, <c>-o</c>).</summary>
    public const string NetworkOption = "overlaynet.network";

    private const string AddressTypeOption = "RequestAddressType", GatewayType = "com.docker.network.gateway";
    private const string OfNetwork = "network/", OfSubnet = "subnet/";
    private static readonly Dictionary<string, string> _noData = [];

    /// <summary>How long an IPv4 address waits for the request of its IPv6 counterpart, which Docker sends next.</summary>
    private static readonly TimeSpan PairTimeout = TimeSpan.FromSeconds(2);

    // Subnets handed to Docker for networks that it has not created yet, and the part to give addresses from.
    private readonly ConcurrentDictionary<IPNetwork, string> _offered = new();

    /// <summary>Docker releases an endpoint's addresses at once after the endpoint; if it ended in between, it never does.</summary>
    private static readonly TimeSpan ReleaseTimeout = TimeSpan.FromSeconds(30);

    // Addresses whose endpoint is removed, before Docker has released them: they are in nobody's lease.
    private readonly ConcurrentDictionary<(string NetworkId, IPAddress Address), long> _withdrawn = new();
    private readonly ConcurrentDictionary<string, PairGate> _pairs = new();

    public RequestPoolResponse RequestPool(RequestPoolRequest request)
    {
        var snapshot = endpoints.Snapshot;
        if (request.Options?.GetValueOrDefault(NetworkOption) is { Length: > 0 } name)
        {
            var network = Resolve.Network(snapshot, name);
            var subnet = (request.V6 ? network.Subnet6 : network.Subnet4)
                ?? throw Refuse.Invalid("no-such-family", "network", network.Name, $"it has no {(request.V6 ? "IPv6" : "IPv4")} subnet",
                    request.V6 ? "leave --ipv6 out" : "Docker needs IPv4: create the network with --subnet too");
            if (request.Pool.Length > 0 && Subnet(request.Pool) != subnet)
                throw Refuse.Invalid("subnet-differs", "subnet", request.Pool, $"network '{network.Name}' has {subnet}", $"leave --subnet out, or say --subnet {subnet}");
            return new RequestPoolResponse($"{OfNetwork}{network.Id}/{(request.V6 ? 6 : 4)}", subnet.ToString(), _noData);
        }
        if (request.Pool.Length == 0 && request.V6)
            throw Refuse.Invalid("subnet-missing", "subnet", null, "an IPv6 subnet is not chosen by itself", "give one with --subnet, such as fd00:1::/64");
        var wanted = request.Pool.Length > 0 ? Subnet(request.Pool) : NextFree(snapshot);
        // A subnet of a network that is there: whether that one is meant is told by CreateNetwork's options.
        if (!snapshot.Networks.Values.Any(network => network.Subnet4 == wanted || network.Subnet6 == wanted))
            ClusterRegistry.CheckOverlap(snapshot, wanted, allowOverlap: false);
        _offered[wanted] = request.SubPool;
        return new RequestPoolResponse($"{OfSubnet}{wanted}", wanted.ToString(), _noData);
    }

    /// <summary>The part of an offered subnet to give addresses from (<c>--ip-range</c>); null: all of it.</summary>
    public string? TakeOffer(IPNetwork subnet) => _offered.TryRemove(subnet, out var range) && range.Length > 0 ? range : null;

    public async Task<RequestAddressResponse> RequestAddress(RequestAddressRequest request)
    {
        var (network, subnet) = Pool(request.PoolID);
        var wanted = request.Address.Length > 0 ? Names.Address("ip", request.Address, Prefixes.Bits(subnet.BaseAddress)) : null;
        if (request.Options?.GetValueOrDefault(AddressTypeOption) == GatewayType)
            return Answer(Gateway(network, subnet, wanted), subnet);
        if (network is null)
            throw Refuse.Invalid("aux-address", "aux-address", request.Address, "addresses cannot be set aside while a network is created",
                "keep them out of the pool with --ip-range instead");
        if (wanted is not null && IsWithdrawn(network, wanted))
            throw Refuse.Conflict("address-taken", "ip", request.Address, "Docker is just giving it back", "try again");
        var v6 = Prefixes.Bits(subnet.BaseAddress) == 128;
        if (network is not { Subnet4: not null, Subnet6: not null })
        {
            var lease = await endpoints.Reserve(network, v6 ? null : wanted, v6 ? wanted : null).ConfigureAwait(false);
            return Answer((v6 ? lease.Address6 : lease.Address4)!, subnet);
        }
        // One lease has both addresses. Docker asks for IPv4 first and for IPv6 right after; other containers wait between.
        var pair = _pairs.GetOrAdd(network.Id, _ => new PairGate());
        if (!v6)
        {
            await pair.Gate.WaitAsync(PairTimeout).ConfigureAwait(false);
            pair.Lease = await endpoints.Reserve(network, wanted, null).ConfigureAwait(false);
            return Answer(pair.Lease.Address4!, subnet);
        }
        var half = Interlocked.Exchange(ref pair.Lease, null)
            ?? throw Refuse.Conflict("address-pair", "ip6", request.Address, "its IPv4 counterpart was not asked for", "start the container again");
        try
        {
            if (wanted is not null && !wanted.Equals(half.Address6))
            {
                await endpoints.Remove(half).ConfigureAwait(false);
                half = await endpoints.Reserve(network, half.Address4, wanted).ConfigureAwait(false);
            }
            return Answer(half.Address6!, subnet);
        }
        finally
        {
            if (pair.Gate.CurrentCount == 0)
                pair.Gate.Release();
        }
    }

    public async Task ReleaseAddress(ReleaseAddressRequest request)
    {
        if (request.PoolID.StartsWith(OfNetwork, StringComparison.Ordinal) && !endpoints.Snapshot.Networks.ContainsKey(request.PoolID.Split('/')[1]))
            return;
        var (network, subnet) = Pool(request.PoolID);
        var address = Names.Address("ip", request.Address, Prefixes.Bits(subnet.BaseAddress));
        if (network is null || IsWithdrawn(network, address))
        {
            if (network is not null)
                _withdrawn.TryRemove((network.Id, address), out _);
            return;
        }
        if (endpoints.At(network, address) is { } endpoint && DockerEndpoints.IsLease(endpoint))
            await endpoints.Remove(endpoint).ConfigureAwait(false);
    }

    /// <summary>An endpoint was removed, and Docker is going to release its addresses.</summary>
    public void Withdrawn(Endpoint endpoint)
    {
        foreach (var address in new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>())
            _withdrawn[(endpoint.NetworkId, address)] = time.GetTimestamp();
    }

    private bool IsWithdrawn(Network network, IPAddress address) =>
        _withdrawn.TryGetValue((network.Id, address), out var at) && time.GetElapsedTime(at) < ReleaseTimeout;

    private (Network? Network, IPNetwork Subnet) Pool(string id)
    {
        var snapshot = endpoints.Snapshot;
        if (id.StartsWith(OfSubnet, StringComparison.Ordinal))
        {
            var subnet = Subnet(id[OfSubnet.Length..]);
            return (snapshot.Networks.Values.FirstOrDefault(network => network.Subnet4 == subnet || network.Subnet6 == subnet), subnet);
        }
        var parts = id.Split('/');
        if (parts is ["network", var networkId, "4" or "6"] && snapshot.Networks.TryGetValue(networkId, out var known)
            && (parts[2] == "6" ? known.Subnet6 : known.Subnet4) is { } pool)
            return (known, pool);
        throw Refuse.NotFound(Kinds.Network, id, "the network of this pool is no longer in the cluster", "remove Docker's network with 'docker network rm' and create it again");
    }

    private static IPAddress Gateway(Network? network, IPNetwork subnet, IPAddress? wanted)
    {
        var v6 = Prefixes.Bits(subnet.BaseAddress) == 128;
        if (network is null)
            return wanted ?? Prefixes.At(subnet, 1);
        var gateway = v6 ? network.Gateway6! : network.Gateway4!;
        return wanted is null || wanted.Equals(gateway)
            ? gateway
            : throw Refuse.Invalid("gateway-differs", "gateway", wanted.ToString(), $"network '{network.Name}' has {gateway}", $"leave --gateway out, or say --gateway {gateway}");
    }

    private IPNetwork NextFree(Snapshot snapshot)
    {
        foreach (var subnet in NetworkSpec.AutomaticSubnets())
        {
            if (!_offered.ContainsKey(subnet) && ClusterRegistry.IsFree(snapshot, subnet))
                return subnet;
        }
        throw Refuse.Conflict("subnet-exhausted", "subnet", null, $"every /24 of {NetworkSpec.AutomaticRange} is taken", "name a subnet with --subnet");
    }

    private static IPNetwork Subnet(string text) => Prefixes.Parse(text) is var (address, length) && !Prefixes.HasHostBits(address, length)
        ? Prefixes.Of(address, length)
        : throw Refuse.Invalid("invalid-subnet", "subnet", text, "it is not a prefix in CIDR form", "write it as 10.1.0.0/24");

    private static RequestAddressResponse Answer(IPAddress address, IPNetwork subnet) => new($"{address}/{subnet.PrefixLength}", _noData);

    private sealed class PairGate
    {
        public readonly SemaphoreSlim Gate = new(1, 1);
        public Endpoint? Lease;
    }
}
