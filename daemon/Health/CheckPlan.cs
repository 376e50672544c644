using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Health;

/// <summary>One check of one endpoint, with all that a prober needs.</summary>
/// <param name="Netns">Name of the network's own namespace on this node, where traffic to the endpoint begins.</param>
/// <param name="Source">The node's own address there: what probes come from.</param>
/// <param name="TaskNetns">The endpoint's namespace when it is on this node, otherwise empty.</param>
/// <param name="Name">The service's name: HTTP's Host, when the check names none.</param>
/// <param name="Own">The endpoint is on this node; otherwise a manager asks for a second opinion.</param>
/// <param name="InUse">It takes traffic at present.</param>
/// <param name="Eager">Nothing is known of it yet, or somebody waits for the answer: checked soon, and each second at least.</param>
/// <param name="Reach">A refusal counts as alive.</param>
public sealed record PlannedCheck(
    string EndpointId, HealthCheck Check, IPAddress Address, int Port, string Netns, IPAddress? Source, string TaskNetns, string Name, bool Own, bool InUse, bool Eager, bool Reach);

/// <summary>From a snapshot and what managers ask for to the checks of one node: one for each endpoint, however many names lead to it. Pure.</summary>
public static class CheckPlan
{
    public static IReadOnlyDictionary<string, PlannedCheck> Of(Snapshot snapshot, string nodeId, IReadOnlyList<ProbeTask> tasks)
    {
        var checks = new Dictionary<string, PlannedCheck>();
        if (snapshot.Nodes.GetValueOrDefault(nodeId) is not { } node)
            return checks;
        foreach (var endpoint in snapshot.EndpointsOf(node))
        {
            if (endpoint.Kind != EndpointKind.Container)
                continue;
            var check = HealthTargets.CheckOf(snapshot, endpoint);
            // Without a check of its own it is only looked at on its way back from a failure of its node.
            if (check is null && endpoint.State is EndpointState.Unreachable or EndpointState.Unhealthy or EndpointState.Recovering)
                Add(checks, snapshot, nodeId, endpoint, HealthTargets.Reach(ServiceOf(snapshot, endpoint)), reach: true);
            else if (check is not null)
                Add(checks, snapshot, nodeId, endpoint, check, reach: false);
        }
        foreach (var task in tasks)
        {
            if (!snapshot.Endpoints.TryGetValue(task.EndpointId, out var endpoint) || endpoint.NodeId == nodeId)
                continue;
            var check = HealthTargets.CheckOf(snapshot, endpoint);
            var reach = task.Reach || check is null || !HealthTargets.NeedsPort(check.Kind);
            Add(checks, snapshot, nodeId, endpoint, reach ? HealthTargets.Reach(ServiceOf(snapshot, endpoint)) : check!, reach);
        }
        return checks;
    }

    private static void Add(Dictionary<string, PlannedCheck> checks, Snapshot snapshot, string nodeId, Endpoint endpoint, HealthCheck check, bool reach)
    {
        if (snapshot.NodeEndpoint(nodeId, endpoint.NetworkId) is not { } own
            || snapshot.Networks.GetValueOrDefault(endpoint.NetworkId) is not { } network
            || HealthTargets.AddressOf(endpoint) is not { } address)
            return;
        var service = ServiceOf(snapshot, endpoint);
        var isOwn = endpoint.NodeId == nodeId;
        checks[endpoint.Id] = new PlannedCheck(
            endpoint.Id, check, address, HealthTargets.PortOf(service, check), ObjectNames.Netns(nodeId, network),
            address.Equals(endpoint.Address4) ? own.Address4 : own.Address6, isOwn ? endpoint.Netns : "", service?.Name ?? endpoint.Name,
            isOwn, endpoint.State is EndpointState.Healthy or EndpointState.Recovering, !isOwn || endpoint.State is EndpointState.Starting or EndpointState.Unreachable, reach);
    }

    private static Service? ServiceOf(Snapshot snapshot, Endpoint endpoint) =>
        endpoint.ServiceId is { } id ? snapshot.Services.GetValueOrDefault(id) : null;
}
