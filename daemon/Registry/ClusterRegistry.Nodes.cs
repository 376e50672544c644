using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    /// <summary>Makes a node a member. The same id again updates what the node says of itself.</summary>
    public async Task<Written<Node>> RegisterNodeAsync(Node node, string by = "local", CancellationToken cancel = default)
    {
        Names.Id("id", node.Id);
        Names.Label("name", node.Name);
        Names.Label("dc", node.Dc);
        if (node.Address.Equals(IPAddress.Any) || node.Address.Equals(IPAddress.IPv6Any) || IsMulticast(node.Address))
            throw Refuse.Invalid("invalid-address", "address", node.Address.ToString(), "no other node can reach it",
                "give this machine's address on the network between the nodes");
        var written = await WriteAsync(draft => PlanNode(draft, node), cancel).ConfigureAwait(false);
        Record(Kinds.Node, "create", node.Name, by, written.Revision, $"{written.Value.Role} at {node.Address}".ToLowerInvariant());
        return written;
    }

    public async Task<Written<Node>> UpdateNodeAsync(
        string reference, NodeUpdateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Node(Current, reference).Id;
        var written = await WriteAsync(
            draft => Change(draft, id, reference, node => node with
            {
                Availability = request.Availability ?? node.Availability,
                Labels = request.Labels is null ? node.Labels : Names.UserLabels(request.Labels),
            }), cancel).ConfigureAwait(false);
        Record(Kinds.Node, "update", written.Value.Name, by, written.Revision, $"{written.Value.Availability}".ToLowerInvariant());
        return written;
    }

    /// <summary>Removes a node and every endpoint on it. Its daemon is told at its next heartbeat.</summary>
    /// <param name="force">Also a node whose daemon is heard of, or one with endpoints.</param>
    public async Task<Written<Node>> RemoveNodeAsync(
        string reference, bool force = false, string by = "local", CancellationToken cancel = default)
    {
        var node = Resolve.Node(Current, reference);
        while (true)
        {
            var written = await WriteAsync(draft => PlanNodeRemoval(draft, node.Id, reference, force), cancel).ConfigureAwait(false);
            if (!written.Value.Done)
                continue;
            _liveness.Forget(node.Id);
            Record(Kinds.Node, "remove", node.Name, by, written.Revision);
            return new Written<Node>(written.Value.Node, written.Revision);
        }
    }

    /// <summary>Takes a heartbeat; the registry is written to only when it changes something that others have to know.</summary>
    /// <exception cref="RegistryException">410 <c>node-unknown</c>: not (or no longer) a member.</exception>
    public async Task<HeartbeatResponse> HeartbeatAsync(HeartbeatRequest heartbeat, CancellationToken cancel = default)
    {
        if (!Current.Nodes.TryGetValue(heartbeat.NodeId, out var node))
            throw Refuse.NodeUnknown(heartbeat.NodeId);
        _liveness.Heard(heartbeat);
        var heard = WithNews(node, heartbeat);
        if (ReferenceEquals(heard, node))
            return new HeartbeatResponse { Revision = Current.Revision, State = node.State, UnixMs = _options.Time.GetUtcNow().ToUnixTimeMilliseconds() };
        var written = await WriteAsync(
            draft =>
            {
                if (!draft.Snapshot.Nodes.TryGetValue(heartbeat.NodeId, out var current))
                    throw Refuse.NodeUnknown(heartbeat.NodeId);
                var after = WithNews(current, heartbeat);
                if (!ReferenceEquals(after, current))
                    draft.Put(after);
                return after;
            }, cancel).ConfigureAwait(false);
        if (node.State != NodeState.Ready)
        {
            Log.NodeReady(_options.Logger, node.Name);
            Record(Kinds.Node, "ready", node.Name, node.Name, written.Revision);
        }
        WarnOfRoutes(written.Value, node);
        return new HeartbeatResponse { Revision = written.Revision, State = written.Value.State, UnixMs = _options.Time.GetUtcNow().ToUnixTimeMilliseconds() };
    }

    /// <summary>Every node with its lag, by name.</summary>
    public IReadOnlyList<NodeLag> NodeLags()
    {
        var current = Current;
        return [.. current.Nodes.Values.OrderBy(n => n.Name, StringComparer.Ordinal).Select(node =>
        {
            var applied = _liveness.Last(node.Id)?.AppliedRevision ?? 0;
            return new NodeLag
            {
                Name = node.Name,
                State = node.State,
                Role = node.Role,
                Address = node.Address,
                AppliedRevision = applied,
                Lag = Math.Max(0, current.Revision - applied),
                SecondsSinceHeartbeat = _liveness.SinceHeard(node.Id)?.TotalSeconds,
                ClockSkewMs = _liveness.Last(node.Id)?.SkewMs,
            };
        })];
    }

    private static Node PlanNode(Draft draft, Node node)
    {
        if (draft.Snapshot.Nodes.TryGetValue(node.Id, out var before))
        {
            var after = node with { Availability = before.Availability, Labels = before.Labels };
            if (after.Name != before.Name)
                Rename(draft, before, after);
            if (!after.Address.Equals(before.Address))
                Move(draft, before, after);
            draft.Put(after);
            return after;
        }
        CheckNodeName(draft.Snapshot, node);
        CheckNodeAddress(draft.Snapshot, node);
        draft.Put(node);
        draft.Claim(Keys.NodeName(node.Name), node.Id);
        draft.Claim(Keys.NodeAddress(node.Address), node.Id);
        return node;
    }

    private static void Rename(Draft draft, Node before, Node after)
    {
        CheckNodeName(draft.Snapshot, after);
        draft.Release(Keys.NodeName(before.Name));
        draft.Claim(Keys.NodeName(after.Name), after.Id);
    }

    private static void Move(Draft draft, Node before, Node after)
    {
        CheckNodeAddress(draft.Snapshot, after);
        draft.Release(Keys.NodeAddress(before.Address));
        draft.Claim(Keys.NodeAddress(after.Address), after.Id);
    }

    private static void CheckNodeName(Snapshot snapshot, Node node)
    {
        if (snapshot.Nodes.Values.FirstOrDefault(n => n.Name == node.Name && n.Id != node.Id) is { } other)
            throw Refuse.Conflict("name-taken", "name", node.Name, $"node {other.Id} at {other.Address} has this name already",
                $"choose another name with --name, or remove the old one with 'overlaynet node rm --force {other.Name}'");
    }

    private static void CheckNodeAddress(Snapshot snapshot, Node node)
    {
        if (snapshot.Nodes.Values.FirstOrDefault(n => n.Address.Equals(node.Address) && n.Id != node.Id) is { } other)
            throw Refuse.Conflict("address-taken", "address", node.Address.ToString(), $"node '{other.Name}' has this address already",
                $"give this node's own address, or remove the old one with 'overlaynet node rm --force {other.Name}'");
    }

    private static (Node Node, bool Done) PlanNodeRemoval(Draft draft, string id, string reference, bool force)
    {
        if (!draft.Snapshot.Nodes.TryGetValue(id, out var node))
            throw Refuse.NotFound(Kinds.Node, reference);
        if (node.Role == NodeRole.Manager && draft.Snapshot.Nodes.Values.Count(n => n.Role == NodeRole.Manager) == 1)
            throw Refuse.Conflict("last-manager", "node", node.Name, "it is the only manager", "make another node a manager first");
        if (node.Role == NodeRole.Manager)
        {
            draft.GuardUnchanged(Keys.Managers);
            draft.Mark(Keys.Managers, id);
        }
        var endpoints = draft.Snapshot.EndpointsOf(node).OrderBy(e => e.Kind).ToList();
        if (!force && node.State == NodeState.Ready)
            throw Refuse.Conflict("node-ready", "node", node.Name, "its daemon is running",
                "run 'overlaynet leave' on it first, or use --force");
        if (!force && endpoints.Count > 0)
            throw Refuse.Conflict("node-in-use", "node", node.Name,
                $"it has endpoints: {Some([.. endpoints.Select(e => $"'{e.Name}'")])}",
                "detach them first, or use --force to remove them with it");
        // Containers' endpoints come first, nodes' own last, in as many commits as it takes.
        foreach (var endpoint in endpoints.Take(MaxChunk))
            RemoveEndpoint(draft, draft.Snapshot.Networks[endpoint.NetworkId], endpoint);
        if (endpoints.Count > 0)
            return (node, false);
        draft.Delete(Keys.Node(id));
        draft.StopWaitingFor(id);
        draft.GuardUnchanged(Keys.NodeMembers(id));
        draft.Release(Keys.NodeMembers(id));
        draft.Release(Keys.NodeName(node.Name));
        draft.Release(Keys.NodeAddress(node.Address));
        return (node, true);
    }

    private static Node Change(Draft draft, string id, string reference, Func<Node, Node> change)
    {
        if (!draft.Snapshot.Nodes.TryGetValue(id, out var before))
            throw Refuse.NotFound(Kinds.Node, reference);
        var after = change(before);
        draft.Put(after);
        return after;
    }

    /// <returns>The same object when the heartbeat says nothing new.</returns>
    private static Node WithNews(Node node, HeartbeatRequest heartbeat)
    {
        var isNews = node.State != NodeState.Ready
            || (heartbeat.HostRoutes is not null && !heartbeat.HostRoutes.SequenceEqual(node.HostRoutes))
            || (heartbeat.Features is not null && !heartbeat.Features.SequenceEqual(node.Features))
            || (heartbeat.UnderlayMtu != 0 && heartbeat.UnderlayMtu != node.UnderlayMtu)
            || (heartbeat.Version.Length > 0 && heartbeat.Version != node.Version)
            || (heartbeat.ProtocolVersion != 0 && heartbeat.ProtocolVersion != node.ProtocolVersion);
        return !isNews ? node : node with
        {
            State = NodeState.Ready,
            HostRoutes = heartbeat.HostRoutes ?? node.HostRoutes,
            Features = heartbeat.Features ?? node.Features,
            UnderlayMtu = heartbeat.UnderlayMtu == 0 ? node.UnderlayMtu : heartbeat.UnderlayMtu,
            Version = heartbeat.Version.Length == 0 ? node.Version : heartbeat.Version,
            ProtocolVersion = heartbeat.ProtocolVersion == 0 ? node.ProtocolVersion : heartbeat.ProtocolVersion,
        };
    }

    /// <summary>A route that came after the network cannot be refused any more, only told of.</summary>
    private void WarnOfRoutes(Node now, Node before)
    {
        foreach (var route in now.HostRoutes.Except(before.HostRoutes).Where(r => r.PrefixLength != 0))
        {
            foreach (var network in Current.Networks.Values)
            {
                foreach (var subnet in Subnets(network).Where(s => Prefixes.Overlap(s, route)))
                    Log.RouteOverlap(_options.Logger, network.Name, subnet.ToString(), route.ToString(), now.Name);
            }
        }
    }

    private async Task WatchNodesAsync()
    {
        using var timer = new PeriodicTimer(_liveness.LookEvery, _options.Time);
        while (await TickAsync(timer).ConfigureAwait(false))
        {
            if (IsStale)
            {
                _liveness.ListenAnew();
                continue;
            }
            foreach (var (node, silence) in _liveness.Silent(Current.Nodes.Values.Where(n => n.State == NodeState.Ready)))
                await MarkUnmanagedAsync(node, silence).ConfigureAwait(false);
        }
    }

    private async Task MarkUnmanagedAsync(Node node, TimeSpan silence)
    {
        try
        {
            var written = await WriteAsync(
                draft =>
                {
                    // Heard of in the meantime: leave it be.
                    var current = draft.Snapshot.Nodes.GetValueOrDefault(node.Id);
                    if (current is null || current.State != NodeState.Ready || _liveness.Silent([current]).Count == 0)
                        return false;
                    draft.Put(current with { State = NodeState.Unmanaged });
                    return true;
                }, _stop.Token).ConfigureAwait(false);
            if (!written.Value)
                return;
            Log.NodeSilent(_options.Logger, node.Name, NodeState.Unmanaged, silence.TotalSeconds);
            Record(Kinds.Node, "unmanaged", node.Name, "registry", written.Revision,
                $"no heartbeat for {silence.TotalSeconds:F0} s; its endpoints stay");
        }
        catch (Exception e) when (e is RegistryException or OperationCanceledException)
        {
            Log.NodeStateNotWritten(_options.Logger, e.Message);
        }
    }

    private static bool IsMulticast(IPAddress address) =>
        address.IsIPv6Multicast || (Prefixes.Bits(address) == 32 && address.GetAddressBytes()[0] is >= 224 and < 240);
}
