using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis.Firewall;

namespace OverlayNet.Tools.Diagnosis.Trace;

/// <summary>Judges each hop from an endpoint to a destination: desired state against what was read of the kernel. Pure.</summary>
internal static class TraceWalk
{
    /// <param name="inside">Of the endpoint's namespace; null: it is gone.</param>
    /// <param name="network">Of the network's namespace; null: it is gone.</param>
    public static IEnumerable<TraceHop> Attachment(Endpoint from, Network network, string netns, NamespaceReading? inside, NamespaceReading? outside)
    {
        if (inside is null)
        {
            yield return Fault("attachment", from.Name, $"its namespace {from.Netns} is gone", null, $"overlaynet detach {from.Name}: it is a ghost, unless its container comes back");
            yield break;
        }
        if (outside is null)
        {
            yield return Fault("attachment", from.Name, $"namespace {netns} of network {network.Name} is missing", null, "start overlaynetd: it makes what is missing");
            yield break;
        }
        var address = from.Address4 ?? from.Address6;
        if (address is null || inside.Having(address) is not { } link)
        {
            yield return Fault("attachment", from.Name, $"no interface in {from.Netns} has its address {address}", Addresses(inside), $"give {address} back to {from.Interface}, or detach and attach it again");
            yield break;
        }
        if (!link.IsUp)
        {
            yield return Fault("attachment", from.Name, $"{link.Name} in {from.Netns} is down", null, $"ip -n {Path.GetFileName(from.Netns)} link set {link.Name} up");
            yield break;
        }
        if (PortFault(from, netns, outside) is { } fault)
            yield return fault with { Hop = "attachment" };
        else
            yield return Fine("attachment", from.Name, $"{link.Name} has {address}, its port {ObjectNames.HostVeth(from)} is in {netns}");
    }

