using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>In the network's namespace: gives packets to port-less services the firewall mark that IPVS looks them up by. Pure.</summary>
internal static class MarkTable
{
    private const string Marks4 = "marks4", Marks6 = "marks6", Incoming = "incoming", Outgoing = "outgoing";

    internal static NftLayout Layout { get; } = new(
        new NfTable(NfFamily.Inet, "overlaynet-ipvs"),
        "overlaynet ipvs marks 1",
        [Map(Marks4, NfType.IPv4Address, 4), Map(Marks6, NfType.IPv6Address, 16)],
        [
            NfChain.Base(Incoming, "filter", NfHook.PreRouting, NfPriority.Mangle),
            NfChain.Base(Outgoing, "filter", NfHook.Output, NfPriority.Mangle),
        ],
        [
            (Incoming, Mark(Marks4, NfProtocol.IPv4)), (Incoming, Mark(Marks6, NfProtocol.IPv6)),
            (Outgoing, Mark(Marks4, NfProtocol.IPv4)), (Outgoing, Mark(Marks6, NfProtocol.IPv6)),
        ]);

    internal static List<NftElement> Elements(IpvsPlan plan)
    {
        var elements = new List<NftElement>();
        foreach (var ((address, protocol), mark) in plan.Marks)
        {
            byte[] key = [.. address.GetAddressBytes(), protocol, 0, 0, 0];
            elements.Add(NftElement.Of(key.Length == 8 ? Marks4 : Marks6, key, BitConverter.GetBytes(mark)));
        }
        return elements;
    }

    private static NfSet Map(string name, uint addressType, int addressLength) =>
        NfSet.Map(name, NfType.Concatenate(addressType, NfType.InetProtocol), addressLength + 4, NfType.Mark, 4);

    private static NfExpressions Mark(string map, NfProtocol protocol) => new NfExpressions()
        .Meta(NfMeta.NfProtocol, 0).Compare(NfCompare.Equal, 0, [protocol.Number])
        .Payload(NfPayloadBase.Network, protocol.DestinationOffset, protocol.AddressLength, 0)
        .Meta(NfMeta.L4Protocol, protocol.AddressLength / 4)
        .Map(map, 0, 8)
        .MetaSet(NfMeta.Mark, 8);
}

/// <summary>Where things are in a packet of one family.</summary>
internal readonly record struct NfProtocol(NfFamily Family, byte Number, int SourceOffset, int DestinationOffset, int AddressLength)
{
    internal static NfProtocol IPv4 => new(NfFamily.IPv4, 2, 12, 16, 4);
    internal static NfProtocol IPv6 => new(NfFamily.IPv6, 10, 8, 24, 16);
}
