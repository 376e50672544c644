namespace OverlayNet.Contracts;

/// <summary>
/// Names of kernel objects, derived from ids so that a successor finds what its predecessor made, and so that tools find them
/// where no daemon can be asked.
/// </summary>
public static class ObjectNames
{
    /// <summary>Links inside a network's namespace, as <c>overlay/</c> makes them.</summary>
    public const string Bridge = "br0", Tunnel = "vx0", NodeLink = "node0", NodePort = "node0p";

    private const int ShortIdLength = 6;

    // 15 octets fit a link name (IFNAMSIZ - 1).
    private const int VethIdLength = 12;

    /// <summary>The part of a node's id that its kernel objects carry, so that several daemons on one machine never collide.</summary>
    public static string ShortId(string nodeId) => nodeId[..Math.Min(ShortIdLength, nodeId.Length)];

    /// <summary>What the names of all of a node's namespaces begin with.</summary>
    public static string NetnsPrefix(string nodeId) => $"on-{ShortId(nodeId)}-";

    /// <summary>The network's own namespace on a node: <c>on-NODE-NETWORK</c>.</summary>
    public static string Netns(string nodeId, Network network) => NetnsPrefix(nodeId) + network.Name;

    /// <summary>The bridge port of an endpoint, inside the network's namespace.</summary>
    public static string HostVeth(Endpoint endpoint) => $"ve{endpoint.Id[..Math.Min(VethIdLength, endpoint.Id.Length)]}";

    /// <summary>The container's end of that pair, in the host's namespace until a runtime takes it.</summary>
    public static string HandOver(Endpoint endpoint) => $"od{endpoint.Id[..Math.Min(VethIdLength, endpoint.Id.Length)]}";
}
