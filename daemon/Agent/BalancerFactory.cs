using OverlayNet.Contracts;
using OverlayNet.Daemon.Configuration;
using OverlayNet.Daemon.Security;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ebpf;
using OverlayNet.Vip.Balancers.Ipvs;
using OverlayNet.Vip.Balancers.Nft;
using OverlayNet.Vip.Ingress;

namespace OverlayNet.Daemon.Agent;

/// <summary>The balancers of a node, each of which says itself whether this kernel can carry it.</summary>
internal static class BalancerFactory
{
    public static BalancerSet Make(Membership membership, DaemonOptions options, TimeProvider time, ILoggerFactory loggers) => new(
        [
            new EbpfBalancer(ObjectNames.ShortId(membership.NodeId), time),
            new IpvsBalancer(time),
            new NftBalancer(time),
        ],
        loggers.CreateLogger<BalancerSet>(),
        options.Balancer.ToString().ToLowerInvariant(),
        new PublishedPorts(ObjectNames.ShortId(membership.NodeId)));
}
