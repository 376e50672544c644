using System.Collections.Immutable;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Health;

/// <summary>
/// A node's protection against a registry that has forgotten. Within one incarnation an endpoint only goes because somebody
/// removed it, which is obeyed. A registry of another incarnation (restored, recovered) may know less than was true: when it
/// lacks more of a service, or of one of its subsets, than is credible, this node goes on with what it had and looks for itself. Pure.
/// </summary>
public static class SnapshotProtection
{
    private static readonly string[] SubsetLabels = ["zone", "tag"];

    /// <summary>What of <paramref name="before"/> stays in use although <paramref name="next"/> does not have it.</summary>
    public static ImmutableDictionary<string, Endpoint> Held(Snapshot before, Snapshot next)
    {
        var held = ImmutableDictionary.CreateBuilder<string, Endpoint>();
        if (before.Incarnation == next.Incarnation || before.ClusterId != next.ClusterId)
            return held.ToImmutable();
        foreach (var group in before.Endpoints.Values.Where(e => e.Kind == EndpointKind.Container).GroupBy(e => e.ServiceId ?? e.NetworkId))
        {
            var members = group.ToList();
            if (members[0].ServiceId is { } service && !next.Services.ContainsKey(service))
                continue;
            var missing = members.Where(e => !next.Endpoints.ContainsKey(e.Id)).Select(e => e.Id).ToHashSet();
            var percent = members[0].ServiceId is { } id ? next.Services[id].Health?.ShrinkPercent ?? 50 : 50;
            var questioned = ShrinkGuard.Questioned(
                [.. members.Select(e => new GuardedMember(
                    e.Id, e.State is EndpointState.Healthy or EndpointState.Recovering,
                    [.. SubsetLabels.Where(e.Labels.ContainsKey).Select(label => $"{label}={e.Labels[label]}")]))],
                missing, percent);
            foreach (var endpoint in members.Where(e => questioned.ContainsKey(e.Id)))
                held[endpoint.Id] = endpoint;
        }
        // A node's own address in a network goes with its last container there.
        foreach (var endpoint in held.Values.ToList())
        {
            if (before.NodeEndpoint(endpoint.NodeId, endpoint.NetworkId) is { } own && !next.Endpoints.ContainsKey(own.Id))
                held[own.Id] = own;
        }
        return StillHeld(held.ToImmutable(), next, []);
    }

    /// <summary>
    /// What is still to be held after a change: not what the registry has again, nor what somebody removed, nor what has lost its
    /// node, network or service, nor what would share its address with a newcomer.
    /// </summary>
    public static ImmutableDictionary<string, Endpoint> StillHeld(ImmutableDictionary<string, Endpoint> held, Snapshot next, IReadOnlyList<RegistryChange> changes)
    {
        if (held.IsEmpty)
            return held;
        var removed = changes.Where(change => change is { DeletedKind: Kinds.Endpoint }).Select(change => change.DeletedId).ToHashSet();
        return held.RemoveRange(held.Values.Where(e => removed.Contains(e.Id)
            // Until its owner has said more than that it exists.
            || next.Endpoints.GetValueOrDefault(e.Id) is { State: not EndpointState.Starting }
            || !next.Nodes.ContainsKey(e.NodeId)
            || !next.Networks.TryGetValue(e.NetworkId, out var network)
            || (e.ServiceId is { } service && !next.Services.ContainsKey(service))
            || next.EndpointsOf(network).Any(other => other.Id != e.Id && (Same(other.Address4, e.Address4) || Same(other.Address6, e.Address6)))).Select(e => e.Id).ToList());
    }

    private static bool Same(System.Net.IPAddress? one, System.Net.IPAddress? other) => one is not null && one.Equals(other);
}
