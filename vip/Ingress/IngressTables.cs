using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.Vip.Ingress;

/// <summary>
/// The two tables that make a published port work, for one network and family. On the host: whatever comes to one of its own addresses at
/// a published port goes to the network's end of the uplink. In the network's namespace: from there to a real server. Pure.
/// </summary>
internal static class IngressTables
{
    private const string InsidePrefix = "overlaynet-ingress-";
    private const string Ports = "ports", Servers = "servers", Local = "local", Fronts = "fronts";
    private const uint RtnLocal = 2, DestinationTranslated = 1 << 5;
    private const byte Tcp = 6;

    /// <summary>One published port as the tables need it.</summary>
    internal sealed record Port(byte Protocol, ushort Published, ushort Target, IPAddress[] Buckets, bool Sticky);

    internal static string HostPrefix(string owner) => $"overlaynet-publish-{owner}-";

    internal static NfTable HostTable(NfFamily family, string owner, int vni) => new(family, string.Create(CultureInfo.InvariantCulture, $"{HostPrefix(owner)}{vni}"));

    internal static NfTable InsideTable(NfFamily family, int vni) => new(family, string.Create(CultureInfo.InvariantCulture, $"{InsidePrefix}{vni}"));

    /// <summary>The ports that this node answers: with mode host only those with a real server here.</summary>
    internal static List<Port> PortsOf(VipNetwork network, NfFamily family)
    {
        var ports = new List<Port>();
        foreach (var service in network.Services)
        {
            var fronts = service.Fronts.Where(front => FamilyOf(front.Address) == family).Select(front => new VipPort(front.Protocol, front.Port, front.Target, front.Inside));
            foreach (var port in service.Ports.Where(port => port.Published > 0).Concat(fronts))
            {
                var servers = service.RealServers
                    .Where(server => server.Local || !(port.PublishHostOnly || port.PublishLocalOnly))
                    .Select(server => (Address: family == NfFamily.IPv4 ? server.Address4 : server.Address6, server.Weight))
                    .Where(server => server.Address is not null).ToList();
                if (port.PublishHostOnly && servers.Count == 0)
                    continue;
                var buckets = Buckets.Fill([.. servers.Select(server => server.Weight)]).Select(bucket => servers[bucket].Address!);
                ports.Add(new Port(port.Protocol, port.Published, port.Target, [.. buckets], service.AffinitySeconds > 0 || service.Scheduler is "sh" or "mh"));
            }
        }
        return ports;
    }

    /// <summary>The floating addresses' ports that this network's services answer.</summary>
    internal static List<VipFront> FrontsOf(VipNetwork network, NfFamily family) =>
        [.. network.Services.SelectMany(service => service.Fronts).Where(front => FamilyOf(front.Address) == family)];

    internal static WholeTable Host(NfFamily family, string owner, int vni, IReadOnlyList<Port> ports, IPAddress inside, IReadOnlyList<VipFront>? fronts = null)
    {
        fronts ??= [];
        var table = new WholeTable(HostTable(family, owner, vni));
        table.AddSet(PortSet() with { Flags = NfSetFlags.None });
        foreach (var port in ports)
            table.AddElement(Ports, Key(port), []);
        var length = family == NfFamily.IPv4 ? 4 : 16;
        var words = length / 4;
        if (fronts.Count > 0)
        {
            table.AddSet(NfSet.Map(Fronts, NfType.Concatenate(family == NfFamily.IPv4 ? NfType.IPv4Address : NfType.IPv6Address, NfType.InetProtocol, NfType.InetService), length + 8, NfType.InetService, 2));
            foreach (var front in fronts)
                table.AddElement(Fronts, [.. front.Address.GetAddressBytes(), front.Protocol, 0, 0, 0, (byte)(front.Port >> 8), (byte)front.Port, 0, 0], [(byte)(front.Inside >> 8), (byte)front.Inside]);
        }
        // A connection to a loopback address cannot leave the loopback interface: those stay the host's own.
        var loopback = family == NfFamily.IPv4 ? IPNetwork.Parse("127.0.0.0/8") : IPNetwork.Parse("::1/128");
        // The floating addresses first: while this node holds one it is an address of its own as well.
        NfExpressions[] rules = fronts.Count > 0 ? [FrontRule(), Rule()] : [Rule()];
        table.AddChain(NfChain.Base("prerouting", "nat", NfHook.PreRouting, NfPriority.DestinationNat), rules);
        table.AddChain(NfChain.Base("output", "nat", NfHook.Output, NfPriority.DestinationNat), rules);
        return table;

        // Only where the address is the node's own: its clients elsewhere go to the holder.
        NfExpressions FrontRule() => new NfExpressions()
            .Fib(NfFibFlags.Destination, NfFibResult.AddressType, 0).Compare(NfCompare.Equal, 0, BitConverter.GetBytes(RtnLocal))
            .Payload(NfPayloadBase.Network, family == NfFamily.IPv4 ? 16 : 24, length, 0).Meta(NfMeta.L4Protocol, words).Payload(NfPayloadBase.Transport, 2, 2, words + 1)
            .Map(Fronts, 0, 8).Immediate(12, inside.GetAddressBytes()).DestinationNat(family, 12, 8);

        NfExpressions Rule() => new NfExpressions()
            .Fib(NfFibFlags.Destination, NfFibResult.AddressType, 0).Compare(NfCompare.Equal, 0, BitConverter.GetBytes(RtnLocal))
            .MatchDestination(loopback, inverted: true)
            .Meta(NfMeta.L4Protocol, 0).Payload(NfPayloadBase.Transport, 2, 2, 1).Lookup(Ports, 0)
            .Immediate(0, inside.GetAddressBytes()).DestinationNat(family, 0);
    }

