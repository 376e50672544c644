using System.Globalization;
using System.Net;
using System.Text;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>What a capture's points and addresses are called in the cluster; for decoded lines. All look-ups may return null.</summary>
internal interface IPacketNames
{
    /// <summary>Name of an endpoint, service or node that has this address inside the network (or on the underlay).</summary>
    /// <param name="vni">The network it was seen in; null: unknown.</param>
    string? Of(IPAddress address, int? vni);

    string? Network(int vni);
}

/// <summary>No names: addresses as they are.</summary>
internal sealed class NoNames : IPacketNames
{
    public static NoNames Instance { get; } = new();

    public string? Of(IPAddress address, int? vni) => null;

    public string? Network(int vni) => null;
}

/// <summary>One packet as one line: time, point, and the layers from the outside in.</summary>
internal sealed class PacketText(IPacketNames names)
{
    private readonly IPacketNames _names = names;

    public string Line(DecodedPacket packet)
    {
        var text = new StringBuilder();
        var time = DateTimeOffset.UnixEpoch.AddTicks(packet.TimeNs / 100).ToLocalTime();
        text.Append(time.ToString("HH:mm:ss.ffffff", CultureInfo.InvariantCulture));
        if (packet.Point.Length > 0)
            text.Append("  ").Append(packet.Point);
        text.Append("  ");
        Describe(text, packet, null);
        return text.ToString();
    }

    private void Describe(StringBuilder text, DecodedPacket packet, int? vni)
    {
        if (packet.Vxlan is { } vxlan)
        {
            text.Append("VXLAN ").Append(vxlan.Vni);
            if (_names.Network(vxlan.Vni) is { } network)
                text.Append(" (").Append(network).Append(')');
            text.Append(' ').Append(Address(packet.Ip!.Source, null)).Append(" > ").Append(Address(packet.Ip.Destination, null));
            if (packet.Inner is { } inner)
            {
                text.Append(" | ");
                Describe(text, inner, vxlan.Vni);
            }
        }
        else if (packet.Arp is { } arp)
        {
            text.Append(Arp(arp, vni));
        }
        else if (packet.Vrrp is { } vrrp)
        {
            text.Append(Vrrp(packet.Ip!, vrrp));
        }
        else if (packet.Ip is { } ip)
        {
            Ip(text, packet, ip, vni);
        }
        else if (packet.Ethernet is { } ethernet)
        {
            text.Append(CultureInfo.InvariantCulture, $"{ethernet.Source} > {ethernet.Destination} type 0x{ethernet.Type:x4} length {packet.Length}");
        }
        if (packet.Malformed is { } malformed)
            text.Append(" [malformed: ").Append(malformed).Append(']');
        else if (packet.Cut && packet.Ip is null && packet.Arp is null)
            text.Append(" [cut]");
    }

    private string Arp(ArpMessage arp, int? vni) => arp switch
    {
        { Gratuitous: true } => $"ARP announcement: {Address(arp.Sender, vni)} is at {arp.SenderMac}",
        { Operation: ArpMessage.Request } => $"ARP who has {Address(arp.Target, vni)}, tell {Address(arp.Sender, vni)}",
        { Operation: ArpMessage.Reply } => $"ARP {Address(arp.Sender, vni)} is at {arp.SenderMac}",
        _ => $"ARP operation {arp.Operation.ToString(CultureInfo.InvariantCulture)}",
    };

    private string Vrrp(IpHeader ip, VrrpMessage vrrp)
    {
        if (vrrp.Carp)
            return $"{Address(ip.Source, null)} > {ip.Destination} CARP";
        var text = new StringBuilder().Append(CultureInfo.InvariantCulture, $"{Address(ip.Source, null)} > {ip.Destination} VRRPv{vrrp.Version} VRID {vrrp.VirtualRouterId} priority {vrrp.Priority}");
        if (vrrp.Priority == 0)
            text.Append(" (release)");
        text.Append(CultureInfo.InvariantCulture, $" interval {vrrp.IntervalCs * 10} ms, {string.Join(", ", vrrp.Addresses)}");
        if (vrrp.ChecksumMode.Length > 0)
            text.Append(", checksum over ").Append(vrrp.ChecksumMode);
        if (vrrp.Problem is { } problem)
            text.Append(" [").Append(problem).Append(']');
        return text.ToString();
    }

