using System.Net;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.UnitTests.Vip.Vrrp;

public sealed class VrrpPacketTests
{
    private static readonly IPAddress Source4 = IPAddress.Parse("192.0.2.1");
    private static readonly IPAddress Source6 = IPAddress.Parse("fe80::1");

    private static VrrpAdvertisement Advert(VrrpVersion version, IPAddress source, params string[] addresses) => new()
    {
        Version = version,
        VirtualRouterId = 51,
        Priority = 100,
        IntervalCs = 100,
        Source = source,
        Addresses = addresses.Select(IPAddress.Parse).ToArray(),
    };

    private static byte[] Encode(VrrpAdvertisement advert, VrrpChecksumCoverage coverage = VrrpChecksumCoverage.PseudoHeader)
    {
        var buffer = new byte[2048];
        var group = advert.Source.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 ? VrrpPacket.Group6 : VrrpPacket.Group4;
        return buffer[..VrrpPacket.Write(buffer, advert, group, coverage)];
    }

    private static VrrpPacketError Parse(byte[] message, IPAddress source, out VrrpPacket packet, int hopLimit = 255, bool require255 = true)
    {
        var group = source.Equals(Source6) ? VrrpPacket.Group6 : VrrpPacket.Group4;
        return VrrpPacket.TryParse(message, new VrrpEnvelope(source, group, hopLimit), require255, out packet);
    }

    // Bytes worked out by hand from the RFCs' formulas: the sum of 3133 6401 0064 c000 020a, with and without the pseudo-header.
    [Theory]
    [InlineData(VrrpVersion.V3, VrrpChecksumCoverage.MessageOnly, "313364010064a85cc000020a")]
    [InlineData(VrrpVersion.V3, VrrpChecksumCoverage.PseudoHeader, "31336401006405ccc000020a")]
    [InlineData(VrrpVersion.V2, VrrpChecksumCoverage.PseudoHeader, "213364010001b8bfc000020a0000000000000000")]
    public void Known_bytes_over_ipv4(VrrpVersion version, VrrpChecksumCoverage coverage, string hex)
    {
        var bytes = Encode(Advert(version, Source4, "192.0.2.10"), coverage);
        Assert.Equal(hex, Convert.ToHexStringLower(bytes));
    }

    [Fact]
    public void Either_ipv4_checksum_is_taken_and_told_apart()
    {
        foreach (var coverage in Enum.GetValues<VrrpChecksumCoverage>())
        {
            var bytes = Encode(Advert(VrrpVersion.V3, Source4, "192.0.2.10"), coverage);
            Assert.Equal(VrrpPacketError.None, Parse(bytes, Source4, out var packet));
            Assert.Equal(coverage, packet.ChecksumCoverage);
        }
    }

    [Fact]
    public void Ipv6_checksum_always_covers_the_pseudo_header()
    {
        var bytes = Encode(Advert(VrrpVersion.V3, Source6, "fe80::10", "2001:db8::10"), VrrpChecksumCoverage.MessageOnly);
        Assert.Equal(VrrpPacketError.None, Parse(bytes, Source6, out var packet));
        Assert.Equal(2, packet.AddressCount);
        Assert.Equal(IPAddress.Parse("2001:db8::10"), packet.GetAddress(1));
        Assert.Equal(VrrpPacketError.Checksum,
            VrrpPacket.TryParse(bytes, new VrrpEnvelope(IPAddress.Parse("fe80::2"), VrrpPacket.Group6, 255), true, out _));
    }

    [Fact]
    public void Round_trip_for_random_adverts()
    {
        var random = new Random(9568);
        for (var i = 0; i < 2000; i++)
        {
            var version = random.Next(2) == 0 ? VrrpVersion.V2 : VrrpVersion.V3;
            var ip6 = version == VrrpVersion.V3 && random.Next(2) == 0;
            var addresses = Enumerable.Range(0, random.Next(1, 20)).Select(_ =>
            {
                var bytes = new byte[ip6 ? 16 : 4];
                random.NextBytes(bytes);
                return new IPAddress(bytes);
            }).ToArray();
            var advert = new VrrpAdvertisement
            {
                Version = version,
                VirtualRouterId = (byte)random.Next(1, 256),
                Priority = (byte)random.Next(256),
                IntervalCs = version == VrrpVersion.V2 ? random.Next(1, 256) * 100 : random.Next(1, 4096),
                Source = ip6 ? Source6 : Source4,
                Addresses = addresses,
            };
            var encoded = Encode(advert, (VrrpChecksumCoverage)random.Next(2));
            Assert.Equal(VrrpPacketError.None, Parse(encoded, advert.Source, out var packet));
            var decoded = packet.ToAdvertisement(advert.Source);
            Assert.Equal(advert with { Addresses = [] }, decoded with { Addresses = [] }, AdvertComparer);
            Assert.Equal(advert.Addresses, decoded.Addresses);
        }
    }

