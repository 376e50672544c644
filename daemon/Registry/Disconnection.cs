using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// What follows from a service's <see cref="DisconnectPolicy"/>. Pure. Managers decide what is lost; what is to be stopped each node
/// decides for itself, since nobody can tell it.
/// </summary>
public static class Disconnection
{
    /// <summary>Below this a short gap between heartbeats, or an election, would already decide. In seconds.</summary>
    public const int Least = 10;

    /// <summary>The policy after a request; what it does not name stays. Null: none.</summary>
    /// <exception cref="RegistryException">400: a duration that is none, or a replacement that could run beside what it replaces.</exception>
    public static DisconnectPolicy? Policy(DisconnectPolicy? before, string? lostAfter, OnReturn? onReturn, string? stopOnClientAfter)
    {
        var policy = before ?? new DisconnectPolicy();
        policy = policy with
        {
            LostAfterSeconds = lostAfter is null ? policy.LostAfterSeconds : Names.Duration("lostAfter", lostAfter, Least),
            OnReturn = onReturn ?? policy.OnReturn,
            StopOnClientAfterSeconds = stopOnClientAfter is null ? policy.StopOnClientAfterSeconds : Names.Duration("stopOnClientAfter", stopOnClientAfter, Least),
        };
        if (policy is { LostAfterSeconds: > 0, StopOnClientAfterSeconds: > 0 } && policy.LostAfterSeconds <= policy.StopOnClientAfterSeconds)
            throw Refuse.Invalid("lost-before-stopped", "lostAfter", $"{Names.Text(policy.LostAfterSeconds)}s",
                $"the cut-off node stops the service only after {Names.Text(policy.StopOnClientAfterSeconds)} s, so a replacement could run beside it",
                "give a longer --lost-after, or a shorter --stop-on-client-after");
        return policy == new DisconnectPolicy() ? null : policy;
    }

    /// <summary>Whether an endpoint is lost: its node is silent, and by the registry nobody has reached it for as long as its service allows.</summary>
    /// <param name="now">By the clock of the manager that decides; states carry the moment by a manager's clock.</param>
    public static bool IsLost(Snapshot registry, Endpoint endpoint, DateTimeOffset now) =>
        endpoint is { Kind: EndpointKind.Container, State: EndpointState.Unreachable, StateSinceUnixMs: > 0, ServiceId: { } id }
        && registry.Services.GetValueOrDefault(id)?.Disconnect is { LostAfterSeconds: > 0 and var after }
        && registry.Nodes.GetValueOrDefault(endpoint.NodeId) is not { State: NodeState.Ready }
        && now.ToUnixTimeMilliseconds() - endpoint.StateSinceUnixMs >= after * 1000L;

    /// <summary>Lost endpoints of services that want a replacement, in the order of their ids.</summary>
    public static IReadOnlyList<Endpoint> ToReplace(Snapshot registry, DateTimeOffset now) =>
    [
        .. registry.Services.Values.Where(service => service.Disconnect is { LostAfterSeconds: > 0, OnReturn: OnReturn.Replace })
            .SelectMany(registry.EndpointsOf).Where(endpoint => IsLost(registry, endpoint, now)).OrderBy(endpoint => endpoint.Id, StringComparer.Ordinal),
    ];

    /// <summary>Services that a node stops, having been without the word of a manager with a majority for so long.</summary>
    public static IReadOnlyList<Service> ToStop(Snapshot registry, TimeSpan cutOff) =>
    [
        .. registry.Services.Values.Where(service => service.Disconnect is { StopOnClientAfterSeconds: > 0 and var after } && cutOff >= TimeSpan.FromSeconds(after))
            .OrderBy(service => service.Id, StringComparer.Ordinal),
    ];
}
