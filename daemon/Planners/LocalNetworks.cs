using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Planners;

/// <summary>Which networks a node builds: those with an endpoint on it, as in Swarm.</summary>
public static class LocalNetworks
{
    public static IEnumerable<Network> Of(Snapshot snapshot, string nodeId) =>
        snapshot.Networks.Values.Where(network => snapshot.NodeEndpoint(nodeId, network.Id) is not null);
}
