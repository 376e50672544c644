using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Capture.Live;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis.Firewall;

namespace OverlayNet.Tools.Diagnosis.Trace;

/// <summary>One trace: reads the kernel, lets <see cref="TraceWalk"/> judge, and sends the probe.</summary>
/// <param name="explain">Asks the daemon why a name has its answer; null when it does not answer.</param>
internal sealed class TraceRun(NodeView node, Func<string, string, string, Task<DnsQueryReport?>> explain)
{
    private static readonly TimeSpan DnsTimeout = TimeSpan.FromSeconds(2);

    /// <param name="from">Name or id of an endpoint, or path or name of its namespace.</param>
    /// <param name="family">4, 6, or null for both.</param>
    /// <exception cref="CommandFailure">There is no such endpoint here.</exception>
    public async Task<TraceReport> Run(string from, TraceTarget target, int? family, bool udp, bool probe)
    {
        var endpoint = Find(from);
        var network = node.Snapshot.Networks.First(known => known.Id == endpoint.NetworkId);
        var netns = ObjectNames.Netns(node.NodeId, network);
        var inside = NamespaceReading.Of(endpoint.Netns);
        var outside = NamespaceReading.Of(NamedNamespaces.PathOf(netns));
        var hops = TraceWalk.Attachment(endpoint, network, netns, inside, outside).ToList();
        var paths = new List<TracePath>();
        if (inside is not null && outside is not null)
        {
            using var client = NamespaceReading.Open(endpoint.Netns);
            var addresses = await Addresses(endpoint, network, target, client, hops).ConfigureAwait(false);
            var host = NamespaceReading.Of(node.Host);
            var rules = Ruleset.Read(node.Host);
            foreach (var address in addresses.Where(address => family is null || family == (address.AddressFamily == AddressFamily.InterNetwork ? 4 : 6)))
            {
                if ((address.AddressFamily == AddressFamily.InterNetwork ? endpoint.Address4 : endpoint.Address6) is { } source)
                    paths.Add(Path(endpoint, network, netns, source, address, target.Port, udp, probe, client, inside, outside, host, rules));
            }
            if (paths.Count == 0 && hops.All(hop => hop.Ok))
                hops.Add(TraceWalk.Fault("name", target.Name, "no address of a family that the endpoint has", string.Join(", ", addresses), "see 'overlaynet dns query --explain'"));
        }
        return new TraceReport
        {
            From = endpoint.Name,
            To = target.Port > 0 ? $"{target.Name}:{Text.Number(target.Port)}" : target.Name,
            Node = node.Name,
            Hops = hops,
            Paths = paths,
            Ok = hops.All(hop => hop.Ok) && paths.All(path => path.Hops.All(hop => hop.Ok) && path.Probe?.Outcome is null or "answered"),
        };
    }

    private Endpoint Find(string from)
    {
        var path = from.StartsWith('/') ? from : NamedNamespaces.PathOf(from);
        var found = node.Snapshot.Endpoints.Where(endpoint => endpoint.Kind == EndpointKind.Container && endpoint.Name == from).ToList();
        if (found.Count == 0)
            found = [.. node.Snapshot.Endpoints.Where(endpoint => endpoint.Kind == EndpointKind.Container && (endpoint.Netns == path || (from.Length >= 4 && endpoint.Id.StartsWith(from, StringComparison.Ordinal))))];
        var here = found.FirstOrDefault(endpoint => endpoint.NodeId == node.NodeId);
        if (here is not null)
            return here;
        throw found.Count > 0
            ? new CommandFailure(ExitCodes.BadInput, $"endpoint '{from}' is on node {node.NodeNameOf(found[0].NodeId)}, not on this one", $"run the trace on {node.NodeNameOf(found[0].NodeId)}")
            : new CommandFailure(ExitCodes.BadInput, $"FROM '{from}' is no endpoint of this node", "give the name or id of an endpoint, or its namespace; 'overlaynet endpoint ls' lists them");
    }

