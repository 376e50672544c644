using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>Endpoints that are left over: their node's daemon is silent, and no other node has reached them for long.</summary>
internal static class ResidualEndpoints
{
    /// <param name="service">Only this service's; null: all.</param>
    /// <param name="after">How long they have been unreachable at least. From when is not known of endpoints recorded by older managers: those count.</param>
    public static IReadOnlyList<Endpoint> Of(Snapshot registry, Service? service, TimeSpan after, DateTimeOffset now) =>
    [
        .. (service is null ? registry.Endpoints.Values : registry.EndpointsOf(service))
            .Where(e => e.Kind == EndpointKind.Container && e.State == EndpointState.Unreachable
                && registry.Nodes.GetValueOrDefault(e.NodeId) is not { State: NodeState.Ready }
                && now.ToUnixTimeMilliseconds() - e.StateSinceUnixMs >= after.TotalMilliseconds)
            .OrderBy(e => e.Name, StringComparer.Ordinal).ThenBy(e => e.Id, StringComparer.Ordinal),
    ];
}
