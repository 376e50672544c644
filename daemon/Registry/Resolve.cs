using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>Look-ups that refuse what is unknown or ambiguous.</summary>
public static class Resolve
{
    /// <exception cref="RegistryException">Unknown (404) or ambiguous (409).</exception>
    public static Node Node(Snapshot snapshot, string reference) => snapshot.FindNode(reference) switch
    {
        { Value: { } node } => node,
        { Ambiguous: true } several => throw Refuse.Ambiguous(
            Kinds.Node, reference, several.Candidates.Select(n => n.Id), "give more of the id"),
        _ => throw Refuse.NotFound(Kinds.Node, reference),
    };

    /// <exception cref="RegistryException">Unknown (404) or ambiguous (409).</exception>
    public static Network Network(Snapshot snapshot, string reference) => snapshot.FindNetwork(reference) switch
    {
        { Value: { } network } => network,
        { Ambiguous: true } several => throw Refuse.Ambiguous(
            Kinds.Network, reference, several.Candidates.Select(n => n.Id), "give more of the id"),
        _ => throw Refuse.NotFound(Kinds.Network, reference),
    };

    /// <exception cref="RegistryException">Unknown (404) or ambiguous (409).</exception>
    public static FloatingVip Vip(Snapshot snapshot, string reference) => snapshot.FindVip(reference) switch
    {
        { Value: { } vip } => vip,
        { Ambiguous: true } several => throw Refuse.Ambiguous(
            Kinds.Vip, reference, several.Candidates.Select(v => v.Id), "give more of the id"),
        _ => throw Refuse.NotFound(Kinds.Vip, reference),
    };

    /// <param name="network">Name or id of the network; null: all.</param>
    /// <exception cref="RegistryException">Unknown (404) or ambiguous (409).</exception>
    public static Service Service(Snapshot snapshot, string reference, string? network = null) =>
        snapshot.FindService(reference, network is null ? null : Network(snapshot, network).Id) switch
        {
            { Value: { } service } => service,
            { Ambiguous: true } several => throw Refuse.Ambiguous(
                Kinds.Service, reference, several.Candidates.Select(s => $"{s.Id} on {NetworkName(snapshot, s.NetworkId)}"),
                "say which network with --network, or give the id"),
            _ => throw Refuse.NotFound(Kinds.Service, reference),
        };

    /// <param name="network">Name or id of the network; null: all.</param>
    /// <exception cref="RegistryException">Unknown (404) or ambiguous (409).</exception>
    public static Endpoint Endpoint(Snapshot snapshot, string reference, string? network = null) =>
        snapshot.FindEndpoint(reference, network is null ? null : Network(snapshot, network).Id) switch
        {
            { Value: { } endpoint } => endpoint,
            { Ambiguous: true } several => throw Refuse.Ambiguous(
                Kinds.Endpoint, reference, several.Candidates.Select(e => $"{e.Id} on {NetworkName(snapshot, e.NetworkId)}"),
                "say which network with --network, or give the id"),
            _ => throw Refuse.NotFound(Kinds.Endpoint, reference),
        };

    private static string NetworkName(Snapshot snapshot, string id) => snapshot.Networks.GetValueOrDefault(id)?.Name ?? id;
}
