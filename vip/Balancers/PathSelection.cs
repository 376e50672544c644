namespace OverlayNet.Vip.Balancers;

/// <summary>Which writers serve a service. Pure.</summary>
public static class PathSelection
{
    /// <summary>Schedulers that look at the number of live connections, which only IPVS counts per real server.</summary>
    public static bool CountsConnections(string scheduler) => scheduler is "lc" or "wlc" or "sed" or "nq";

    /// <summary>
    /// auto: eBPF in front of IPVS where the kernel has it, else in front of nft. A service's own wish and a scheduler that counts
    /// connections come first. A wish that cannot be met falls back and says so: a VIP that works in another way beats none.
    /// </summary>
    /// <param name="defaultBalancer">The node's setting, for services that say auto.</param>
    public static ServicePath Choose(string networkId, VipService service, IReadOnlyList<IBalancer> writers, string defaultBalancer = BalancerNames.Auto)
    {
        var wish = service.Balancer != BalancerNames.Auto ? service.Balancer : defaultBalancer;
        var because = service.Balancer != BalancerNames.Auto ? "the service asks for it" : "the node's setting";
        var unmet = new List<string>();
        if (CountsConnections(service.Scheduler))
        {
            if (Usable(BalancerNames.Ipvs, unmet))
                return Path([BalancerNames.Ipvs], $"scheduler {service.Scheduler} counts connections, which needs ipvs");
            return Path(Behind(), $"scheduler {service.Scheduler} counts connections and needs ipvs; balanced by weight instead ({string.Join("; ", unmet)})", degraded: true);
        }
        switch (wish)
        {
            case BalancerNames.Auto:
                var behind = Behind();
                return Usable(BalancerNames.Ebpf, unmet)
                    ? Path([BalancerNames.Ebpf, .. behind], $"auto: ebpf at connect{(behind.Count > 0 ? $", {behind[0]} for what it cannot see" : "")}")
                    : Path(behind, $"auto{(unmet.Count > 0 ? $" ({string.Join("; ", unmet)})" : "")}");
            case BalancerNames.Ebpf when Usable(BalancerNames.Ebpf, unmet):
                return Path([BalancerNames.Ebpf, .. Behind()], because);
            case BalancerNames.Ipvs or BalancerNames.Nft when Usable(wish, unmet):
                return Path([wish], because);
            default:
                return Path(Behind(), $"{wish} was asked for ({string.Join("; ", unmet.DefaultIfEmpty("there is no such balancer"))})", degraded: true);
        }

        ServicePath Path(IReadOnlyList<string> names, string reason, bool degraded = false) =>
            new(networkId, service.Id, names, names.Count == 0 ? $"no balancer can serve it: {reason}" : reason, degraded || names.Count == 0);

        IReadOnlyList<string> Behind() => Usable(BalancerNames.Ipvs, unmet) ? [BalancerNames.Ipvs]
            : Usable(BalancerNames.Nft, unmet, evenIfRefused: true) ? [BalancerNames.Nft] : [];

        bool Usable(string name, List<string> reasons, bool evenIfRefused = false)
        {
            var writer = writers.FirstOrDefault(candidate => candidate.Name == name);
            if (writer is null)
                return false;
            var reason = !writer.Availability.Usable ? writer.Availability.Reason ?? "unavailable"
                : evenIfRefused ? null
                : writer.Refuses(service);
            if (reason is not null && !reasons.Contains($"{name}: {reason}"))
                reasons.Add($"{name}: {reason}");
            return reason is null;
        }
    }
}
