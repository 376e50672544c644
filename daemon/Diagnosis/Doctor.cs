using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>
/// What only the daemon itself can say of this node: whether its kernel is what it wants, and what it could not do. Changes
/// nothing. All that can be seen from outside is checked by <c>overlaynet doctor</c>, which works without a daemon too.
/// </summary>
internal sealed class Doctor(NodeAgent agent, DockerRuntime? docker, string? dockerPluginError)
{
    public DoctorReport Examine()
    {
        (string Name, Func<IEnumerable<Finding>> Check)[] checks =
        [
            ("kernel.features", Features),
            ("registry.lag", Lag),
            ("host.underlay", Underlay),
            ("desired-state", DesiredState),
            ("docker", () => docker?.Examine(dockerPluginError) ?? []),
        ];
        var findings = new List<Finding>();
        foreach (var (name, check) in checks)
        {
            try
            {
                findings.AddRange(check());
            }
            catch (Exception e) when (e is IOException or InvalidDataException)
            {
                findings.Add(new Finding { Severity = "error", Check = name, Object = agent.Membership.NodeName, Message = $"the check itself failed: {e.Message}" });
            }
        }
        return new DoctorReport { Node = agent.Membership.NodeName, Checked = [.. checks.Select(check => check.Name)], Findings = findings };
    }

    private IEnumerable<Finding> Features() => agent.Features
        .Where(feature => feature is { Required: true, Present: false })
        .Select(feature => new Finding
        {
            Severity = "error",
            Check = "kernel.features",
            Object = feature.Name,
            Message = $"this kernel cannot make {feature.Name}",
            Remedy = feature.Otherwise,
        });

    private IEnumerable<Finding> Lag()
    {
        var snapshot = agent.Follower.Current;
        if (agent.Follower.SinceContact is not { } since || since > TimeSpan.FromSeconds(5))
        {
            yield return new Finding
            {
                Severity = "error",
                Check = "registry.lag",
                Object = string.Join(", ", agent.Membership.Managers),
                Message = $"no manager has been heard {(agent.Follower.SinceContact is { } s ? $"for {s.TotalSeconds:0} s" : "since the start")}; revision {snapshot.Revision} is served",
                Remedy = "check that the managers run and that TCP to their API port passes",
            };
        }
        if (snapshot.Revision - agent.Reconciler.AppliedRevision > 0)
        {
            yield return new Finding
            {
                Severity = "warning",
                Check = "registry.lag",
                Object = agent.Membership.NodeName,
                Message = $"revision {snapshot.Revision} is known, {agent.Reconciler.AppliedRevision} is applied",
                Evidence = agent.Reconciler.Last.Errors.Count > 0 ? string.Join("; ", agent.Reconciler.Last.Errors.Values) : null,
            };
        }
        foreach (var (id, error) in agent.Reconciler.Last.Errors)
            yield return new Finding { Severity = "error", Check = "registry.lag", Object = id.Length > 0 ? id : agent.Membership.NodeName, Message = "could not be applied", Evidence = error };
    }

    private IEnumerable<Finding> Underlay()
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route);
        if (!HostFacts.Has(socket, agent.Membership.Address))
        {
            yield return new Finding
            {
                Severity = "error",
                Check = "host.underlay",
                Object = agent.Membership.Address.ToString(),
                Message = "no interface of this host has the node's underlay address: other nodes send VXLAN to nowhere",
                Remedy = "give the address back to an interface, or leave and join with the new one",
            };
        }
        var mtu = HostFacts.MtuOf(socket, agent.Membership.Address);
        foreach (var network in agent.Follower.Current.Networks.Values.Where(network => network.Mtu > OverlayMtu.Of(agent.Membership.Address, mtu)))
        {
            yield return new Finding
            {
                Severity = "error",
                Check = "host.underlay",
                Object = network.Name,
                Message = $"the network's MTU {network.Mtu} does not fit the underlay's {mtu} less the encapsulation",
                Remedy = $"create the network without --mtu, or raise the underlay's MTU to {network.Mtu + mtu - OverlayMtu.Of(agent.Membership.Address, mtu)}",
            };
        }
    }

    private IEnumerable<Finding> DesiredState() => agent.Plane.Observe(agent.Follower.Current).Select(difference => new Finding
    {
        Severity = "error",
        Check = $"desired-state.{difference.Part}",
        Object = difference.Object,
        Message = difference.Difference,
        Remedy = "the daemon mends this by itself within seconds; if it comes back, something else on this host changes it",
    });
}