    /// <param name="resolvConf">The container's, null where it cannot be known.</param>
    /// <param name="resolvers">Addresses this node's resolver has in the network.</param>
    public static TraceHop? Resolver(string from, string? resolvConf, IReadOnlyCollection<IPAddress> resolvers)
    {
        if (resolvConf is null)
            return null;
        var servers = resolvConf.Split('\n').Select(line => line.Trim().Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)).Where(words => words is ["nameserver", _, ..]).Select(words => words[1]).ToList();
        return servers.Any(server => IPAddress.TryParse(server, out var address) && resolvers.Contains(address))
            ? Fine("resolver", from, $"asks {string.Join(", ", servers)}")
            : Fault("resolver", from, "its resolv.conf names no resolver of this network", servers.Count > 0 ? $"nameserver {string.Join(", ", servers)}" : "no nameserver line", $"nameserver {resolvers.FirstOrDefault()} in its resolv.conf (attach --resolv-conf writes it)");
    }

    public static TraceHop Name(string name, DnsProbeResult result, ushort type, IPAddress server, IReadOnlyCollection<IPAddress> expected, string? why)
    {
        var record = type == DnsProbe.A ? "A" : "AAAA";
        var took = string.Create(CultureInfo.InvariantCulture, $"{result.Took.TotalMilliseconds:0.0} ms");
        if (result.Message is not { } message)
            return Fault("name", name, $"{server} does not answer: {result.Problem}", $"{record} query, {took}", "overlaynet doctor names what is between; a dead or frozen daemon answers nothing");
        var answers = string.Join(", ", result.Addresses);
        if (expected.Count > 0 && !result.Addresses.Any(expected.Contains))
            return Fault("name", name, $"{record} {(answers.Length > 0 ? answers : message.Rcode)}, the registry has {string.Join(", ", expected)}", why, "overlaynet status shows whether this node's revision lags");
        return Fine("name", name, $"{record} {(answers.Length > 0 ? answers : message.Rcode)} in {took}{(why is null ? "" : $": {why}")}");
    }

    public static TraceHop Target(TraceDestination destination, int port)
    {
        if (destination.Service is { } service)
        {
            if (port > 0 && service.Ports.Count > 0 && service.Ports.All(known => known.Port != port))
                return Fault("target", service.Name, $"the service has no port {Text.Number(port)}", $"ports {string.Join(", ", service.Ports.Select(known => Text.Number(known.Port)))}", $"overlaynet service update --port {Text.Number(port)} {service.Name}, or ask one of its ports");
            return destination.Backends.Count > 0
                ? Fine("target", service.Name, $"{destination.Address} is its VIP, {Text.Number(destination.Backends.Count)} backends")
                : Fault("target", service.Name, "no backend gets connections", null, $"overlaynet service backends {service.Name} says what is wrong with each");
        }
        if (destination.Backends.Count > 0)
            return Fine("target", destination.Backends[0].Name, $"{destination.Address} is its address");
        return Fine("target", destination.Address.ToString(), "an address outside the network: it leaves by the gateway");
    }

    /// <param name="path">What the daemon says carries the service; null: not known.</param>
    public static TraceHop Balancer(TraceDestination destination, BalancerReading reading, string? path)
    {
        var service = destination.Service!;
        var isIpvs = path is not null && BalancerReading.IsIpvs(path);
        if (!reading.Known)
        {
            return Fault("balancer", service.Name, isIpvs ? $"IPVS in the network's namespace does not know {destination.Address}" : $"the client's balancer does not know {destination.Address}",
                reading.Table.Length > 0 ? $"{reading.Table} has no such {(isIpvs ? "service" : "element")}" : isIpvs ? "this kernel has no IPVS" : "there is no table overlaynet-vip-* in its namespace",
                "the daemon mends it within seconds when it runs: overlaynet status");
        }
        var wanted = destination.Backends.Select(destination.AddressOf).OfType<IPAddress>().ToHashSet();
        var servers = string.Join(", ", reading.Servers.OrderBy(server => server.Key.ToString(), StringComparer.Ordinal).Select(server => $"{server.Key} ({Text.Number(server.Value)})"));
        if (reading.Servers.Keys.FirstOrDefault(server => !wanted.Contains(server)) is { } stale)
            return Fault("balancer", service.Name, $"it still sends to {stale}, which is no backend", servers, "overlaynet status shows whether this node's revision lags");
        if (wanted.FirstOrDefault(address => !reading.Servers.ContainsKey(address)) is { } missing)
            return Fault("balancer", service.Name, $"backend {missing} is not in it", servers, "overlaynet status shows whether this node's revision lags");
        return Fine("balancer", service.Name, $"{(path?.StartsWith("ebpf+", StringComparison.Ordinal) == true ? "ebpf for sockets, for all else " : "")}{reading.Table}: {servers}");
    }

    public static TraceHop Route(string from, NamespaceReading inside, IPAddress to) => inside.RouteTo(to) is { } route
        ? Fine("route", from, $"{to} by {route.Destination} on {inside.NameOf(route.Interface)}{(route.Gateway is null ? "" : $" via {route.Gateway}")}")
        : Fault("route", from, $"its namespace has no route to {to}", string.Join(", ", inside.Routes.Where(route => route.Table == 254).Select(route => route.Destination).Distinct()), "detach and attach it again, or add the subnet's route on its interface");

    /// <summary>From the network's namespace to a backend on another node.</summary>
    public static IEnumerable<TraceHop> Remote(Endpoint backend, IPAddress address, Node node, Network network, string netns, NamespaceReading outside, NamespaceReading host, Ruleset? rules, IPAddress self)
    {
        var bridge = outside.Link(ObjectNames.Bridge);
        var tunnel = outside.Link(ObjectNames.Tunnel);
        if (bridge is null || tunnel is null)
        {
            yield return Fault("tunnel", network.Name, $"{netns} has no {(bridge is null ? ObjectNames.Bridge : ObjectNames.Tunnel)}", null, "the daemon makes it again within seconds when it runs: overlaynet status");
            yield break;
        }
        var neighbour = outside.Neighbours.FirstOrDefault(entry => entry.Interface == bridge.Index && entry.Address.Equals(address));
        yield return neighbour is { Mac: { } mac } && mac.ToString() == backend.Mac
            ? Fine("neighbour", backend.Name, $"{address} is at {mac}")
            : Fault("neighbour", backend.Name, neighbour?.Mac is { } other ? $"{address} is at {other}, should be {backend.Mac}" : $"nobody answers ARP or ND for {address} on this node", null, $"ip -n {netns} neigh replace {address} lladdr {backend.Mac} dev {ObjectNames.Bridge} nud permanent (the daemon does so within seconds)");
        var entries = outside.Fdb.Where(entry => entry.Mac.ToString() == backend.Mac).ToList();
        var vtep = entries.FirstOrDefault(entry => entry.Interface == tunnel.Index && entry.Vtep is not null)?.Vtep;
        var repair = $"bridge -n {netns} fdb replace {backend.Mac} dev {ObjectNames.Tunnel} dst {node.Address} self permanent (the daemon does so within seconds)";
        yield return vtep is null ? Fault("fdb", backend.Name, $"{backend.Mac} has no VTEP on {ObjectNames.Tunnel}", null, repair)
            : !vtep.Equals(node.Address) ? Fault("fdb", backend.Name, $"{backend.Mac} goes to VTEP {vtep}, should be {node.Address} ({node.Name})", null, repair)
            : Fine("fdb", backend.Name, $"{backend.Mac} goes to VTEP {vtep} ({node.Name})");
        yield return !tunnel.IsUp ? Fault("tunnel", network.Name, $"{ObjectNames.Tunnel} is down", null, $"ip -n {netns} link set {ObjectNames.Tunnel} up")
            : tunnel.Vxlan is { } options && options.Vni != network.Vni ? Fault("tunnel", network.Name, $"VNI {Text.Number(options.Vni)}, should be {Text.Number(network.Vni)}", null, "start overlaynetd: it makes the device again")
            : Fine("tunnel", network.Name, $"VNI {Text.Number(network.Vni)} from {tunnel.Vxlan?.Local}, UDP {Text.Number(tunnel.Vxlan?.Port ?? 4789)}, MTU {Text.Number(tunnel.Mtu)}");
        yield return Underlay(node, tunnel.Vxlan?.Port ?? 4789, host, rules, self);
        yield return node.State == NodeState.Ready
            ? Fine("endpoint", backend.Name, $"on {node.Name}, {Text.Word(backend.State)}")
            : Fault("endpoint", backend.Name, $"its node {node.Name} is {Text.Word(node.State)}", null, $"overlaynet status and doctor on {node.Name}");
    }

    public static TraceHop Underlay(Node node, int vxlanPort, NamespaceReading host, Ruleset? rules, IPAddress self)
    {
        if (host.RouteTo(node.Address) is not { } route)
            return Fault("underlay", node.Name, $"this node has no route to {node.Address}", null, $"add a route to {node.Address}");
        var by = host.NameOf(route.Interface);
        if (host.Link(by) is { IsUp: false })
            return Fault("underlay", node.Name, $"{by}, which leads to {node.Address}, is down", null, $"ip link set {by} up");
        var accept = $"udp dport {Text.Number(vxlanPort)}";
        if (rules is not null && (VxlanFilter.StopsTo(rules, self, node.Address, vxlanPort, by) ?? VxlanFilter.StopsFrom(rules, node.Address, self, vxlanPort, by)) is { } refusal)
            return Fault("underlay", node.Name, $"this node's packet filter stops VXLAN: {refusal}", null, refusal.Remedy(accept));
        return Fine("underlay", node.Name, $"{node.Address} by {by}{(route.Gateway is null ? "" : $" via {route.Gateway}")}, MTU {Text.Number(host.Link(by)?.Mtu ?? 0)}");
    }

    public static IEnumerable<TraceHop> Local(Endpoint backend, string netns, NamespaceReading outside, NamespaceReading? inside, IPAddress address)
    {
        if (PortFault(backend, netns, outside) is { } fault)
        {
            yield return fault;
            yield break;
        }
        if (inside is null)
            yield return Fault("endpoint", backend.Name, $"its namespace {backend.Netns} is gone", null, $"overlaynet detach {backend.Name}, unless its container comes back");
        else if (inside.Having(address) is not { } link)
            yield return Fault("endpoint", backend.Name, $"no interface in its namespace has {address}", Addresses(inside), $"give {address} back to {backend.Interface}");
        else if (!link.IsUp)
            yield return Fault("endpoint", backend.Name, $"{link.Name} in its namespace is down", null, $"ip -n {Path.GetFileName(backend.Netns)} link set {link.Name} up");
        else
            yield return Fine("endpoint", backend.Name, $"on this node: {address} on {link.Name}, {Text.Word(backend.State)}");
    }

    private static TraceHop? PortFault(Endpoint endpoint, string netns, NamespaceReading outside)
    {
        var port = outside.Link(ObjectNames.HostVeth(endpoint));
        var bridge = outside.Link(ObjectNames.Bridge);
        return port is null ? Fault("endpoint", endpoint.Name, $"its port {ObjectNames.HostVeth(endpoint)} is missing in {netns}", null, "start overlaynetd, which makes it again, or detach and attach the endpoint")
            : bridge is null || port.Master != bridge.Index ? Fault("endpoint", endpoint.Name, $"its port {port.Name} is not in the bridge", null, $"ip -n {netns} link set {port.Name} master {ObjectNames.Bridge}")
            : !port.IsUp ? Fault("endpoint", endpoint.Name, $"its port {port.Name} is down", null, $"ip -n {netns} link set {port.Name} up")
            : null;
    }

    public static TraceHop Fine(string hop, string @object, string message) => new() { Hop = hop, Object = @object, Ok = true, Message = message };

    public static TraceHop Fault(string hop, string @object, string message, string? evidence, string remedy) =>
        new() { Hop = hop, Object = @object, Ok = false, Message = message, Evidence = evidence, Remedy = remedy };

    private static string Addresses(NamespaceReading reading) =>
        $"it has {string.Join(", ", reading.Addresses.Where(entry => !IPAddress.IsLoopback(entry.Address)).Select(entry => $"{entry.Address} on {reading.NameOf(entry.Interface)}"))}";
}
