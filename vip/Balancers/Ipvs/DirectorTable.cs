using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// What IPVS does not do by itself, in the network's namespace: packets to port-less services get the firewall mark they
/// are looked up by, and a TCP service that takes no connections answers with a reset. (IPVS sends an ICMP error, which the kernel limits to one a
/// second for each client, and which a connect(2) under way notices only when it repeats its SYN.) Pure.
/// </summary>
internal static class DirectorTable
{
    private const string Incoming = "incoming", Outgoing = "outgoing", Delivered = "delivered";

    // FIN, SYN, RST and ACK in octet 13 of the TCP header; a new connection has SYN alone.
    private const int TcpFlagsOffset = 13;
    private const byte TcpFlagsMask = 0x17, TcpSyn = 0x02;

    internal static NftLayout Layout { get; } = new(
        new NfTable(NfFamily.Inet, "overlaynet-ipvs"),
        "overlaynet ipvs director 1",
        [.. Sets(NfProtocol.IPv4), .. Sets(NfProtocol.IPv6)],
        [
            NfChain.Base(Incoming, "filter", NfHook.PreRouting, NfPriority.Mangle),
            NfChain.Base(Outgoing, "filter", NfHook.Output, NfPriority.Mangle),
            NfChain.Base(Delivered, "filter", NfHook.Input, NfPriority.Filter),
        ],
        [.. Rules(NfProtocol.IPv4), .. Rules(NfProtocol.IPv6)]);

    internal static List<NftElement> Elements(IpvsPlan plan)
    {
        var elements = new List<NftElement>();
        foreach (var ((address, protocol), mark) in plan.Marks)
        {
            elements.Add(NftElement.Of("marks" + Suffix(address.AddressFamily), [.. address.GetAddressBytes(), protocol, 0, 0, 0], BitConverter.GetBytes(mark)));
            if (protocol == VipPort.Tcp && Refuses(plan.Services[IpvsServiceKey.OfMark(address.AddressFamily, mark)]))
                elements.Add(NftElement.Of("closed" + Suffix(address.AddressFamily), address.GetAddressBytes()));
        }
        foreach (var (key, planned) in plan.Services)
        {
            if (key.Address is not null && key.Protocol == VipPort.Tcp && Refuses(planned))
                elements.Add(NftElement.Of("closedports" + Suffix(key.Family), [.. key.Address.GetAddressBytes(), (byte)(key.Port >> 8), (byte)key.Port, 0, 0]));
        }
        return elements;
    }

    private static bool Refuses(PlannedService planned) => planned.Destinations.All(one => one.Destination.Weight == 0);

    private static IEnumerable<NfSet> Sets(NfProtocol protocol)
    {
        var type = protocol.AddressLength == 4 ? NfType.IPv4Address : NfType.IPv6Address;
        yield return NfSet.Map(Marks(protocol), NfType.Concatenate(type, NfType.InetProtocol), protocol.AddressLength + 4, NfType.Mark, 4);
        yield return new NfSet(ClosedPorts(protocol)) { KeyType = NfType.Concatenate(type, NfType.InetService), KeyLength = protocol.AddressLength + 4 };
        yield return new NfSet(Closed(protocol)) { KeyType = type, KeyLength = protocol.AddressLength };
    }

    private static IEnumerable<(string, NfExpressions)> Rules(NfProtocol protocol)
    {
        foreach (var chain in (string[])[Incoming, Outgoing])
            yield return (chain, Destination(new NfExpressions(), protocol).Meta(NfMeta.L4Protocol, protocol.AddressLength / 4).Map(Marks(protocol), 0, 8).MetaSet(NfMeta.Mark, 8));
        yield return (Delivered, Destination(NewTcp(), protocol).Payload(NfPayloadBase.Transport, 2, 2, protocol.AddressLength / 4).Lookup(ClosedPorts(protocol), 0).Reject(NfReject.TcpReset));
        yield return (Delivered, Destination(NewTcp(), protocol).Lookup(Closed(protocol), 0).Reject(NfReject.TcpReset));
    }

    private static NfExpressions NewTcp() => new NfExpressions()
        .MatchL4Protocol(VipPort.Tcp)
        .Payload(NfPayloadBase.Transport, TcpFlagsOffset, 1, 0).Bitwise(0, 0, [TcpFlagsMask], [0]).Compare(NfCompare.Equal, 0, [TcpSyn]);

    private static NfExpressions Destination(NfExpressions expressions, NfProtocol protocol) => expressions
        .Meta(NfMeta.NfProtocol, 0).Compare(NfCompare.Equal, 0, [protocol.Number])
        .Payload(NfPayloadBase.Network, protocol.DestinationOffset, protocol.AddressLength, 0);

    private static string Marks(NfProtocol protocol) => "marks" + Suffix(protocol.Family);

    private static string ClosedPorts(NfProtocol protocol) => "closedports" + Suffix(protocol.Family);

    private static string Closed(NfProtocol protocol) => "closed" + Suffix(protocol.Family);

    private static char Suffix(NfFamily family) => family == NfFamily.IPv4 ? '4' : '6';

    private static char Suffix(AddressFamily family) => family == AddressFamily.InterNetwork ? '4' : '6';
}

/// <summary>Where things are in a packet of one family.</summary>
internal readonly record struct NfProtocol(NfFamily Family, byte Number, int SourceOffset, int DestinationOffset, int AddressLength)
{
    internal static NfProtocol IPv4 => new(NfFamily.IPv4, 2, 12, 16, 4);
    internal static NfProtocol IPv6 => new(NfFamily.IPv6, 10, 8, 24, 16);
}
