using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    /// <summary>Removes lost endpoints whose services want them replaced.</summary>
    public async Task RemoveLostAsync(CancellationToken cancel = default)
    {
        foreach (var endpoint in Disconnection.ToReplace(Current, _options.Time.GetUtcNow()))
            await RemoveLostAsync(endpoint, "disconnect policy: replace", cancel).ConfigureAwait(false);
    }

    /// <summary>A lost endpoint keeps its place only until somebody asks for it.</summary>
    private async Task MakeRoomAsync(EndpointCreateRequest request, CancellationToken cancel)
    {
        if (Current.FindNetwork(request.Network).Value is not { } network)
            return;
        var now = _options.Time.GetUtcNow();
        var (ip, ip6) = (WantedAddress("ip", request.Ip, 32), WantedAddress("ip6", request.Ip6, 128));
        var inTheWay = Current.EndpointsNamed(request.Name, network).ToList();
        // Whoever has an address is looked for only when one is asked for: networks can be large.
        if (ip is not null || ip6 is not null)
            inTheWay.AddRange(Current.EndpointsOf(network).Where(e => (ip is not null && ip.Equals(e.Address4)) || (ip6 is not null && ip6.Equals(e.Address6))));
        foreach (var endpoint in inTheWay.Where(e => e.Id != request.Id && Disconnection.IsLost(Current, e, now)).Distinct().ToList())
            await RemoveLostAsync(endpoint, $"disconnect policy: replaced by {request.Name}", cancel).ConfigureAwait(false);
    }

    private async Task RemoveLostAsync(Endpoint lost, string why, CancellationToken cancel)
    {
        var written = await WriteAsync(
            draft =>
            {
                // Its node may only have been out of this manager's hearing: it has its whole time since this manager listens.
                if (!draft.Snapshot.Endpoints.TryGetValue(lost.Id, out var current) || !Disconnection.IsLost(draft.Snapshot, current, _options.Time.GetUtcNow())
                    || (draft.Snapshot.Nodes.ContainsKey(current.NodeId) && !_liveness.IsSilent(current.NodeId, draft.Snapshot.Services[current.ServiceId!].Disconnect!.LostAfterSeconds)))
                    return false;
                var home = draft.Snapshot.Networks[current.NetworkId];
                RemoveEndpoint(draft, home, current);
                RemoveNodeEndpointWithout(draft, home, current.NodeId, current.Id);
                return true;
            }, cancel).ConfigureAwait(false);
        if (written.Value)
            Record(Kinds.Endpoint, "lost", lost.Name, why, written.Revision, $"unreachable since {DateTimeOffset.FromUnixTimeMilliseconds(lost.StateSinceUnixMs):u}; removed");
    }
}