    private void Ip(StringBuilder text, DecodedPacket packet, IpHeader ip, int? vni)
    {
        if (packet.Tcp is { } tcp)
        {
            text.Append("TCP ").Append(Address(ip.Source, vni, tcp.SourcePort)).Append(" > ").Append(Address(ip.Destination, vni, tcp.DestinationPort));
            text.Append(' ').Append(Flags(tcp.Flags));
            if (tcp.PayloadLength > 0)
                text.Append(CultureInfo.InvariantCulture, $" {tcp.PayloadLength} octets");
            if (packet.HttpLine is { } http)
                text.Append(" \"").Append(http).Append('"');
            if (tcp.Checksum == ChecksumState.Wrong)
                text.Append(" [checksum wrong]");
        }
        else if (packet.Udp is { } udp)
        {
            text.Append("UDP ").Append(Address(ip.Source, vni, udp.SourcePort)).Append(" > ").Append(Address(ip.Destination, vni, udp.DestinationPort));
            text.Append(CultureInfo.InvariantCulture, $" {udp.PayloadLength} octets");
            if (udp.Checksum == ChecksumState.Wrong)
                text.Append(" [checksum wrong]");
        }
        else if (packet.Icmp is { } icmp)
        {
            text.Append(icmp.V6 ? "ICMPv6 " : "ICMP ").Append(Address(ip.Source, vni)).Append(" > ").Append(Address(ip.Destination, vni)).Append(' ').Append(Icmp(icmp, vni));
            if (packet.Inner is { } inner)
            {
                text.Append(" about ");
                Describe(text, inner, vni);
            }
        }
        else
        {
            text.Append(CultureInfo.InvariantCulture, $"IP {Address(ip.Source, vni)} > {Address(ip.Destination, vni)} protocol {ip.Protocol}");
        }
        if (ip.Fragment)
            text.Append(CultureInfo.InvariantCulture, $" [fragment at {ip.FragmentOffset}{(ip.MoreFragments ? ", more to come" : "")}]");
        if (ip.ChecksumRight == false)
            text.Append(" [IP checksum wrong]");
        if (packet.Dns is { } dns)
            text.Append(" DNS ").Append(Dns(dns));
    }

    private static string Dns(DnsMessage dns)
    {
        if (!dns.Response)
            return string.Create(CultureInfo.InvariantCulture, $"#{dns.Id} {dns.Type} {dns.Name}?");
        var what = dns.Answers.Count > 0 ? string.Join(", ", dns.Answers) : "no answer";
        return string.Create(CultureInfo.InvariantCulture, $"#{dns.Id} {dns.Type} {dns.Name}: {dns.Rcode}{(dns.Truncated ? " truncated" : "")}, {what}");
    }

    private string Icmp(IcmpMessage icmp, int? vni) => icmp switch
    {
        { EchoRequest: true } => string.Create(CultureInfo.InvariantCulture, $"echo request {icmp.Identifier}/{icmp.Sequence}"),
        { EchoReply: true } => string.Create(CultureInfo.InvariantCulture, $"echo reply {icmp.Identifier}/{icmp.Sequence}"),
        { TooBig: true } => string.Create(CultureInfo.InvariantCulture, $"too big, MTU {icmp.Mtu}"),
        { Unreachable: true } => string.Create(CultureInfo.InvariantCulture, $"unreachable, code {icmp.Code}"),
        { NeighbourSolicitation: true, Target: { } target } => $"who has {Address(target, vni)}",
        { NeighbourAdvertisement: true, Target: { } target } => $"{Address(target, vni)} is at {icmp.LinkAddress?.ToString() ?? "?"}",
        _ => string.Create(CultureInfo.InvariantCulture, $"type {icmp.Type} code {icmp.Code}"),
    };

    private static string Flags(TcpFlags flags)
    {
        var text = new StringBuilder("[");
        foreach (var (flag, letter) in new[] { (TcpFlags.Syn, 'S'), (TcpFlags.Fin, 'F'), (TcpFlags.Rst, 'R'), (TcpFlags.Psh, 'P'), (TcpFlags.Ack, '.'), (TcpFlags.Urg, 'U') })
        {
            if (flags.HasFlag(flag))
                text.Append(letter);
        }
        return text.Append(']').ToString();
    }

    private string Address(IPAddress address, int? vni, int? port = null)
    {
        var plain = port is null ? address.ToString() : new IPEndPoint(address, port.Value).ToString();
        return _names.Of(address, vni) is { } name ? $"{plain} ({name})" : plain;
    }
}
