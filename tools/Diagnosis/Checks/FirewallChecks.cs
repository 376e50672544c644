using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis.Firewall;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Rules that stop what the overlay lives on: VXLAN, VRRP, the API, DNS, what containers send outside. Names the very rule. Pure.</summary>
internal static class FirewallChecks
{
    private const string Egress = "overlaynet-egress", InsideLink = "up0";
    private const int AnyPort = 49152;

    public static IEnumerable<Diagnosed> Run(CheckupInput input) =>
    [
        .. input is { HostRules: { } rules, Node.Self: { } self } ? Host(input, rules, self) : [],
        .. input.Networks.Where(network => network is { Rules: not null, Reading: not null }).SelectMany(Network),
    ];

    private static IEnumerable<Diagnosed> Host(CheckupInput input, Ruleset rules, Node self)
    {
        var port = Port(input);
        var by = input.Host.Having(self.Address)?.Name;
        if (input.Networks.Count > 0)
        {
            var peers = input.Node.Snapshot.Nodes.Where(node => node.Id != self.Id).OrderBy(node => node.Name, StringComparer.Ordinal).ToList();
            var incoming = peers.Select(peer => (Way: "from", peer.Name, Refusal: VxlanFilter.StopsFrom(rules, peer.Address, self.Address, port, by)));
            var outgoing = peers.Select(peer => (Way: "to", peer.Name, Refusal: VxlanFilter.StopsTo(rules, self.Address, peer.Address, port, by)));
            // One rule is one fault, however many nodes it is about.
            foreach (var stopped in incoming.Concat(outgoing).Where(packet => packet.Refusal is not null).GroupBy(packet => (packet.Way, Rule: packet.Refusal!.ToString())))
            {
                yield return Diagnosed.Error("firewall.vxlan", $"UDP {Text.Number(port)} {stopped.Key.Way} {string.Join(", ", stopped.Select(packet => packet.Name))}",
                    "this host's packet filter stops VXLAN", stopped.Key.Rule, stopped.First().Refusal!.Remedy($"udp dport {Text.Number(port)}"));
            }
        }
        if (self.Role == NodeRole.Manager && input.Node.Snapshot.Nodes.FirstOrDefault(node => node.Id != self.Id) is { } client
            && RulesetWalk.Stops(rules, new FilteredPacket(client.Address, self.Address, FilteredPacket.Tcp, AnyPort, self.ApiPort, Input: by), "prerouting", "input") is { } api)
            yield return Diagnosed.Error("firewall.api", $"TCP {Text.Number(self.ApiPort)}", "this host's packet filter stops other nodes' requests to the manager", api.ToString(), api.Remedy($"tcp dport {Text.Number(self.ApiPort)}"));
        foreach (var vip in input.Node.Snapshot.Vips)
        {
            foreach (var v6 in vip.Addresses.Select(address => address.Contains(':')).Distinct())
            {
                var group = IPAddress.Parse(v6 ? "ff02::12" : "224.0.0.18");
                var from = IPAddress.Parse(v6 ? "fe80::1" : "192.0.2.255");
                var mine = v6 ? IPAddress.Parse("fe80::2") : self.Address.AddressFamily == AddressFamily.InterNetwork ? self.Address : from;
                var stop = RulesetWalk.Stops(rules, new FilteredPacket(from, group, FilteredPacket.Vrrp, Input: vip.Interface), "prerouting", "input")
                    ?? RulesetWalk.Stops(rules, new FilteredPacket(mine, group, FilteredPacket.Vrrp, Output: vip.Interface), "output", "postrouting");
                if (stop is not null)
                    yield return Diagnosed.Error("firewall.vrrp", vip.Name, "this host's packet filter stops VRRP (protocol 112): every node believes itself alone", stop.ToString(), stop.Remedy("meta l4proto 112"));
            }
        }
        foreach (var network in input.Networks.Where(network => !network.Network.Internal))
        {
            // The link that a network's packets come out of on the host's side.
            if (input.Host.Links.FirstOrDefault(link => link.Alias?.EndsWith($":{self.Id}:{network.Network.Name}", StringComparison.Ordinal) == true) is not { } transit)
                continue;
            foreach (var (from, to) in new[] { ("169.254.64.1", "203.0.113.1"), ("fd6f:7665:726c:6179::1", "2001:db8:ffff::1") })
            {
                var destination = IPAddress.Parse(to);
                if ((destination.AddressFamily == AddressFamily.InterNetwork ? network.Network.Subnet4 : network.Network.Subnet6) is null || input.Host.RouteTo(destination) is not { } route)
                    continue;
                if (RulesetWalk.Stops(rules, new FilteredPacket(IPAddress.Parse(from), destination, FilteredPacket.Tcp, AnyPort, 443, transit.Name, input.Host.NameOf(route.Interface)), "forward") is { } refusal)
                    yield return Diagnosed.Error("firewall.forward", network.Network.Name, "this host's packet filter stops what containers send outside", refusal.ToString(), refusal.Remedy($"iifname \"{transit.Name}\""));
            }
        }
    }

    private static IEnumerable<Diagnosed> Network(NetworkView network)
    {
        var rules = network.Rules!;
        foreach (var gateway in new[] { network.Network.Gateway4, network.Network.Gateway6 }.OfType<IPAddress>())
        {
            var client = (gateway.AddressFamily == AddressFamily.InterNetwork ? network.Own?.Address4 : network.Own?.Address6) ?? gateway;
            foreach (var (protocol, word) in new[] { (FilteredPacket.Udp, "udp"), (FilteredPacket.Tcp, "tcp") })
            {
                if (RulesetWalk.Stops(rules, new FilteredPacket(client, gateway, protocol, AnyPort, 53, ObjectNames.Bridge), "prerouting", "input") is { } refusal)
                    yield return Diagnosed.Error("firewall.dns", $"{word.ToUpperInvariant()} 53 in network {network.Network.Name}", $"a rule in {network.Netns} stops DNS queries of its containers", refusal.ToString(), $"ip netns exec {network.Netns} {refusal.Remedy($"{word} dport 53")}");
            }
        }
        if (!network.Network.Internal && network.Reading!.Link(InsideLink) is not null && !rules.Has("inet", Egress, "postrouting", "masquerade"))
            yield return Diagnosed.Error("nat.missing", network.Network.Name, $"{network.Netns} has no masquerade rule: what containers send outside has no way back", $"no 'masquerade' in chain postrouting of table inet {Egress}", "the daemon makes the table again within seconds when it runs: overlaynet status");
    }

    private static int Port(CheckupInput input) => input.Networks.Select(network => network.Reading?.Link(ObjectNames.Tunnel)?.Vxlan?.Port).FirstOrDefault(port => port is not null) ?? 4789;
}
