using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>One thing this daemon can use of a kernel.</summary>
/// <param name="Name">A stable word: vxlan, bridge, veth, nft, conntrack, ipvs, ebpf, dns-in-kernel.</param>
/// <param name="Required">Without it the daemon cannot do its work.</param>
/// <param name="Present">Tried on this kernel, not looked up in its configuration.</param>
/// <param name="Otherwise">What is done instead, or what to do.</param>
public sealed record KernelFeature(string Name, bool Required, bool Present, string Otherwise);

/// <summary>Tries what the kernel can do, in a namespace that is thrown away.</summary>
public static class KernelFeatures
{
    public static IReadOnlyList<KernelFeature> Probe()
    {
        var features = new List<KernelFeature>();
        NetworkNamespace.RunInNew(() =>
        {
            using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
            var links = new RouteLinks(route);
            features.Add(new KernelFeature("bridge", true, Tries(() => links.Add(new BridgeSpec { Name = "probe0" })), "load the kernel module bridge"));
            features.Add(new KernelFeature("vxlan", true, Tries(() => links.Add(new VxlanSpec { Name = "probe1", Options = new VxlanOptions { Vni = 1 } })), "load the kernel module vxlan"));
            features.Add(new KernelFeature("veth", true, Tries(() => links.Add(new VethSpec { Name = "probe2", PeerName = "probe3" })), "load the kernel module veth"));
            using var generic = NetlinkSocket.Open(NetlinkProtocol.Generic);
            features.Add(new KernelFeature("ipvs", false, GenericNetlink.Resolve(generic, "IPVS") is not null, "VIPs are served by nft (and ebpf); to use ipvs load the kernel module ip_vs"));
        });
        features.Add(new KernelFeature("nft", true, Tries(() => NetlinkSocket.Open(NetlinkProtocol.Netfilter).Dispose()), "load the kernel module nf_tables"));
        return features;
    }

    private static bool Tries(Action attempt)
    {
        try
        {
            attempt();
            return true;
        }
        catch (KernelException)
        {
            return false;
        }
    }
}
