using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Planners;

/// <summary>What a plan is made from; says which of its networks another plan may take over as they are.</summary>
/// <param name="Suppressed">This node's endpoints that are known to be gone.</param>
public sealed record PlanBasis(Snapshot Snapshot, IReadOnlySet<string> Suppressed)
{
    /// <summary>Whether everything that a plan of the network depends on is the same as in the basis before.</summary>
    public bool IsSame(PlanBasis before, Network network)
    {
        if (!Snapshot.SharesNetwork(before.Snapshot, network.Id))
            return false;
        return Suppressed.All(id => before.Suppressed.Contains(id) || !IsOn(network, id))
            && before.Suppressed.All(id => Suppressed.Contains(id) || !IsOn(network, id));
    }

    private bool IsOn(Network network, string endpointId) => Snapshot.Endpoints.GetValueOrDefault(endpointId)?.NetworkId == network.Id;
}
