using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>The way to every other node, tried out: small and full-sized echo through VXLAN, and a segment with a checksum.</summary>
internal static class PathChecks
{
    private const int Small = 84;

    // RFC 863: nobody listens there, so a node answers a connection with a reset at once.
    private const int Discard = 9;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(1);

    public static IEnumerable<Diagnosed> Run(CheckupInput input)
    {
        var ways = input.Networks.Where(network => network is { Reading: not null, Own: not null })
            .SelectMany(network => network.Remote.Where(other => other.Kind == EndpointKind.Node)
                .SelectMany(other => new[] { (network, other, From: network.Own!.Address4, To: other.Address4), (network, other, From: network.Own.Address6, To: other.Address6) }))
            .Where(way => way is { From: not null, To: not null }).ToList();
        return SideBySide.Run(ways, way => Probe(input, way.network, input.Node.NodeNameOf(way.other.NodeId), way.From!, way.To!)).OfType<Diagnosed>()
            // Both families fail together: said once.
            .GroupBy(finding => (finding.Finding.Check, finding.Finding.Object)).Select(group => group.First()).ToList();
    }

    private static Diagnosed? Probe(CheckupInput input, NetworkView network, string node, IPAddress from, IPAddress to)
    {
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        var tunnel = network.Reading!.Link(ObjectNames.Tunnel);
        var port = tunnel?.Vxlan?.Port ?? 4789;
        var mtu = tunnel?.Mtu ?? 0;
        var @object = $"{network.Network.Name} to {node}";
        bool Echoes(int octets) => EchoProbe.Send(netns, from, to, octets, Timeout) is not null || EchoProbe.Send(netns, from, to, octets, Timeout) is not null;
        if (!Echoes(Small))
        {
            var peer = input.Node.Snapshot.Nodes.FirstOrDefault(known => known.Name == node);
            var underlay = peer is not null && input.Node.Self is { } self && self.Address.AddressFamily == peer.Address.AddressFamily
                ? EchoProbe.Send(input.Node.Host, self.Address, peer.Address, Small, Timeout) is null ? $"; {peer.Address} itself does not answer either: the underlay is cut, or it filters echo" : $"; {peer.Address} itself answers: only VXLAN is stopped"
                : "";
            var (lost, counted, open) = Lost(input.Way(node, network.Network.Name, to.AddressFamily == AddressFamily.InterNetworkV6 ? 6 : 4), input.Node.Name, node);
            return Diagnosed.Error("vxlan.path", @object, $"{to} on node {node} does not answer through VXLAN{lost}",
                $"2 echo requests from {from}, none answered within {Timeout.TotalSeconds:0} s{underlay}{counted}", $"let UDP {Text.Number(port)} pass {open} ({input.Node.Self?.Address} and {peer?.Address}); 'overlaynet doctor' on {node} names a rule that stops it there");
        }
        if (mtu > 0 && !Echoes(mtu))
            return Diagnosed.Error("vxlan.mtu", @object, $"packets of {Text.Number(mtu)} octets do not reach node {node}, small ones do", $"echo of {Text.Number(Small)} octets answered, of {Text.Number(mtu)} not", "the path between the nodes has a smaller MTU than their interfaces: create the network with --mtu, or mend the path");
        var before = ChecksumErrors(netns);
        if (Answers(netns, from, to) || Answers(netns, from, to))
            return null;
        return Diagnosed.Error("vxlan.checksum", @object, $"TCP segments do not get to node {node} or back, echo does: their checksums are damaged on the way, or they are filtered",
            $"2 segments to port {Text.Number(Discard)} of {to}, no reset; checksum errors here {Text.Number(before)} before, {Text.Number(ChecksumErrors(netns))} after", $"ip netns exec {network.Netns} ethtool -K {ObjectNames.Tunnel} tx off (and on the underlay's interface, on both nodes): offload that miscounts inner checksums");
    }

    /// <summary>Which way is lost, by what both nodes counted.</summary>
    /// <returns>For the message, for the evidence, and which way has to be opened.</returns>
    public static (string Lost, string Counted, string Open) Lost(PathReport? way, string self, string node)
    {
        if (way is null)
            return ("", "", $"both ways between {self} and {node}");
        var counted = string.Create(CultureInfo.InvariantCulture, $"; of {way.Sent} datagrams from {self} {way.There} arrived at {node}, of {way.Sent} from {node} {way.Back} arrived at {self}");
        return (way.There, way.Back) switch
        {
            (0, > 0) => ($": what goes from {self} to {node} is lost, what comes back is not", counted, $"from {self} to {node}"),
            ( > 0, 0) => ($": what goes from {node} to {self} is lost, the other way it arrives", counted, $"from {node} to {self}"),
            (0, 0) => (": it is lost both ways", counted, $"both ways between {self} and {node}"),
            _ => (": echo is stopped, other packets pass", counted, $"both ways between {self} and {node}, echo too"),
        };
    }

    /// <summary>A segment comes back, whatever is in it.</summary>
    private static bool Answers(NetworkNamespace netns, IPAddress from, IPAddress to)
    {
        using var socket = netns.Run(() => new Socket(to.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
        socket.Bind(new IPEndPoint(from, 0));
        return BoundedConnect.To(socket, new IPEndPoint(to, Discard), Timeout) is null or SocketError.ConnectionRefused;
    }

    /// <summary>InCsumErrors of TCP, of the namespace.</summary>
    private static int ChecksumErrors(NetworkNamespace netns) => netns.Run(() =>
    {
        var lines = File.ReadAllLines("/proc/thread-self/net/snmp").Where(line => line.StartsWith("Tcp:", StringComparison.Ordinal)).ToArray();
        var at = lines.Length == 2 ? Array.IndexOf(lines[0].Split(' '), "InCsumErrors") : -1;
        return at > 0 && int.TryParse(lines[1].Split(' ')[at], NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count : 0;
    });
}
