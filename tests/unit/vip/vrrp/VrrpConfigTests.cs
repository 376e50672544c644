using System.Net;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.UnitTests.Vip.Vrrp;

public sealed class VrrpConfigTests
{
    private static VrrpConfig Good => new() { VirtualRouterId = 51, Addresses = [VirtualAddress.Parse("192.0.2.10/24")] };

    public static TheoryData<string, VrrpConfig> Bad() => new()
    {
        { "vrid", Good with { VirtualRouterId = 0 } },
        { "priority", Good with { Priority = 0 } },
        { "addresses", Good with { Addresses = [] } },
        { "addresses", Good with { Addresses = [VirtualAddress.Parse("192.0.2.10/24"), VirtualAddress.Parse("2001:db8::1/64")] } },
        { "addresses", Good with { Addresses = [VirtualAddress.Parse("192.0.2.10/24"), VirtualAddress.Parse("192.0.2.10/32")] } },
        { "version", Good with { Version = VrrpVersion.V2, Addresses = [VirtualAddress.Parse("2001:db8::1/64")] } },
        { "advert", Good with { AdvertisementIntervalCs = 0 } },
        { "advert", Good with { AdvertisementIntervalCs = 4096 } },
        { "advert", Good with { Version = VrrpVersion.V2, AdvertisementIntervalCs = 150 } },
        { "peers", Good with { UnicastPeers = [IPAddress.Parse("2001:db8::2")] } },
        { "preempt-delay", Good with { PreemptDelay = TimeSpan.FromSeconds(-1) } },
        { "announcements", Good with { Announcements = new() { Count = 0 } } },
    };

    [Theory]
    [MemberData(nameof(Bad))]
    public void Bad_configuration_is_refused_by_field(string field, VrrpConfig config)
    {
        var error = Assert.Throws<ArgumentException>(() => config.Validate());
        Assert.StartsWith(field, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_virtual_address_on_the_node_itself_is_refused_except_for_the_owner()
    {
        IPAddress[] own = [IPAddress.Parse("192.0.2.10")];
        Assert.Throws<ArgumentException>(() => Good.ValidateAgainst(own));
        (Good with { Priority = 255 }).ValidateAgainst(own);
        Good.ValidateAgainst([IPAddress.Parse("192.0.2.1")]);
    }

    [Theory]
    [InlineData("192.0.2.10", 32)]
    [InlineData("2001:db8::1/64", 64)]
    public void Virtual_addresses_parse(string text, int prefix) => Assert.Equal(prefix, VirtualAddress.Parse(text).PrefixLength);

    [Theory]
    [InlineData("192.0.2.10/33")]
    [InlineData("192.0.2.10/0")]
    [InlineData("example/24")]
    [InlineData("2001:db8::1/129")]
    public void Bad_virtual_addresses_are_refused(string text) => Assert.Throws<FormatException>(() => VirtualAddress.Parse(text));

    // The worked figures: 1 s and priority 100 give 3.609 s, after a priority-0 advertisement 0.609 s.
    [Fact]
    public void Timers_follow_the_rfc()
    {
        Assert.Equal(3.609375, VrrpTimers.ActiveDownInterval(VrrpVersion.V3, 100, 100).TotalSeconds, 6);
        Assert.Equal(0.609375, VrrpTimers.SkewTime(VrrpVersion.V3, 100, 100).TotalSeconds, 6);
        Assert.Equal(0.0121875, VrrpTimers.SkewTime(VrrpVersion.V3, 100, 2).TotalSeconds, 6);
        Assert.Equal(0.609375, VrrpTimers.SkewTime(VrrpVersion.V2, 100, 500).TotalSeconds, 6);
    }
}
