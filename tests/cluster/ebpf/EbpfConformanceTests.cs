using OverlayNet.ClusterTests.Vip;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ebpf;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.ClusterTests.Ebpf;

/// <summary>What users get from <c>auto</c> on a kernel without IPVS: eBPF in front, nft for what it cannot see.</summary>
public sealed class EbpfConformanceTests() : BalancerConformance(new EbpfBeforeNft())
{
    [Fact]
    public void Connections_are_the_first_writers()
    {
        var (client, servers) = Start(2, v6: false);
        var service = Net.Service(servers, TcpPort());
        Apply(service);
        VipTraffic.Spread(client.Namespace, Net.Vip4, 80, 20);
        var statistics = Balancer.ReadStatistics(Net.Config(service));
        Assert.Equal([10, 10], statistics.Where(row => row.Balancer == BalancerNames.Ebpf).Select(row => row.Connections!.Value));
    }

    /// <summary>The two writers as one, the way <see cref="BalancerSet"/> orders them.</summary>
    private sealed class EbpfBeforeNft : IBalancer
    {
        private const string NodePrefix = "ovt-";
        private static int counter;
        private readonly string node = $"{NodePrefix}{Environment.ProcessId}-conf{Interlocked.Increment(ref counter)}";
        private readonly NftBalancer nft = new();
        private readonly EbpfBalancer ebpf;

        public EbpfBeforeNft() => ebpf = new EbpfBalancer(node);

        public string Name => ebpf.Name;

        public BalancerAvailability Availability => ebpf.Availability.Usable ? nft.Availability : ebpf.Availability;

        public string? Refuses(VipService service) => ebpf.Refuses(service) ?? nft.Refuses(service);

        public BalancerReport Apply(VipConfig config) => Both(nft.Apply(config), ebpf.Apply(config));

        public BalancerReport Observe(VipConfig config) => Both(nft.Observe(config), ebpf.Observe(config));

        public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config) => [.. nft.ReadStatistics(config), .. ebpf.ReadStatistics(config)];

        public void Dispose()
        {
            nft.Dispose();
            ebpf.Dispose();
            // What the test left draining goes with its pins.
            OverlayNet.Kernel.Bpf.BpfFileSystem.RemoveDirectory($"{EbpfBalancer.PinRoot}/{node}");
        }

        private static BalancerReport Both(BalancerReport behind, BalancerReport front) => new()
        {
            Changes = [.. behind.Changes, .. front.Changes],
            Errors = [.. behind.Errors, .. front.Errors],
            NextDue = new[] { behind.NextDue, front.NextDue }.Min(),
        };
    }
}
