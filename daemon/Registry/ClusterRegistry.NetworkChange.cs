using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    /// <summary>Renames a network that no container is on.</summary>
    public async Task<Written<Network>> UpdateNetworkAsync(
        string reference, NetworkUpdateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Network(Current, reference).Id;
        var before = "";
        var written = await WriteAsync(
            draft =>
            {
                if (!draft.Snapshot.Networks.TryGetValue(id, out var network))
                    throw Refuse.NotFound(Kinds.Network, reference);
                before = network.Name;
                return PlanNetworkName(draft, network, request.Name is null ? before : Names.Label("name", request.Name));
            }, cancel).ConfigureAwait(false);
        if (written.Value.Name != before)
            Record(Kinds.Network, "update", written.Value.Name, by, written.Revision, $"renamed from {before}");
        return written;
    }

    private static Network PlanNetworkName(Draft draft, Network network, string name)
    {
        if (name == network.Name)
            return network;
        if (draft.Snapshot.FindNetwork(name).Value is { } other && other.Name == name)
            throw Refuse.Conflict("name-taken", "name", name, "a network has this name already", "choose another name, or remove that network first");
        if (draft.Snapshot.EndpointsOf(network).Any())
            throw Refuse.Conflict("network-in-use", "network", network.Name, "containers are on it, and kernel objects carry its name", "detach them first");
        var renamed = network with { Name = name };
        draft.Put(renamed);
        // Whatever comes into the network meanwhile puts this key.
        draft.GuardUnchanged(Keys.Allocation(network.Id));
        draft.Release(Keys.NetworkName(network.Name));
        draft.Claim(Keys.NetworkName(name), network.Id);
        return renamed;
    }
}
