using System.Net;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>
/// A frame taken apart as far as it goes. Layers that are not there are null; <see cref="Inner"/> is what a VXLAN frame
/// or an ICMP error carries. Addresses are values, numbers are in host order.
/// </summary>
internal sealed class DecodedPacket
{
    /// <summary>Nanoseconds since 1970, UTC; 0 for what is inside another packet.</summary>
    public long TimeNs { get; init; }

    /// <summary>Where it was seen: the capture interface's name.</summary>
    public string Point { get; init; } = "";

    /// <summary>Octets on the wire; more than were captured when a snap length cut it.</summary>
    public int Length { get; init; }

    public EthernetHeader? Ethernet { get; set; }
    public ArpMessage? Arp { get; set; }
    public IpHeader? Ip { get; set; }
    public TcpHeader? Tcp { get; set; }
    public UdpHeader? Udp { get; set; }
    public IcmpMessage? Icmp { get; set; }
    public VxlanHeader? Vxlan { get; set; }
    public VrrpMessage? Vrrp { get; set; }
    public DnsMessage? Dns { get; set; }
    public DecodedPacket? Inner { get; set; }

    /// <summary>The first line of a TCP payload that looks like HTTP/1.</summary>
    public string? HttpLine { get; set; }

    /// <summary>What cannot be read, and why; null when everything that is known was well-formed.</summary>
    public string? Malformed { get; set; }

    /// <summary>The snap length cut it: what is missing is no fault of the sender.</summary>
    public bool Cut { get; set; }

    /// <summary>The packet and what it carries, from the outside in.</summary>
    public IEnumerable<DecodedPacket> Layers()
    {
        for (var packet = this; packet is not null; packet = packet.Inner)
            yield return packet;
    }
}

/// <param name="Vlan">802.1Q tag's id; null when untagged.</param>
internal sealed record EthernetHeader(MacAddress Source, MacAddress Destination, ushort Type, int? Vlan);

/// <summary>RFC 826.</summary>
internal sealed record ArpMessage(int Operation, MacAddress SenderMac, IPAddress Sender, MacAddress TargetMac, IPAddress Target)
{
    public const int Request = 1, Reply = 2;

    /// <summary>Announces its own address (RFC 5227 section 3), as a request or as a reply.</summary>
    public bool Gratuitous => Sender.Equals(Target);
}

/// <param name="Protocol">The upper protocol, IPv6 extension headers passed over.</param>
/// <param name="ChecksumRight">Null for IPv6 and where the header is not all there.</param>
/// <param name="FragmentOffset">In octets.</param>
internal sealed record IpHeader(
    IPAddress Source, IPAddress Destination, byte Protocol, int HopLimit, int TotalLength,
    bool DontFragment, bool MoreFragments, int FragmentOffset, int Identification, bool? ChecksumRight)
{
    public bool Fragment => MoreFragments || FragmentOffset > 0;
}

/// <summary>How a transport checksum looks in a capture.</summary>
internal enum ChecksumState
{
    /// <summary>A fragment, a cut packet, or none was given (RFC 768; VXLAN over IPv4 does so).</summary>
    Unknown,
    Right,

    /// <summary>Only the pseudo-header is summed: the sender's card, or a veth, is to complete it. Not damage.</summary>
    Offloaded,
    Wrong,
}

[Flags]
internal enum TcpFlags : byte
{
    Fin = 1,
    Syn = 2,
    Rst = 4,
    Psh = 8,
    Ack = 16,
    Urg = 32,
}

internal sealed record TcpHeader(int SourcePort, int DestinationPort, uint Sequence, uint Acknowledgement, TcpFlags Flags, int PayloadLength, ChecksumState Checksum);

internal sealed record UdpHeader(int SourcePort, int DestinationPort, int PayloadLength, ChecksumState Checksum);

/// <summary>ICMP (RFC 792) or ICMPv6 (RFC 4443, RFC 4861).</summary>
/// <param name="Mtu">Of "fragmentation needed" and "packet too big".</param>
/// <param name="Target">Of a neighbour solicitation or advertisement.</param>
/// <param name="LinkAddress">The link-layer address option of a solicitation or advertisement.</param>
internal sealed record IcmpMessage(bool V6, int Type, int Code, int? Identifier, int? Sequence, int? Mtu, IPAddress? Target, MacAddress? LinkAddress, ChecksumState Checksum)
{
    public const int Echo4 = 8, EchoReply4 = 0, Unreachable4 = 3, FragmentationNeeded = 4;
    public const int Unreachable6 = 1, TooBig6 = 2, Echo6 = 128, EchoReply6 = 129, Solicitation = 135, Advertisement = 136;

    public bool TooBig => V6 ? Type == TooBig6 : Type == Unreachable4 && Code == FragmentationNeeded;
    public bool EchoRequest => Type == (V6 ? Echo6 : Echo4);
    public bool EchoReply => Type == (V6 ? EchoReply6 : EchoReply4);
    public bool Unreachable => Type == (V6 ? Unreachable6 : Unreachable4) && !TooBig;
    public bool NeighbourSolicitation => V6 && Type == Solicitation;
    public bool NeighbourAdvertisement => V6 && Type == Advertisement;
}

/// <summary>RFC 7348 section 5.</summary>
internal sealed record VxlanHeader(int Vni);

/// <summary>What protocol 112 carries: an advertisement, or the reason why it is none.</summary>
/// <param name="ChecksumMode">"message", "pseudo-header", or "" where the packet could not be read.</param>
/// <param name="Problem">Null when a router of ours would take it.</param>
internal sealed record VrrpMessage(
    int Version, int VirtualRouterId, int Priority, int IntervalCs, IReadOnlyList<IPAddress> Addresses, string ChecksumMode, bool Carp, string? Problem);

/// <summary>A DNS message: header, first question, and answers as text.</summary>
internal sealed record DnsMessage(
    int Id, bool Response, int Opcode, string Rcode, bool Truncated, bool Authoritative, string Name, string Type,
    IReadOnlyList<string> Answers, int AnswerCount, int AuthorityCount, int AdditionalCount);