    private async Task<IReadOnlyList<IPAddress>> Addresses(Endpoint endpoint, Network network, TraceTarget target, NetworkNamespace client, List<TraceHop> hops)
    {
        if (target.Address is { } literal)
            return [literal];
        if (TraceWalk.Resolver(endpoint.Name, ResolvConf(endpoint), Resolvers(network)) is { } resolver)
            hops.Add(resolver);
        var found = new List<IPAddress>();
        foreach (var (type, source, server) in new[] { (DnsProbe.A, endpoint.Address4, network.Gateway4), (DnsProbe.Aaaa, endpoint.Address6, network.Gateway6) })
        {
            if (source is null || server is null)
                continue;
            DnsProbeResult result;
            try
            {
                result = DnsProbe.Ask(client, source, server, target.Name, type, DnsTimeout);
            }
            catch (FormatException e)
            {
                throw new CommandFailure(ExitCodes.BadInput, e.Message, "give a DNS name");
            }
            var record = type == DnsProbe.A ? "A" : "AAAA";
            var expected = Expected(network, target.Name, type);
            hops.Add(TraceWalk.Name(target.Name, result, type, server, expected, (await explain(target.Name, record, source.ToString()).ConfigureAwait(false))?.Why));
            // Without an answer the walk goes on to what the registry has: there may be more faults than one.
            found.AddRange(result.Message is null ? expected.Take(1) : result.Addresses.Take(1));
        }
        return found;
    }

    /// <summary>What the registry has for a plain name in this network; empty: nothing that could be compared.</summary>
    private List<IPAddress> Expected(Network network, string name, ushort type)
    {
        bool IsWanted(IPAddress address) => address.AddressFamily == (type == DnsProbe.A ? AddressFamily.InterNetwork : AddressFamily.InterNetworkV6);
        if (node.Snapshot.Services.FirstOrDefault(service => service.NetworkId == network.Id && (service.Name == name || service.Aliases.Contains(name))) is { } service)
        {
            return service.EndpointMode == EndpointMode.Vip
                ? [.. new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>().Where(IsWanted)]
                : [.. node.Snapshot.Endpoints.Where(endpoint => endpoint.ServiceId == service.Id && TraceDestination.IsUsed(endpoint)).SelectMany(endpoint => new[] { endpoint.Address4, endpoint.Address6 }).OfType<IPAddress>().Where(IsWanted)];
        }
        return [.. node.Snapshot.Endpoints.Where(endpoint => endpoint.NetworkId == network.Id && endpoint.Name == name && TraceDestination.IsUsed(endpoint)).SelectMany(endpoint => new[] { endpoint.Address4, endpoint.Address6 }).OfType<IPAddress>().Where(IsWanted)];
    }

    private TracePath Path(
        Endpoint endpoint, Network network, string netns, IPAddress source, IPAddress address, int port, bool udp, bool probe,
        NetworkNamespace client, NamespaceReading inside, NamespaceReading outside, NamespaceReading host, Ruleset? rules)
    {
        var destination = TraceDestination.Of(node.Snapshot, network.Id, address);
        var hops = new List<TraceHop> { TraceWalk.Target(destination, port), TraceWalk.Route(endpoint.Name, inside, address) };
        if (destination.Service is { } service)
        {
            if (port == 0 && service.Ports.Count > 0)
                (port, udp) = (service.Ports[0].Port, service.Ports[0].Protocol == PortProtocol.Udp);
            var path = node.Status?.BalancerOf(service, network.Name);
            using var around = NamedNamespaces.OpenPinned(netns);
            hops.Insert(1, TraceWalk.Balancer(destination, BalancerReading.Of(client, around, network, destination, path), path));
        }
        foreach (var backend in destination.Backends)
        {
            if (destination.Service is null && backend.Id == endpoint.Id)
                continue;
            var at = destination.AddressOf(backend);
            if (at is null)
                continue;
            if (backend.NodeId == node.NodeId)
                hops.AddRange(backend.Kind == EndpointKind.Container ? TraceWalk.Local(backend, netns, outside, NamespaceReading.Of(backend.Netns), at) : []);
            else if (node.Snapshot.Nodes.FirstOrDefault(known => known.Id == backend.NodeId) is { } other && node.Self is { } self)
                hops.AddRange(TraceWalk.Remote(backend, at, other, network, netns, outside, host, rules, self.Address));
        }
        return new TracePath
        {
            Address = address,
            Hops = hops,
            Probe = probe ? new ProbeShot(Points(endpoint, network, netns, destination, host)).Fire(client, source, address, port, udp, Names(destination)) : null,
        };
    }

