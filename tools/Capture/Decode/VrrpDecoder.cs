using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Tools.Capture.Decode;

/// <summary>Protocol 112 as the daemon's own routers judge it; what they would refuse is still shown as far as it can be read.</summary>
internal static class VrrpDecoder
{
    public static void Decode(DecodedPacket packet, ReadOnlySpan<byte> data, bool complete)
    {
        if (data.Length < VrrpPacket.HeaderLength)
        {
            packet.Malformed ??= complete ? $"VRRP: {data.Length} octets are shorter than a header" : null;
            return;
        }
        var ip = packet.Ip!;
        var envelope = new VrrpEnvelope(ip.Source, ip.Destination, ip.HopLimit);
        var error = VrrpPacket.TryParse(data, envelope, requireHopLimit255: true, out var advertisement);
        if (error == VrrpPacketError.HopLimitNot255 && VrrpPacket.TryParse(data, envelope, requireHopLimit255: false, out var beyond) == VrrpPacketError.None)
        {
            // Unicast peers may be beyond a router (keepalived skips the check for them): said, and read all the same.
            packet.Vrrp = Message(beyond, ip.Source, Problem(error));
            return;
        }
        packet.Vrrp = error == VrrpPacketError.None
            ? Message(advertisement, ip.Source, null)
            : new VrrpMessage(data[0] >> 4, data[1], data[2], Interval(data), Addresses(data, ip.Source.AddressFamily), "", error == VrrpPacketError.Carp, Problem(error));
        if (error is VrrpPacketError.Truncated && complete)
            packet.Malformed ??= "VRRP: the message is shorter than its address count says";
    }

    private static VrrpMessage Message(VrrpPacket packet, IPAddress source, string? problem)
    {
        var advertisement = packet.ToAdvertisement(source);
        return new VrrpMessage(
            (int)packet.Version, packet.VirtualRouterId, packet.Priority, packet.IntervalCs, advertisement.Addresses,
            packet.ChecksumCoverage == VrrpChecksumCoverage.PseudoHeader ? "pseudo-header" : "message", Carp: false, problem);
    }

    private static int Interval(ReadOnlySpan<byte> data) =>
        data[0] >> 4 == (int)VrrpVersion.V2 ? data[5] * 100 : BinaryPrimitives.ReadUInt16BigEndian(data[4..]) & 0xfff;

    private static List<IPAddress> Addresses(ReadOnlySpan<byte> data, AddressFamily family)
    {
        var size = family == AddressFamily.InterNetworkV6 ? 16 : 4;
        var addresses = new List<IPAddress>();
        for (var at = VrrpPacket.HeaderLength; addresses.Count < data[3] && at + size <= data.Length; at += size)
            addresses.Add(new IPAddress(data.Slice(at, size)));
        return addresses;
    }

    private static string Problem(VrrpPacketError error) => error switch
    {
        VrrpPacketError.Carp => "CARP, not VRRP",
        VrrpPacketError.HopLimitNot255 => "hop limit is not 255",
        VrrpPacketError.Checksum => "wrong checksum",
        VrrpPacketError.Authentication => "authentication, which RFC 3768 removed",
        VrrpPacketError.ZeroInterval => "interval 0",
        VrrpPacketError.ZeroVirtualRouterId => "VRID 0",
        VrrpPacketError.NoAddresses => "no addresses",
        VrrpPacketError.TrailingData => "more octets than its addresses take",
        VrrpPacketError.UnknownVersion => "unknown version",
        VrrpPacketError.UnknownType => "unknown type",
        _ => "truncated",
    };
}
