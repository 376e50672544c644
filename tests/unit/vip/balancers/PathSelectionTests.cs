using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;

namespace OverlayNet.UnitTests.Vip.Balancers;

public sealed class PathSelectionTests
{
    private static readonly BalancerAvailability Missing = BalancerAvailability.No("the kernel has none");

    [Theory]
    [InlineData("auto", "wrr", true, true, "ebpf,ipvs")]
    [InlineData("auto", "wrr", true, false, "ebpf,nft")]
    [InlineData("auto", "wrr", false, true, "ipvs")]
    [InlineData("auto", "wrr", false, false, "nft")]
    [InlineData("nft", "wrr", true, true, "nft")]
    [InlineData("ipvs", "rr", true, true, "ipvs")]
    [InlineData("ebpf", "rr", true, true, "ebpf,ipvs")]
    [InlineData("auto", "wlc", true, true, "ipvs")]
    [InlineData("nft", "sed", true, true, "ipvs")]
    public void A_wish_that_can_be_met_is_met(string wish, string scheduler, bool ebpf, bool ipvs, string expected)
    {
        var path = Choose(wish, scheduler, ebpf, ipvs);
        Assert.Equal(expected, string.Join(',', path.Balancers));
        Assert.False(path.Degraded);
    }

    [Theory]
    [InlineData("ipvs", "wrr", true, false, "nft")]
    [InlineData("ebpf", "wrr", false, true, "ipvs")]
    [InlineData("auto", "lc", true, false, "nft")]
    [InlineData("nonsense", "wrr", true, true, "ipvs")]
    public void A_wish_that_cannot_be_met_falls_back_and_says_so(string wish, string scheduler, bool ebpf, bool ipvs, string expected)
    {
        var path = Choose(wish, scheduler, ebpf, ipvs);
        Assert.Equal(expected, string.Join(',', path.Balancers));
        Assert.True(path.Degraded);
        Assert.True(path.Reason.Contains("the kernel has none", StringComparison.Ordinal) || wish == "nonsense", path.Reason);
    }

    [Fact]
    public void Without_any_writer_the_path_is_empty_and_says_why()
    {
        var path = PathSelection.Choose("n", Service("auto", "wrr"), [new FakeBalancer("nft", Missing)]);
        Assert.Empty(path.Balancers);
        Assert.True(path.Degraded);
        Assert.Contains("no balancer", path.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Each_writer_gets_its_share_and_the_one_in_front_comes_last()
    {
        var order = new List<string>();
        using var set = new BalancerSet(
            [new FakeBalancer("ebpf", BalancerAvailability.Yes, order), new FakeBalancer("nft", BalancerAvailability.Yes, order)], NullLogger.Instance);
        var config = new VipConfig
        {
            Revision = 7,
            Networks = [new VipNetwork { Id = "n", Name = "net", Vni = 1, Netns = "on-a-net", Services = [Service("auto", "wrr"), Service("nft", "wrr") with { Id = "t" }] }],
        };
        var report = set.Apply(config);
        Assert.Equal(["nft s t", "ebpf s"], order);
        Assert.Equal(7, report.Revision);
        Assert.Equal(2, report.Paths.Count);
    }

    private static ServicePath Choose(string wish, string scheduler, bool ebpf, bool ipvs) => PathSelection.Choose("n", Service(wish, scheduler),
    [
        new FakeBalancer("nft", BalancerAvailability.Yes),
        new FakeBalancer("ipvs", ipvs ? BalancerAvailability.Yes : Missing),
        new FakeBalancer("ebpf", ebpf ? BalancerAvailability.Yes : Missing),
    ]);

    private static VipService Service(string wish, string scheduler) =>
        new() { Id = "s", Name = "web", Addresses = [IPAddress.Parse("10.1.0.2")], Balancer = wish, Scheduler = scheduler };

    private sealed class FakeBalancer(string name, BalancerAvailability availability, List<string>? order = null) : IBalancer
    {
        public string Name => name;
        public BalancerAvailability Availability => availability;

        public string? Refuses(VipService service) => null;

        public BalancerReport Apply(VipConfig config)
        {
            order?.Add($"{name} {string.Join(' ', config.Networks.SelectMany(network => network.Services).Select(service => service.Id))}");
            return BalancerReport.Nothing;
        }

        public BalancerReport Observe(VipConfig config) => BalancerReport.Nothing;

        public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config) => [];

        public void Dispose()
        {
        }
    }
}
