using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ebpf;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>eBPF as it is used: in front of nft, which takes what it cannot see.</summary>
public sealed class EbpfConformanceTests() : BalancerConformance(new InFront(new EbpfBalancer($"t{Environment.ProcessId}"), new NftBalancer()))
{
    private sealed class InFront(IBalancer front, IBalancer behind) : IBalancer
    {
        public string Name => front.Name;

        public BalancerAvailability Availability => front.Availability.Usable ? behind.Availability : front.Availability;

        public string? Refuses(VipService service) => front.Refuses(service);

        public BalancerReport Apply(VipConfig config) => Join(behind.Apply(config), front.Apply(config));

        public BalancerReport Observe(VipConfig config) => Join(behind.Observe(config), front.Observe(config));

        public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config) => [.. behind.ReadStatistics(config), .. front.ReadStatistics(config)];

        public void Dispose()
        {
            front.Apply(VipConfig.Empty);
            front.Dispose();
            behind.Dispose();
        }

        private static BalancerReport Join(BalancerReport a, BalancerReport b) =>
            new() { Changes = [.. a.Changes, .. b.Changes], Errors = [.. a.Errors, .. b.Errors], NextDue = a.NextDue ?? b.NextDue };
    }
}