    internal static WholeTable Inside(NfFamily family, VipNetwork network, IReadOnlyList<Port> ports)
    {
        var length = family == NfFamily.IPv4 ? 4 : 16;
        var type = family == NfFamily.IPv4 ? NfType.IPv4Address : NfType.IPv6Address;
        var table = new WholeTable(InsideTable(family, network.Vni));
        table.AddSet(PortSet() with { Flags = NfSetFlags.Map, DataType = NfType.Verdict });
        table.AddSet(NfSet.Map(Servers, NfType.Concatenate(NfType.InetProtocol, NfType.InetService, NfType.Mark), 12, type, length));
        table.AddSet(new NfSet(Local) { KeyType = type, KeyLength = length });
        foreach (var port in ports)
        {
            var chain = string.Create(CultureInfo.InvariantCulture, $"{(port.Protocol == Tcp ? "tcp" : "udp")}-{port.Published}");
            table.AddChain(new NfChain(chain), RulesOf(family, port));
            table.AddElement(Ports, Key(port), NfVerdict.Goto(chain));
            for (var bucket = 0; bucket < port.Buckets.Length; bucket++)
                table.AddElement(Servers, [.. Key(port), .. BitConverter.GetBytes(bucket)], port.Buckets[bucket].GetAddressBytes());
        }
        foreach (var task in network.Tasks)
        {
            if ((family == NfFamily.IPv4 ? task.Address4 : task.Address6) is { } address)
                table.AddElement(Local, address.GetAddressBytes(), []);
        }
        table.AddChain(NfChain.Base("prerouting", "nat", NfHook.PreRouting, NfPriority.DestinationNat), new NfExpressions()
            .MatchInputInterface(network.Uplink).Meta(NfMeta.L4Protocol, 0).Payload(NfPayloadBase.Transport, 2, 2, 1).VerdictMap(Ports, 0));
        var node = family == NfFamily.IPv4 ? network.NodeAddress4 : network.NodeAddress6;
        var subnet = family == NfFamily.IPv4 ? network.Subnet4 : network.Subnet6;
        if (node is not null && subnet is { } inside)
        {
            // A server on another node answers through its own node: only this node's address brings its answers back here.
            table.AddChain(NfChain.Base("postrouting", "nat", NfHook.PostRouting, NfPriority.SourceNat), new NfExpressions()
                .Ct(NfCt.Status, 0).Bitwise(0, 0, BitConverter.GetBytes(DestinationTranslated), [0, 0, 0, 0]).Compare(NfCompare.NotEqual, 0, [0, 0, 0, 0])
                .MatchSource(inside, inverted: true)
                .MatchDestination(inside)
                .Payload(NfPayloadBase.Network, family == NfFamily.IPv4 ? 16 : 24, length, 0).Lookup(Local, 0, inverted: true)
                .Immediate(0, node.GetAddressBytes()).SourceNat(family, 0));
        }
        return table;
    }

    /// <summary>What a host's table publishes.</summary>
    internal static IEnumerable<(byte Protocol, ushort Port)> PublishedIn(NfTables kernel, NfTable table) =>
        kernel.Sets(table).Any(set => set.Set.Name == Ports)
            ? kernel.Elements(table, Ports).Select(element => (element.Key[0], BinaryPrimitives.ReadUInt16BigEndian(element.Key.AsSpan(4))))
            : [];

    internal static NfFamily FamilyOf(IPAddress address) => address.AddressFamily == AddressFamily.InterNetwork ? NfFamily.IPv4 : NfFamily.IPv6;

    private static IEnumerable<NfExpressions> RulesOf(NfFamily family, Port port)
    {
        if (port.Buckets.Length == 0)
        {
            yield return port.Protocol == Tcp
                ? new NfExpressions().Reject(NfReject.TcpReset)
                : new NfExpressions().Reject(NfReject.IcmpUnreachable, family == NfFamily.IPv4 ? (byte)3 : (byte)4);
            yield break;
        }
        var length = family == NfFamily.IPv4 ? 4 : 16;
        yield return port.Sticky
            ? new NfExpressions().Payload(NfPayloadBase.Network, family == NfFamily.IPv4 ? 12 : 8, length, 0).Hash(0, length, 4, (uint)port.Buckets.Length, seed: 0x6f76).CtSet(NfCt.Mark, 4)
            : new NfExpressions().Number(0, (uint)port.Buckets.Length, random: false).CtSet(NfCt.Mark, 0);
        Span<byte> target = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16BigEndian(target, port.Target);
        yield return new NfExpressions()
            .Meta(NfMeta.L4Protocol, 0).Payload(NfPayloadBase.Transport, 2, 2, 1).Ct(NfCt.Mark, 2).Map(Servers, 0, 8)
            .Immediate(12, target).DestinationNat(family, 8, 12);
    }

    private static NfSet PortSet() => new(Ports) { KeyType = NfType.Concatenate(NfType.InetProtocol, NfType.InetService), KeyLength = 8 };

    private static byte[] Key(Port port) => [port.Protocol, 0, 0, 0, (byte)(port.Published >> 8), (byte)port.Published, 0, 0];
}
