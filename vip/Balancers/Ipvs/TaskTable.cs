using System.Buffers.Binary;
using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// In the namespace of a task behind services. Direct routing delivers packets still addressed to the virtual IP; here
/// they become packets to the task itself, and the target port. So servers bound to their own address see them, UDP servers on the
/// wildcard answer from the right address (connection tracking turns the source back), and the VIP need not be on an interface. Pure.
/// </summary>
internal static class TaskTable
{
    private const string Outgoing = "outgoing", Incoming = "incoming", Translate = "translate";

    internal static NfTable Table(int vni) => new(NfFamily.Inet, $"overlaynet-ipvs-{vni}");

    /// <param name="task">Its addresses are part of the rules.</param>
    internal static NftLayout Layout(int vni, VipTask task)
    {
        List<(string, NfExpressions)> rules = [];
        foreach (var (protocol, own) in Families(task))
        {
            // A task may be chosen for its own connection. The packet that comes back must not be taken for the one that left, whose
            // translation was settled (to none) on the way out: what goes to these addresses, and what comes from them, is not tracked.
            rules.Add((Outgoing, Start(protocol, protocol.DestinationOffset).Lookup(Vips(protocol), 0).NoTrack()));
            rules.Add((Incoming, Start(protocol, protocol.SourceOffset).Lookup(Vips(protocol), 0).NoTrack()));
            var next = protocol.AddressLength / 4;
            rules.Add((Translate, Start(protocol, protocol.DestinationOffset)
                .Meta(NfMeta.L4Protocol, next)
                .Payload(NfPayloadBase.Transport, 2, 2, next + 1)
                .Map(Ports(protocol), 0, 8)
                .Immediate(9, own.GetAddressBytes())
                .DestinationNat(protocol.Family, 9, 8)));
            rules.Add((Translate, Start(protocol, protocol.DestinationOffset)
                .Lookup(AllPorts(protocol), 0)
                .Immediate(9, own.GetAddressBytes())
                .DestinationNat(protocol.Family, 9)));
        }
        return new NftLayout(
            Table(vni),
            $"overlaynet ipvs task 1 {task.Address4} {task.Address6}",
            [.. Families(task).SelectMany(family => Sets(family.Protocol))],
            [
                NfChain.Base(Outgoing, "filter", NfHook.Output, NfPriority.Raw),
                NfChain.Base(Incoming, "filter", NfHook.PreRouting, NfPriority.Raw),
                NfChain.Base(Translate, "nat", NfHook.PreRouting, NfPriority.DestinationNat),
            ],
            rules);
    }

    /// <summary>What the task must translate: for every service it is a real server of.</summary>
    internal static List<NftElement> Elements(VipNetwork network, VipTask task)
    {
        var elements = new HashSet<NftElement>();
        foreach (var service in network.Services.Where(service => service.RealServers.Any(server => server.EndpointId == task.EndpointId)))
        {
            foreach (var address in service.Addresses)
            {
                var octets = address.GetAddressBytes();
                if ((octets.Length == 4 ? task.Address4 : task.Address6) is null)
                    continue;
                var protocol = octets.Length == 4 ? NfProtocol.IPv4 : NfProtocol.IPv6;
                elements.Add(NftElement.Of(Vips(protocol), octets));
                if (service.Ports.Count == 0)
                    elements.Add(NftElement.Of(AllPorts(protocol), octets));
                foreach (var port in service.Ports)
                {
                    byte[] key = [.. octets, port.Protocol, 0, 0, 0, .. Port(port.Port), 0, 0];
                    elements.Add(NftElement.Of(Ports(protocol), key, Port(port.Target)));
                }
            }
        }
        return [.. elements];
    }

    /// <summary>An element for a person: what is translated, and to which port.</summary>
    internal static string Describe(NftElement element)
    {
        var key = Convert.FromHexString(element.Key);
        var length = element.Set[^1] == '4' ? 4 : 16;
        var address = new IPAddress(key.AsSpan(0, length));
        if (!element.Set.StartsWith("ports", StringComparison.Ordinal))
            return $"{element.Set} {address}";
        var port = BinaryPrimitives.ReadUInt16BigEndian(key.AsSpan(length + 4));
        var target = BinaryPrimitives.ReadUInt16BigEndian(Convert.FromHexString(element.Data));
        return $"{(key[length] == VipPort.Udp ? "udp" : "tcp")} {new IPEndPoint(address, port)} to port {target}";
    }

    private static IEnumerable<(NfProtocol Protocol, IPAddress Own)> Families(VipTask task)
    {
        if (task.Address4 is not null)
            yield return (NfProtocol.IPv4, task.Address4);
        if (task.Address6 is not null)
            yield return (NfProtocol.IPv6, task.Address6);
    }

    private static IEnumerable<NfSet> Sets(NfProtocol protocol)
    {
        var type = protocol.AddressLength == 4 ? NfType.IPv4Address : NfType.IPv6Address;
        yield return new NfSet(Vips(protocol)) { KeyType = type, KeyLength = protocol.AddressLength };
        yield return new NfSet(AllPorts(protocol)) { KeyType = type, KeyLength = protocol.AddressLength };
        yield return NfSet.Map(Ports(protocol), NfType.Concatenate(type, NfType.InetProtocol, NfType.InetService), protocol.AddressLength + 8, NfType.InetService, 2);
    }

    private static NfExpressions Start(NfProtocol protocol, int addressOffset) => new NfExpressions()
        .Meta(NfMeta.NfProtocol, 0).Compare(NfCompare.Equal, 0, [protocol.Number])
        .Payload(NfPayloadBase.Network, addressOffset, protocol.AddressLength, 0);

    private static byte[] Port(ushort port) => [(byte)(port >> 8), (byte)port];

    private static string Vips(NfProtocol protocol) => "vips" + Suffix(protocol);

    private static string AllPorts(NfProtocol protocol) => "allports" + Suffix(protocol);

    private static string Ports(NfProtocol protocol) => "ports" + Suffix(protocol);

    private static char Suffix(NfProtocol protocol) => protocol.AddressLength == 4 ? '4' : '6';
}
