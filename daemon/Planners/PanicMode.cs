using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Planners;

/// <summary>
/// When too few of a service's endpoints pass, all of them are used: an outage for certain is worse than a doubtful backend. The
/// one place that says so, for balancer, names and API alike.
/// </summary>
public static class PanicMode
{
    public static bool On(Snapshot snapshot, Service service)
    {
        int serving = 0, failing = 0;
        foreach (var endpoint in snapshot.EndpointsOf(service))
        {
            switch (Weights.StateOf(endpoint, snapshot.Nodes.GetValueOrDefault(endpoint.NodeId)))
            {
                case EndpointState.Healthy or EndpointState.Recovering when endpoint.Weight > 0:
                    serving++;
                    break;
                case EndpointState.Unhealthy or EndpointState.Unreachable when endpoint.Weight > 0:
                    failing++;
                    break;
                default:
                    break;
            }
        }
        return Panic.On(serving, failing, service.Health?.PanicPercent ?? 0);
    }

    /// <summary>The endpoint as traffic sees it: in a panic, one that fails counts as healthy.</summary>
    public static Endpoint Seen(Endpoint endpoint, bool panic) =>
        panic && endpoint.State is EndpointState.Unhealthy or EndpointState.Unreachable ? endpoint with { State = EndpointState.Healthy, StateSinceUnixMs = 0 } : endpoint;
}
