using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Daemon.Security;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>Composes what <c>overlaynet status</c> shows.</summary>
internal static class StatusBuilder
{
    /// <param name="lags">What the managers know of the nodes; null on a worker.</param>
    /// <param name="docker">Null when Docker is not served.</param>
    public static StatusReport Build(NodeAgent agent, IReadOnlyList<NodeLag>? lags, PartStatus? docker)
    {
        var snapshot = agent.Follower.Current;
        var applied = agent.Reconciler.AppliedRevision;
        var since = agent.Follower.SinceContact;
        var reachable = since is { } silence && silence < TimeSpan.FromSeconds(5);
        return new StatusReport
        {
            Daemon = "running",
            Pid = Environment.ProcessId,
            Version = Protocol.Release,
            ClusterId = agent.Membership.ClusterId,
            NodeId = agent.Membership.NodeId,
            NodeName = agent.Membership.NodeName,
            Role = agent.Membership.Role,
            RegistryRevision = snapshot.Revision,
            AppliedRevision = applied,
            ComparedRevision = agent.Reconciler.ComparedRevision,
            ManagersReachable = reachable,
            SecondsSinceManager = since?.TotalSeconds,
            Managers = snapshot.Nodes.Values.Where(node => node.Role == NodeRole.Manager).OrderBy(node => node.Name, StringComparer.Ordinal).Select(node => HostPort.Format(node.Address, node.ApiPort)).ToList() is { Count: > 0 } managers ? managers : agent.Membership.Managers,
            ClockSkewMs = agent.Heartbeat.ClockSkewMs,
            Parts =
            [
                .. agent.Plane.Parts,
                VipExplainer.Part(agent),
                new PartStatus
                {
                    Name = "agent",
                    Revision = applied,
                    Ok = reachable && !agent.Follower.Stale && agent.Withdrawals.Pending == 0,
                    LastError = !reachable ? $"{agent.Heartbeat.Trouble ?? "no manager answers"}; serving the last snapshot" : agent.Follower.Stale ? "the managers have no majority; what is served may be behind" : null,
                    Detail = $"{agent.Withdrawals.Pending} withdrawals pending, heartbeat {agent.Heartbeat.LatenessMs:0.0} ms late (at most {agent.Heartbeat.WorstLatenessMs:0})",
                },
                .. docker is null ? [] : new[] { docker },
            ],
            Nodes = lags ?? [.. snapshot.Nodes.Values.OrderBy(node => node.Name, StringComparer.Ordinal).Select(node => new NodeLag
            {
                Name = node.Name,
                State = node.State,
                Role = node.Role,
                Address = node.Address,
                AppliedRevision = node.Id == agent.Membership.NodeId ? applied : 0,
                Lag = node.Id == agent.Membership.NodeId ? snapshot.Revision - applied : 0,
            })],
            Networks = [.. snapshot.Networks.Values.OrderBy(network => network.Name, StringComparer.Ordinal).Select(network => OfNetwork(agent, snapshot, network))],
            Services = [.. snapshot.Services.Values.OrderBy(service => service.Name, StringComparer.Ordinal).Select(service => OfService(agent, snapshot, service))],
            Missing = [.. agent.Features.Where(feature => !feature.Present).Select(feature => $"{feature.Name}: {feature.Otherwise}")],
        };
    }

    private static NetworkStatus OfNetwork(NodeAgent agent, Snapshot snapshot, Network network)
    {
        var netns = ObjectNames.Netns(agent.Membership.NodeId, network);
        var endpoints = snapshot.EndpointsOf(network).Where(endpoint => endpoint.Kind == EndpointKind.Container).ToList();
        var local = endpoints.Count(endpoint => endpoint.NodeId == agent.Membership.NodeId);
        return new NetworkStatus
        {
            Name = network.Name,
            Vni = network.Vni,
            Subnets = string.Join(", ", new[] { network.Subnet4?.ToString(), network.Subnet6?.ToString() }.OfType<string>()),
            Present = NamedNamespaces.Exists(netns),
            Netns = netns,
            LocalEndpoints = local,
            RemoteEndpoints = endpoints.Count - local,
        };
    }

    private static ServiceStatus OfService(NodeAgent agent, Snapshot snapshot, Service service)
    {
        var endpoints = snapshot.EndpointsOf(service).ToList();
        var path = agent.Plane.Vip?.Paths.FirstOrDefault(path => path.ServiceId == service.Id);
        return new ServiceStatus
        {
            Name = service.Name,
            Network = snapshot.Networks.GetValueOrDefault(service.NetworkId)?.Name ?? service.NetworkId,
            Vip = service.EndpointMode == EndpointMode.Dnsrr ? "dnsrr" : string.Join(", ", new[] { service.Vip4, service.Vip6 }.OfType<System.Net.IPAddress>()),
            Balancer = path is null ? "-" : string.Join("+", path.Balancers),
            Why = path?.Reason ?? (service.EndpointMode == EndpointMode.Dnsrr ? "names resolve to the endpoints" : "this node has no endpoint on the network"),
            Healthy = endpoints.Count(endpoint => endpoint.State is EndpointState.Healthy or EndpointState.Recovering),
            Total = endpoints.Count,
        };
    }
}
