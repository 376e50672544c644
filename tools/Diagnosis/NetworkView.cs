using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Diagnosis.Firewall;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>A network of this node: what is desired of it and what its namespace has.</summary>
internal sealed record NetworkView
{
    public required Network Network { get; init; }

    /// <summary>Name of its namespace.</summary>
    public required string Netns { get; init; }

    /// <summary>Null: there is no such namespace.</summary>
    public NamespaceReading? Reading { get; init; }

    /// <summary>Null where they cannot be read.</summary>
    public Ruleset? Rules { get; init; }

    /// <summary>This node's own endpoint there; null: it has none yet.</summary>
    public Endpoint? Own { get; init; }

    /// <summary>Containers on this node, with what their namespaces have; null: gone.</summary>
    public IReadOnlyList<(Endpoint Endpoint, NamespaceReading? Reading)> Local { get; init; } = [];

    /// <summary>Endpoints on other nodes, nodes' own among them.</summary>
    public IReadOnlyList<Endpoint> Remote { get; init; } = [];

    public static NetworkView Of(NodeView node, Network network)
    {
        var netns = ObjectNames.Netns(node.NodeId, network);
        var path = NamedNamespaces.PathOf(netns);
        var endpoints = node.Snapshot.Endpoints.Where(endpoint => endpoint.NetworkId == network.Id).ToList();
        return new NetworkView
        {
            Network = network,
            Netns = netns,
            Reading = NamespaceReading.Of(path),
            Rules = ReadRules(path),
            Own = endpoints.FirstOrDefault(endpoint => endpoint.Kind == EndpointKind.Node && endpoint.NodeId == node.NodeId),
            Local =
            [
                .. endpoints.Where(endpoint => endpoint is { Kind: EndpointKind.Container, Netns.Length: > 0 } && endpoint.NodeId == node.NodeId)
                    .Select(endpoint => (endpoint, NamespaceReading.Of(endpoint.Netns))),
            ],
            Remote = [.. endpoints.Where(endpoint => endpoint.NodeId != node.NodeId && node.Snapshot.Nodes.Any(known => known.Id == endpoint.NodeId))],
        };
    }

    private static Ruleset? ReadRules(string path)
    {
        try
        {
            using var netns = NamespaceReading.Open(path);
            return Ruleset.Read(netns);
        }
        catch (KernelException)
        {
            return null;
        }
    }
}
