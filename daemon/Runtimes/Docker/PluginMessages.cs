using System.Text.Json;
using System.Text.Json.Serialization;

namespace OverlayNet.Daemon.Runtimes.Docker;

// The bodies of libnetwork's remote driver and remote IPAM protocol (moby: libnetwork/drivers/remote/api and
// libnetwork/ipams/remote/api). Field names are Docker's.

internal sealed record ActivateResponse(IReadOnlyList<string> Implements);

/// <param name="Scope"><c>local</c>: Docker keeps the network to itself; <c>global</c>: swarm mode hands it to every node.</param>
internal sealed record CapabilitiesResponse(string Scope, string ConnectivityScope);

internal sealed record AddressSpacesResponse(string LocalDefaultAddressSpace, string GlobalDefaultAddressSpace);

internal sealed record RequestPoolRequest
{
    public string AddressSpace { get; set; } = "";
    public string Pool { get; set; } = "";
    public string SubPool { get; set; } = "";
    public Dictionary<string, string>? Options { get; init; }
    public bool V6 { get; init; }
}

internal sealed record RequestPoolResponse(string PoolID, string Pool, IReadOnlyDictionary<string, string> Data);

internal sealed record RequestAddressRequest
{
    public string PoolID { get; set; } = "";
    public string Address { get; set; } = "";
    public Dictionary<string, string>? Options { get; init; }
}

internal sealed record RequestAddressResponse(string Address, IReadOnlyDictionary<string, string> Data);

internal sealed record ReleaseAddressRequest
{
    public string PoolID { get; set; } = "";
    public string Address { get; set; } = "";
}

internal sealed record IpamData
{
    public string AddressSpace { get; set; } = "";
    public string Pool { get; set; } = "";
    public string Gateway { get; set; } = "";
    public Dictionary<string, string>? AuxAddresses { get; init; }
}

internal sealed record CreateNetworkRequest
{
    public string NetworkID { get; set; } = "";
    public Dictionary<string, JsonElement>? Options { get; init; }
    public List<IpamData>? IPv4Data { get; init; }
    public List<IpamData>? IPv6Data { get; init; }
}

/// <summary>Swarm mode, on a manager; its options come back in every node's <see cref="CreateNetworkRequest"/>.</summary>
internal sealed record AllocateNetworkRequest
{
    public string NetworkID { get; set; } = "";
    public Dictionary<string, string>? Options { get; init; }
    public List<IpamData>? IPv4Data { get; init; }
    public List<IpamData>? IPv6Data { get; init; }
}

internal sealed record AllocateNetworkResponse(IReadOnlyDictionary<string, string> Options);

internal sealed record NetworkRequest
{
    public string NetworkID { get; set; } = "";
}

internal sealed record EndpointInterface
{
    /// <summary>CIDR.</summary>
    public string Address { get; set; } = "";
    public string AddressIPv6 { get; set; } = "";
    public string MacAddress { get; set; } = "";
}

internal sealed record CreateEndpointRequest
{
    public string NetworkID { get; set; } = "";
    public string EndpointID { get; set; } = "";
    public EndpointInterface? Interface { get; init; }
    public Dictionary<string, JsonElement>? Options { get; init; }
}

/// <summary>Only what Docker did not give itself may be in it.</summary>
internal sealed record CreateEndpointResponse(EndpointInterface Interface);

internal sealed record EndpointRequest
{
    public string NetworkID { get; set; } = "";
    public string EndpointID { get; set; } = "";
}

internal sealed record OperInfoResponse(IReadOnlyDictionary<string, string> Value);

internal sealed record JoinEndpointRequest
{
    public string NetworkID { get; set; } = "";
    public string EndpointID { get; set; } = "";
    public string SandboxKey { get; set; } = "";
    public Dictionary<string, JsonElement>? Options { get; init; }
}

/// <param name="SrcName">A link in dockerd's namespace that Docker moves into the container.</param>
internal sealed record InterfaceName(string SrcName, string DstPrefix);

/// <param name="RouteType">0: by <paramref name="NextHop"/>; 1: on the link.</param>
internal sealed record StaticRoute(string Destination, int RouteType, string NextHop);

/// <param name="DisableGatewayService">True: Docker does not connect the container to docker_gwbridge for want of a gateway.</param>
internal sealed record JoinEndpointResponse(
    InterfaceName InterfaceName, string Gateway, string GatewayIPv6, IReadOnlyList<StaticRoute> StaticRoutes, bool DisableGatewayService);

internal sealed record EmptyResponse;

internal sealed record ErrorResponse(string Err);

[JsonSourceGenerationOptions(UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip)]
[JsonSerializable(typeof(ActivateResponse))]
[JsonSerializable(typeof(CapabilitiesResponse))]
[JsonSerializable(typeof(AddressSpacesResponse))]
[JsonSerializable(typeof(RequestPoolRequest))]
[JsonSerializable(typeof(RequestPoolResponse))]
[JsonSerializable(typeof(RequestAddressRequest))]
[JsonSerializable(typeof(RequestAddressResponse))]
[JsonSerializable(typeof(ReleaseAddressRequest))]
[JsonSerializable(typeof(CreateNetworkRequest))]
[JsonSerializable(typeof(AllocateNetworkRequest))]
[JsonSerializable(typeof(AllocateNetworkResponse))]
[JsonSerializable(typeof(NetworkRequest))]
[JsonSerializable(typeof(CreateEndpointRequest))]
[JsonSerializable(typeof(CreateEndpointResponse))]
[JsonSerializable(typeof(EndpointRequest))]
[JsonSerializable(typeof(OperInfoResponse))]
[JsonSerializable(typeof(JoinEndpointRequest))]
[JsonSerializable(typeof(JoinEndpointResponse))]
[JsonSerializable(typeof(EmptyResponse))]
[JsonSerializable(typeof(ErrorResponse))]
[JsonSerializable(typeof(Dictionary<string, string>))]
internal sealed partial class PluginJson : JsonSerializerContext;
