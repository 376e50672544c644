using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Links that are down, missing, or nobody's.</summary>
internal static class LinkChecks
{
    public static IEnumerable<Diagnosed> Run(CheckupInput input) =>
        [.. Underlay(input.Node.Self, input.Host), .. input.Networks.SelectMany(network => Network(network)), .. Unwanted(input.Node, [.. NamedNamespaces.List()])];

    public static IEnumerable<Diagnosed> Underlay(Node? self, NamespaceReading host)
    {
        if (self is null)
            yield break;
        if (host.Having(self.Address) is not { } link)
            yield return Diagnosed.Error("host.underlay", self.Address.ToString(), "no interface of this host has the node's underlay address: other nodes send VXLAN to nowhere", null, "give the address back to an interface, or leave and join with the new one");
        else if (!link.IsUp)
            yield return Diagnosed.Error("link.down", link.Name, $"the underlay's interface {link.Name} is down", null, $"ip link set {link.Name} up");
    }

    public static IEnumerable<Diagnosed> Network(NetworkView network)
    {
        if (network.Reading is not { } reading)
        {
            if (network.Local.Count > 0)
                yield return Diagnosed.Error("namespace.missing", network.Network.Name, $"namespace {network.Netns} of network {network.Network.Name} is missing", null, "the daemon makes it again within seconds when it runs: overlaynet status");
            yield break;
        }
        foreach (var (name, what) in new[] { (ObjectNames.Bridge, "bridge"), (ObjectNames.Tunnel, "VXLAN device"), (ObjectNames.NodeLink, "the node's own link") })
        {
            if (reading.Link(name) is not { } link)
                yield return Diagnosed.Error("link.missing", $"{name} of network {network.Network.Name}", $"the {what} is missing in {network.Netns}", null, "the daemon makes it again within seconds when it runs: overlaynet status");
            else if (!link.IsUp)
                yield return Down(network.Netns, name, $"{name} of network {network.Network.Name}");
        }
        var wanted = new HashSet<string>();
        foreach (var (endpoint, inside) in network.Local)
        {
            var port = ObjectNames.HostVeth(endpoint);
            wanted.Add(port);
            if (inside is null)
            {
                // A runtime's pin can be there and lead nowhere in this mount namespace.
                if (endpoint.State != EndpointState.Starting && !File.Exists(endpoint.Netns))
                    yield return Diagnosed.Error("endpoint.ghost", endpoint.Name, $"its namespace {endpoint.Netns} is gone, and names and VIPs still lead to it", null, $"overlaynet detach {endpoint.Name} (a running daemon withdraws it by itself)");
                continue;
            }
            if (reading.Link(port) is not { } link)
                yield return Diagnosed.Error("link.missing", endpoint.Name, $"its port {port} is missing in {network.Netns}", null, "the daemon makes it again within seconds when it runs: overlaynet status");
            else if (!link.IsUp)
                yield return Down(network.Netns, port, endpoint.Name);
            else if (reading.Link(ObjectNames.Bridge) is { } bridge && link.Master != bridge.Index)
                yield return Diagnosed.Error("link.unplugged", endpoint.Name, $"its port {port} is not in the bridge", null, $"ip -n {network.Netns} link set {port} master {ObjectNames.Bridge}");
            if ((endpoint.Address4 ?? endpoint.Address6) is { } address && inside.Having(address) is { IsUp: false } down)
                yield return Down(Path.GetFileName(endpoint.Netns), down.Name, endpoint.Name, endpoint.Netns);
        }
        foreach (var link in reading.Links.Where(link => reading.Link(ObjectNames.Bridge) is { } bridge && link.Master == bridge.Index && link.Name is not (ObjectNames.Tunnel or ObjectNames.NodePort) && !wanted.Contains(link.Name)))
            yield return Diagnosed.Warning("link.unwanted", link.Name, $"port {link.Name} of network {network.Network.Name}'s bridge belongs to no endpoint of the registry", $"kind {link.Kind}", $"ip -n {network.Netns} link del {link.Name}");
    }

    /// <summary>Namespaces of this node of networks that it does not have.</summary>
    public static IEnumerable<Diagnosed> Unwanted(NodeView node, IEnumerable<string> names)
    {
        var wanted = node.Networks.Select(network => ObjectNames.Netns(node.NodeId, network)).ToHashSet();
        var prefix = ObjectNames.NetnsPrefix(node.NodeId);
        return names.Where(name => name.StartsWith(prefix, StringComparison.Ordinal) && !wanted.Contains(name))
            .Select(name => Diagnosed.Warning("namespace.unwanted", name, "it belongs to no network that this node has", null, $"ip netns del {name} (a running daemon removes what is its own)"));
    }

    private static Diagnosed Down(string netns, string link, string @object, string? path = null) =>
        Diagnosed.Error("link.down", @object, string.Create(CultureInfo.InvariantCulture, $"{link} in {netns} is down"), null, $"ip -n {netns} link set {link} up", () =>
        {
            using var opened = NamespaceReading.Open(path ?? NamedNamespaces.PathOf(netns));
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, opened);
            new RouteLinks(socket).Set(link, new LinkChange { Up = true });
        });
}
