using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Runtimes.Docker;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>
/// Looks for what is wrong on this node and says it with evidence and remedy. Changes nothing. Each check is one method
/// that yields findings; a healthy node yields none.
/// </summary>
internal sealed class Doctor(NodeAgent agent, int vxlanPort, DockerRuntime? docker, string? dockerPluginError)
{
    private static readonly TimeSpan EchoTimeout = TimeSpan.FromSeconds(1);

    public DoctorReport Examine()
    {
        (string Name, Func<IEnumerable<Finding>> Check)[] checks =
        [
            ("kernel.features", Features),
            ("registry.lag", Lag),
            ("host.underlay", Underlay),
            ("host.sysctl", Sysctls),
            ("desired-state", DesiredState),
            ("vxlan.path", Paths),
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

    private IEnumerable<Finding> Sysctls()
    {
        var outside = LocalNetworks.Of(agent.Follower.Current, agent.Membership.NodeId).Where(network => !network.Internal).ToList();
        if (outside.Any(network => network.Subnet4 is not null) && Sysctl.Read("net/ipv4/ip_forward") == "0")
            yield return Forwarding("net.ipv4.ip_forward", "IPv4");
        if (outside.Any(network => network.Subnet6 is not null) && Sysctl.Read("net/ipv6/conf/all/forwarding") == "0")
            yield return Forwarding("net.ipv6.conf.all.forwarding", "IPv6");

        static Finding Forwarding(string name, string family) => new()
        {
            Severity = "error",
            Check = "host.sysctl",
            Object = name,
            Message = $"{name} is 0: containers reach nothing outside over {family}",
            Remedy = $"sysctl -w {name}=1, and look for what sets it back in /etc/sysctl.d",
        };
    }

    private IEnumerable<Finding> DesiredState() => agent.Plane.Observe(agent.Follower.Current).Select(difference => new Finding
    {
        Severity = "error",
        Check = $"desired-state.{difference.Part}",
        Object = difference.Object,
        Message = difference.Difference,
        Remedy = "the daemon mends this by itself within seconds; if it comes back, something else on this host changes it",
    });

    /// <summary>Echo to every other node's own address, through the bridge and VXLAN as containers' packets go, small and at full size.</summary>
    private IEnumerable<Finding> Paths()
    {
        var snapshot = agent.Follower.Current;
        foreach (var network in LocalNetworks.Of(snapshot, agent.Membership.NodeId))
        {
            var own = snapshot.NodeEndpoint(agent.Membership.NodeId, network.Id)!;
            using var netns = NamedNamespaces.OpenPinned(ObjectNames.Netns(agent.Membership.NodeId, network));
            var mtu = network.Mtu > 0 ? network.Mtu : agent.DefaultMtu;
            foreach (var other in snapshot.EndpointsOf(network).Where(e => e.Kind == EndpointKind.Node && e.NodeId != own.NodeId))
            {
                var name = snapshot.Nodes.GetValueOrDefault(other.NodeId)?.Name ?? other.NodeId;
                foreach (var (from, to) in new[] { (own.Address4, other.Address4), (own.Address6, other.Address6) })
                {
                    if (from is null || to is null)
                        continue;
                    if (ProbePath(netns, network, name, from, to, mtu) is { } finding)
                        yield return finding;
                }
            }
        }
    }

    private Finding? ProbePath(NetworkNamespace netns, Network network, string node, IPAddress from, IPAddress to, int mtu)
    {
        const int small = 84;
        if (EchoProbe.Send(netns, from, to, small, EchoTimeout) is null && EchoProbe.Send(netns, from, to, small, EchoTimeout) is null)
        {
            return new Finding
            {
                Severity = "error",
                Check = "vxlan.path",
                Object = $"{network.Name} to {node}",
                Message = $"{to} on node {node} does not answer through VXLAN",
                Evidence = $"2 echo requests from {from}, none answered within {EchoTimeout.TotalSeconds:0} s",
                Remedy = $"let UDP {vxlanPort} pass between {agent.Membership.Address} and node {node}, and run doctor there",
            };
        }
        if (EchoProbe.Send(netns, from, to, mtu, EchoTimeout) is null && EchoProbe.Send(netns, from, to, mtu, EchoTimeout) is null)
        {
            return new Finding
            {
                Severity = "error",
                Check = "vxlan.mtu",
                Object = $"{network.Name} to {node}",
                Message = $"packets of {mtu} octets do not reach node {node}, small ones do",
                Evidence = $"echo of {small} octets answered, of {mtu} not",
                Remedy = "the path between the nodes has a smaller MTU than their interfaces: create the network with --mtu, or mend the path",
            };
        }
        return null;
    }
}