    private static Dictionary<IPAddress, string> Names(TraceDestination destination)
    {
        var names = new Dictionary<IPAddress, string>();
        foreach (var backend in destination.Backends)
        {
            if (destination.AddressOf(backend) is { } address)
                names[address] = backend.Name;
        }
        return names;
    }

    /// <summary>Where the packet can be seen: here, and on nodes whose namespaces are on this machine too.</summary>
    private List<CapturePoint> Points(Endpoint endpoint, Network network, string netns, TraceDestination destination, NamespaceReading host)
    {
        const string inner = "ip or ip6";
        var path = NamedNamespaces.PathOf(netns);
        var points = new List<CapturePoint> { new(endpoint.Name, path, ObjectNames.HostVeth(endpoint), inner, ""), new($"{network.Name}/vxlan", path, ObjectNames.Tunnel, inner, "") };
        if (node.Self is { } self && host.Having(self.Address) is { } underlay)
            points.Add(new CapturePoint("underlay", $"/proc/self/fd/{node.Host.Fd.ToString(CultureInfo.InvariantCulture)}", underlay.Name, $"udp port {Text.Number(NamespacePort(path))}", ""));
        foreach (var backend in destination.Backends.Where(backend => backend.Kind == EndpointKind.Container && backend.Id != endpoint.Id))
        {
            var theirs = ObjectNames.Netns(backend.NodeId, network);
            if (!NamedNamespaces.Exists(theirs))
                continue;
            var prefix = backend.NodeId == node.NodeId ? "" : $"{node.NodeNameOf(backend.NodeId)}:";
            var there = NamedNamespaces.PathOf(theirs);
            if (prefix.Length > 0 && points.All(point => point.Name != $"{prefix}{network.Name}/vxlan"))
                points.Add(new CapturePoint($"{prefix}{network.Name}/vxlan", there, ObjectNames.Tunnel, inner, ""));
            points.Add(new CapturePoint($"{prefix}{backend.Name}", there, ObjectNames.HostVeth(backend), inner, ""));
        }
        return points;
    }

    private static int NamespacePort(string path) => NamespaceReading.Of(path)?.Link(ObjectNames.Tunnel)?.Vxlan?.Port ?? 4789;

    private static HashSet<IPAddress> Resolvers(Network network) =>
        [.. new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>(), .. Fixed];

    /// <summary>The resolver's fixed addresses, as they are unless the daemon's configuration says otherwise.</summary>
    private static IPAddress[] Fixed { get; } = [IPAddress.Parse("169.254.53.53"), IPAddress.Parse("fd6f:7665:726c:53::53")];

    /// <summary>What <c>ip netns exec</c> shows a process of a named namespace; null: nothing is known of the container's files.</summary>
    internal static string? ResolvConf(Endpoint endpoint)
    {
        if (!endpoint.Netns.StartsWith(NamedNamespaces.Directory + "/", StringComparison.Ordinal))
            return null;
        var file = $"/etc/netns/{System.IO.Path.GetFileName(endpoint.Netns)}/resolv.conf";
        return File.Exists(file) ? File.ReadAllText(file) : null;
    }
}
