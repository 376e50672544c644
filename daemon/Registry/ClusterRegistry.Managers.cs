using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>Roles of nodes, and what nodes say after the registry has been replaced.</summary>
public sealed partial class ClusterRegistry
{
    /// <summary>Since a node's daemon was last heard of, by this manager or by another; null: never.</summary>
    public TimeSpan? SinceHeard(string nodeId) => _liveness.SinceHeard(nodeId);

    /// <summary>Names of the nodes that are waited for after a restore or a recovery.</summary>
    public IReadOnlyList<string> WaitingFor
    {
        get
        {
            lock (_gate)
                return [.. _state.Waiting.Select(id => _state.Snapshot.Nodes.GetValueOrDefault(id)?.Name ?? id).Order(StringComparer.Ordinal)];
        }
    }

    /// <summary>Makes a node a manager or a worker. Its daemon and the store's members follow.</summary>
    public async Task<Written<Node>> SetRoleAsync(string reference, NodeRole role, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Node(Current, reference).Id;
        var changes = false;
        var written = await WriteAsync(
            draft =>
            {
                if (!draft.Snapshot.Nodes.TryGetValue(id, out var before))
                    throw Refuse.NotFound(Kinds.Node, reference);
                changes = before.Role != role;
                if (!changes)
                    return before;
                if (role == NodeRole.Worker && draft.Snapshot.Nodes.Values.Count(n => n.Role == NodeRole.Manager) == 1)
                    throw Refuse.Conflict("last-manager", "node", before.Name, "it is the only manager", "promote another node first: overlaynet node promote NODE");
                // Two demotions at once must not both count the other as staying.
                draft.GuardUnchanged(Keys.Managers);
                draft.Mark(Keys.Managers, id);
                var after = before with { Role = role };
                draft.Put(after);
                return after;
            }, cancel).ConfigureAwait(false);
        if (changes)
            Record(Kinds.Node, role == NodeRole.Manager ? "promote" : "demote", written.Value.Name, by, written.Revision);
        return written;
    }

    /// <summary>
    /// Takes what a node says it has: endpoints that the registry lost get their records and addresses back, and the node is no longer
    /// waited for.
    /// </summary>
    public async Task<AssertResponse> AssertAsync(string nodeId, AssertRequest request, string by = "local", CancellationToken cancel = default)
    {
        var restored = new List<string>();
        var refused = new List<string>();
        foreach (var endpoint in request.Endpoints.OrderByDescending(e => e.Kind))
        {
            if (endpoint.NodeId != nodeId)
                throw Refuse.Invalid("invalid-field", "endpoints", endpoint.Id, $"it is on node {endpoint.NodeId}", "a node speaks for itself only");
            Names.Id("endpoints", endpoint.Id);
            string? why = null;
            var isNew = false;
            var written = await WriteAsync(
                draft =>
                {
                    (why, isNew) = (null, false);
                    // After a conversion nothing is lost: what is not there has been removed meanwhile, and must not come back.
                    if (draft.State.Waiting.Contains(nodeId) && !draft.Snapshot.Endpoints.ContainsKey(endpoint.Id))
                        (why, isNew) = PlanReturn(draft, endpoint);
                    return isNew;
                }, cancel).ConfigureAwait(false);
            if (why is not null)
                refused.Add($"{endpoint.Name}: {why}");
            if (!isNew)
                continue;
            restored.Add(endpoint.Id);
            Record(Kinds.Endpoint, "reassert", endpoint.Name, by, written.Revision, Addresses(endpoint));
        }
        await WriteAsync(
            draft =>
            {
                draft.StopWaitingFor(nodeId);
                return true;
            }, cancel).ConfigureAwait(false);
        return new AssertResponse { Restored = restored, Refused = refused };
    }

    private static (string? Why, bool IsNew) PlanReturn(Draft draft, Endpoint endpoint)
    {
        if (!draft.Snapshot.Nodes.ContainsKey(endpoint.NodeId))
            throw Refuse.NodeUnknown(endpoint.NodeId);
        if (!draft.Snapshot.Networks.TryGetValue(endpoint.NetworkId, out var network))
            return ("its network is not in the registry any more", false);
        if (endpoint.Kind == EndpointKind.Container && draft.State.Key(Keys.EndpointName(network.Id, endpoint.Name)).Mod != 0)
            return ("another endpoint has its name by now", false);
        var service = endpoint.ServiceId is { } id && draft.Snapshot.Services.ContainsKey(id) ? id : null;
        if (draft.Reclaim(network, Keys.Endpoint(endpoint.Id), endpoint.Address4, endpoint.Address6) is { } why)
            return (why, false);
        draft.GuardAlive(Keys.Network(network.Id));
        draft.GuardAlive(Keys.Node(endpoint.NodeId));
        draft.Mark(Keys.NodeMembers(endpoint.NodeId), endpoint.Id);
        if (service is not null)
        {
            draft.GuardAlive(Keys.Service(service));
            draft.Mark(Keys.ServiceMembers(service), endpoint.Id);
        }
        draft.Put(endpoint with { ServiceId = service });
        if (endpoint.Kind == EndpointKind.Container)
            draft.Claim(Keys.EndpointName(network.Id, endpoint.Name), endpoint.Id);
        ClaimMac(draft, network, endpoint);
        return (null, true);
    }
}
