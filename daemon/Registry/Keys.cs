using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// The keys of the registry. Objects lie under their kind; what must be unique across objects has an index key
/// (<c>idx/...</c>) that is put together with the object, guarded to be absent.
/// </summary>
internal static class Keys
{
    public const string Cluster = "meta/cluster";
    public const string CertificateAuthority = "secret/ca";
    public const string Tokens = "secret/tokens";

    /// <summary>Put by every network that is created: two creations cannot both have missed the other's subnets.</summary>
    public const string Subnets = "idx/subnets";

    /// <summary>The last VNI given out.</summary>
    public const string LastVni = "alloc-vni";

    public const string AddressPrefix = "idx/addr/";
    public const string AllocationPrefix = "alloc/";

    public static string Node(string id) => $"{Kinds.Node}/{id}";

    public static string Network(string id) => $"{Kinds.Network}/{id}";

    public static string Service(string id) => $"{Kinds.Service}/{id}";

    public static string Endpoint(string id) => $"{Kinds.Endpoint}/{id}";

    public static string NetworkName(string name) => $"idx/network-name/{name}";

    public static string NodeName(string name) => $"idx/node-name/{name}";

    public static string NodeAddress(IPAddress address) => $"idx/node-address/{Hex(address)}";

    public static string Vni(int vni) => $"idx/vni/{vni}";

    /// <summary>Names and aliases of services share one space.</summary>
    public static string ServiceName(string networkId, string name) => $"idx/service-name/{networkId}/{name}";

    public static string EndpointName(string networkId, string name) => $"idx/endpoint-name/{networkId}/{name}";

    public static string Mac(string networkId, string mac) => $"idx/mac/{networkId}/{mac}";

    public static string Published(PortProtocol protocol, int port) =>
        $"idx/published/{(protocol == PortProtocol.Tcp ? "tcp" : "udp")}/{port}";

    /// <summary>Who has an address (<c>endpoint/ID</c>, <c>service/ID</c>), or when it was freed (<c>freed/UNIX-MS</c>).</summary>
    public static string Address(string networkId, IPAddress address) => $"{AddressPrefix}{networkId}/{Hex(address)}";

    /// <summary>
    /// The addresses a network gave out last. Put whenever something comes into the network, so that a removal guarded by it
    /// cannot miss a newcomer.
    /// </summary>
    public static string Allocation(string networkId) => $"{AllocationPrefix}{networkId}";

    /// <summary>Put by every endpoint that joins a service, for the guard of the service's removal.</summary>
    public static string ServiceMembers(string serviceId) => $"idx/service-members/{serviceId}";

    /// <summary>Put by every endpoint created on a node, for the guards of the node's removal and of its own endpoints'.</summary>
    public static string NodeMembers(string nodeId) => $"idx/node-members/{nodeId}";

    private static string Hex(IPAddress address) => Convert.ToHexStringLower(address.GetAddressBytes());
}
