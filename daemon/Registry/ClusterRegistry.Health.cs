using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>A change of an endpoint's state that health decided.</summary>
/// <param name="From">What it was decided on; when the endpoint is in another state by now, nothing is changed.</param>
/// <param name="SinceUnixMs">What <see cref="Endpoint.StateSinceUnixMs"/> becomes.</param>
/// <param name="Ejected">It goes because clients fare badly with it.</param>
public sealed record HealthChange(string EndpointId, EndpointState From, EndpointState To, int RampEighths, long SinceUnixMs, string Reason, bool Ejected = false);

public sealed partial class ClusterRegistry
{
    private const int MaxHealthChunk = 100;

    /// <summary>Since a node's last heartbeat; null: never heard since this manager listens.</summary>
    public TimeSpan? SinceHeartbeat(string nodeId) => _liveness.SinceHeard(nodeId);

    /// <summary>The revision at which an endpoint last changed; 0: there is none.</summary>
    public long RevisionOfEndpoint(string endpointId)
    {
        lock (_gate)
            return _state.Key(Keys.Endpoint(endpointId)).Mod;
    }

    /// <summary>Writes decisions of health, those that come together in one revision. Operators and removals come first: what changed meanwhile stays as it is.</summary>
    /// <returns>Those that were written.</returns>
    public async Task<IReadOnlyList<HealthChange>> ApplyHealthAsync(IReadOnlyList<HealthChange> changes, CancellationToken cancel = default)
    {
        var done = new List<HealthChange>();
        foreach (var chunk in changes.Chunk(MaxHealthChunk))
        {
            var written = await WriteAsync(
                draft =>
                {
                    var applied = new List<HealthChange>();
                    foreach (var change in chunk)
                    {
                        if (!draft.Snapshot.Endpoints.TryGetValue(change.EndpointId, out var endpoint) || endpoint.State != change.From
                            // Another manager has seen the same, or already more of a ramp.
                            || (endpoint.State == change.To && endpoint.RampEighths >= change.RampEighths))
                            continue;
                        draft.Put(endpoint with { State = change.To, RampEighths = change.RampEighths, StateSinceUnixMs = change.SinceUnixMs });
                        applied.Add(change);
                    }
                    return applied;
                }, cancel).ConfigureAwait(false);
            foreach (var change in written.Value.Where(change => change.From != change.To))
            {
                Record(Kinds.Endpoint, "health", Current.Endpoints.GetValueOrDefault(change.EndpointId)?.Name ?? change.EndpointId, "health checks", written.Revision,
                    $"{change.From} to {change.To}".ToLowerInvariant() + (change.Reason.Length > 0 ? $": {change.Reason}" : ""));
            }
            done.AddRange(written.Value);
        }
        return done;
    }

    /// <summary>Says that a node whose heartbeat is missing has been confirmed dead by others.</summary>
    /// <returns>False: it was heard of meanwhile, or is marked already.</returns>
    public async Task<bool> MarkDownAsync(string nodeId, TimeSpan silence, string why, CancellationToken cancel = default)
    {
        var written = await WriteAsync(
            draft =>
            {
                if (!draft.Snapshot.Nodes.TryGetValue(nodeId, out var node) || node.State == NodeState.Down || _liveness.SinceHeard(nodeId) < silence)
                    return null;
                draft.Put(node with { State = NodeState.Down });
                return node;
            }, cancel).ConfigureAwait(false);
        if (written.Value is not { } marked)
            return false;
        Log.NodeSilent(_options.Logger, marked.Name, NodeState.Down, silence.TotalSeconds);
        Record(Kinds.Node, "down", marked.Name, "health checks", written.Revision, why);
        return true;
    }
}