    private static readonly IEqualityComparer<VrrpAdvertisement> AdvertComparer = EqualityComparer<VrrpAdvertisement>.Create(
        (a, b) => a!.Version == b!.Version && a.VirtualRouterId == b.VirtualRouterId && a.Priority == b.Priority &&
            a.IntervalCs == b.IntervalCs && a.Source.Equals(b.Source));

    [Fact]
    public void One_flipped_bit_is_always_refused_or_not_ours()
    {
        var bytes = Encode(Advert(VrrpVersion.V3, Source4, "192.0.2.10", "192.0.2.11"));
        for (var bit = 0; bit < bytes.Length * 8; bit++)
        {
            var copy = (byte[])bytes.Clone();
            copy[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.NotEqual(VrrpPacketError.None, Parse(copy, Source4, out _));
        }
    }

    [Fact]
    public void Every_prefix_is_truncated_and_every_extension_refused()
    {
        var bytes = Encode(Advert(VrrpVersion.V3, Source6, "fe80::10"));
        for (var length = 0; length < bytes.Length; length++)
            Assert.Equal(VrrpPacketError.Truncated, Parse(bytes[..length], Source6, out _));
        Assert.Equal(VrrpPacketError.TrailingData, Parse([.. bytes, 0], Source6, out _));
    }

    [Fact]
    public void Refusals_name_their_cause()
    {
        var good = Encode(Advert(VrrpVersion.V3, Source4, "192.0.2.10"));
        Assert.Equal(VrrpPacketError.HopLimitNot255, Parse(good, Source4, out _, hopLimit: 254));
        Assert.Equal(VrrpPacketError.None, Parse(good, Source4, out _, hopLimit: 64, require255: false));
        Assert.Equal(VrrpPacketError.UnknownVersion, Parse([0x41, .. good[1..]], Source4, out _));
        Assert.Equal(VrrpPacketError.UnknownType, Parse([0x32, .. good[1..]], Source4, out _));
        Assert.Equal(VrrpPacketError.ZeroVirtualRouterId, Parse([0x31, 0, .. good[2..]], Source4, out _));
        Assert.Equal(VrrpPacketError.NoAddresses, Parse([.. good[..3], 0, .. good[4..]], Source4, out _));
        Assert.Equal(VrrpPacketError.Checksum, Parse([.. good[..6], 0, 0, .. good[8..]], Source4, out _));
        var v2 = Encode(Advert(VrrpVersion.V2, Source4, "192.0.2.10"));
        Assert.Equal(VrrpPacketError.Authentication, Parse([.. v2[..4], 1, .. v2[5..]], Source4, out _));
        Assert.Equal(VrrpPacketError.UnknownVersion, Parse(v2, Source6, out _));
        Assert.Equal(VrrpPacketError.ZeroInterval, Parse(Encode(Advert(VrrpVersion.V3, Source4, "192.0.2.10") with { IntervalCs = 0 }), Source4, out _));
    }

    [Fact]
    public void Carp_is_recognised_as_carp()
    {
        // CARP header: version 2 type 1, vhid, advskew, authlen 7, pad, advbase, checksum, counter, 20 bytes of HMAC.
        var carp = new byte[36];
        carp[0] = 0x21;
        carp[1] = 1;
        carp[3] = 7;
        carp[5] = 1;
        Assert.Equal(VrrpPacketError.Carp, Parse(carp, Source4, out _));
    }

    [Fact]
    public void Random_and_mutated_bytes_never_throw()
    {
        var random = new Random(112);
        var seed = Encode(Advert(VrrpVersion.V2, Source4, "192.0.2.10", "192.0.2.11"));
        for (var i = 0; i < 50_000; i++)
        {
            byte[] bytes;
            if (i % 2 == 0)
            {
                bytes = new byte[random.Next(0, 80)];
                random.NextBytes(bytes);
            }
            else
            {
                bytes = [.. seed.Take(random.Next(seed.Length + 1))];
                for (var flips = random.Next(4); flips > 0 && bytes.Length > 0; flips--)
                    bytes[random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            var source = random.Next(2) == 0 ? Source4 : Source6;
            if (Parse(bytes, source, out var packet) == VrrpPacketError.None)
                Assert.Equal(packet.AddressCount, packet.ToAdvertisement(source).Addresses.Count);
        }
    }
}
