namespace OverlayNet.Vip.Balancers;

/// <summary>
/// One way to make VIPs work: IPVS, nftables or eBPF. A writer is given the services it is to serve (with all their
/// networks and tasks) and makes the kernel hold exactly that. It adopts what an earlier process left, changes only
/// what differs, and never flushes. Not thread-safe: one caller at a time.
/// </summary>
public interface IBalancer : IDisposable
{
    /// <summary>ipvs, nft or ebpf: <see cref="BalancerNames"/>.</summary>
    string Name { get; }

    /// <summary>
    /// Whether this kernel and this process can use the path. Asked before each <see cref="Apply"/>: a writer whose probe
    /// is expensive remembers the answer.
    /// </summary>
    BalancerAvailability Availability { get; }

    /// <summary>Why this writer cannot do what a service asks for (a scheduler, say), in words for a person; null when it can.</summary>
    string? Refuses(VipService service);

    /// <summary>
    /// Makes the kernel serve exactly the services of <paramref name="config"/>; with none, whatever this writer owns goes.
    /// A namespace that fails (its container may just have ended) is an error in the report and does not stop the others.
    /// Also ends what is due by time: flows of removed real servers past their deadline.
    /// </summary>
    BalancerReport Apply(VipConfig config);

    /// <summary>What <see cref="Apply"/> would change, reading the kernel and writing nothing.</summary>
    BalancerReport Observe(VipConfig config);

    /// <summary>
    /// Counters for each service and real server, also of real servers that are no longer in the configuration but still have live flows
    /// (how draining learns that it is done). The caller adds up the writers.
    /// </summary>
    IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config);
}

/// <summary>The writers' names, as in <see cref="VipService.Balancer"/>.</summary>
public static class BalancerNames
{
    public const string Auto = "auto", Ipvs = "ipvs", Nft = "nft", Ebpf = "ebpf";
}

/// <summary>Whether a writer can be used here.</summary>
/// <param name="Reason">What is missing and what would mend it; null when usable.</param>
public sealed record BalancerAvailability(bool Usable, string? Reason = null)
{
    public static BalancerAvailability Yes { get; } = new(true);

    public static BalancerAvailability No(string reason) => new(false, reason);
}
