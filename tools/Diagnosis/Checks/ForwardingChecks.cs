using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>The static tables that lead to other nodes: neighbours and FDB of each network against the registry.</summary>
internal static class ForwardingChecks
{
    public static IEnumerable<Diagnosed> Run(CheckupInput input) => input.Networks.SelectMany(network => Judge(network, input.Node.Snapshot.Nodes));

    public static IEnumerable<Diagnosed> Judge(NetworkView network, IReadOnlyList<Node> nodes)
    {
        if (network.Reading is not { } reading || reading.Link(ObjectNames.Bridge) is not { } bridge || reading.Link(ObjectNames.Tunnel) is not { } tunnel)
            yield break;
        var vteps = reading.Fdb.Where(entry => entry.Interface == tunnel.Index && entry.Vtep is not null).GroupBy(entry => entry.Mac).ToDictionary(group => group.Key, group => group.First().Vtep!);
        var neighbours = reading.Neighbours.Where(entry => entry.Interface == bridge.Index && entry.State.HasFlag(NeighbourState.Permanent)).GroupBy(entry => entry.Address).ToDictionary(group => group.Key, group => group.First());
        var macs = new HashSet<MacAddress>();
        var addresses = new HashSet<IPAddress>();
        foreach (var endpoint in network.Remote)
        {
            var node = nodes.First(known => known.Id == endpoint.NodeId);
            var mac = MacAddress.Parse(endpoint.Mac);
            var name = endpoint.Kind == EndpointKind.Node ? $"node {node.Name}" : endpoint.Name;
            macs.Add(mac);
            void Lead() => Write(network, socket => new RouteFdb(socket).Replace(new FdbEntry { Interface = tunnel.Index, Mac = mac, Vtep = node.Address, Flags = NeighbourFlags.Self | NeighbourFlags.Master }));
            var repair = $"bridge -n {network.Netns} fdb replace {mac} dev {ObjectNames.Tunnel} dst {node.Address} self static";
            if (!vteps.TryGetValue(mac, out var vtep))
                yield return Diagnosed.Error("fdb.missing", name, $"its MAC {mac} has no VTEP in network {network.Network.Name}: packets to it are dropped here", null, repair, Lead);
            else if (!vtep.Equals(node.Address))
                yield return Diagnosed.Error("fdb.wrong-vtep", name, $"packets to it go to VTEP {vtep}, it is on {node.Name} at {node.Address}", $"{mac} dev {ObjectNames.Tunnel} dst {vtep} in {network.Netns}", repair, Lead);
            foreach (var address in new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>())
            {
                addresses.Add(address);
                void Answer() => Write(network, socket => new RouteNeighbours(socket).Replace(new Neighbour(bridge.Index, address, mac)));
                var answer = $"ip -n {network.Netns} neigh replace {address} lladdr {mac} dev {ObjectNames.Bridge} nud permanent";
                if (!neighbours.TryGetValue(address, out var neighbour))
                    yield return Diagnosed.Error("neighbour.missing", name, $"nobody on this node answers ARP or ND for {address}", null, answer, Answer);
                else if (neighbour.Mac != mac)
                    yield return Diagnosed.Error("neighbour.wrong", name, $"{address} is answered with {neighbour.Mac}, should be {mac}", null, answer, Answer);
            }
        }
        foreach (var (mac, vtep) in vteps.Where(entry => !macs.Contains(entry.Key) && entry.Key != default))
        {
            yield return Diagnosed.Error("fdb.stale", mac.ToString(), $"network {network.Network.Name} still leads {mac} to VTEP {vtep}, and the registry has no such endpoint there", $"in {network.Netns}", $"bridge -n {network.Netns} fdb del {mac} dev {ObjectNames.Tunnel} dst {vtep} self",
                () => Write(network, socket => new RouteFdb(socket).Delete(new FdbEntry { Interface = tunnel.Index, Mac = mac, Vtep = vtep, Flags = NeighbourFlags.Self })));
        }
        foreach (var (address, neighbour) in neighbours.Where(entry => !addresses.Contains(entry.Key)))
        {
            yield return Diagnosed.Error("neighbour.stale", address.ToString(), $"network {network.Network.Name} still answers for {address} with {neighbour.Mac}, and no endpoint on another node has it", $"in {network.Netns}", $"ip -n {network.Netns} neigh del {address} dev {ObjectNames.Bridge}",
                () => Write(network, socket => new RouteNeighbours(socket).Delete(neighbour)));
        }
    }

    private static void Write(NetworkView network, Action<NetlinkSocket> write)
    {
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        write(socket);
    }
}
