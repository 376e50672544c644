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

    /// <summary>Nodes that have to say what they have before an address is given out.</summary>
    public const string Recovery = "meta/recovery";

    /// <summary>Put by every traced change beside what it changes: the traceparent of the span that wrote it.</summary>
    public const string Trace = "trace";
    public const string CertificateAuthority = "secret/ca";
    public const string Tokens = "secret/tokens";

    /// <summary>Put by every network that is created: two creations cannot both have missed the other's subnets.</summary>
    public const string Subnets = "idx/subnets";

    /// <summary>Put by every change of a role: two demotions cannot both miss the other.</summary>
    public const string Managers = "idx/managers";

    /// <summary>The last VNI given out.</summary>
    public const string LastVni = "alloc-vni";

    /// <summary>
    /// When an object was deleted, in UNIX milliseconds; guarded by creations. A creation whose answer was lost may be carried out late,
    /// after it has been repeated and the object deleted again: then it finds this, and does nothing.
    /// </summary>
    public const string GonePrefix = "gone/";

    public const string AddressPrefix = "idx/addr/";
    public const string AllocationPrefix = "alloc/";

    /// <param name="key">The object's key.</param>
    public static string Gone(string key) => $"{GonePrefix}{key}";

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

    /// <summary>
    /// Leases and bids of floating VIPs: they change with every renewal, so they are no part of snapshots and make no revision
    /// that agents have to hear of.
    /// </summary>
    public const string LeasePrefix = "lease/";

    public const string VipAddressPrefix = "idx/vip-address/";

    public static string Vip(string id) => $"{Kinds.Vip}/{id}";

    public static string VipHolder(string set) => $"{Kinds.VipHolder}/{set}";

    public static string VipName(string name) => $"idx/vip-name/{name}";

    /// <summary>One virtual router's number on one interface name, which stands for the segment.</summary>
    public static string VipVrid(string networkInterface, int vrid) => $"idx/vip-vrid/{networkInterface}/{vrid}";

    /// <summary>Who has a floating address (the VIP's id), or until when it rests (<c>freed/UNIX-MS</c>).</summary>
    public static string VipAddress(IPAddress address) => $"{VipAddressPrefix}{Hex(address)}";

    /// <summary>Put by every VIP that joins or leaves a sync group, which checks what its members must have in common.</summary>
    public static string VipGroup(string name) => $"idx/vip-group/{name}";

    public static string Lease(string set) => $"{LeasePrefix}{set}/record";

    public static string Bid(string set, string nodeId) => $"{BidPrefix(set)}{nodeId}";

    public static string BidPrefix(string set) => $"{LeasePrefix}{set}/bid/";

    private static string Hex(IPAddress address) => Convert.ToHexStringLower(address.GetAddressBytes());
}
