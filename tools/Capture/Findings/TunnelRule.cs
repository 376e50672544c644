using System.Globalization;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>VXLAN to or from hosts that are no nodes, VNIs that are no networks, frames to the wrong node, and damaged inner packets.</summary>
internal sealed class TunnelRule(Expectations expected) : FindingRule
{
    private readonly Expectations _expected = expected;

    public override void See(DecodedPacket packet)
    {
        if (packet is not { Vxlan: { } vxlan, Ip: { } ip })
            return;
        if (packet.Inner is { } inner && (inner.Tcp?.Checksum ?? inner.Udp?.Checksum ?? inner.Icmp?.Checksum) == ChecksumState.Wrong)
        {
            Report("error", "vxlan.inner-checksum", $"{ip.Source} to {ip.Destination}", "inner packets arrive with a wrong checksum: receivers drop them silently",
                $"turn the card's tunnel offload off on the sender: ethtool -K IFACE tx-udp_tnl-csum-segmentation off tx-udp_tnl-segmentation off", packet);
        }
        if (!_expected.Known)
            return;
        foreach (var (address, role) in new[] { (ip.Source, "from"), (ip.Destination, "to") })
        {
            if (!_expected.Nodes.ContainsKey(address))
                Report("error", "vxlan.vtep", address.ToString(), $"VXLAN {role} {address}, which is no node of this cluster", "another cluster on this segment uses the same UDP port (give one another port), or a node's address changed: leave and join it again", packet);
        }
        if (!_expected.Networks.TryGetValue(vxlan.Vni, out var network))
        {
            Report("error", "vxlan.vni", string.Create(CultureInfo.InvariantCulture, $"VNI {vxlan.Vni}"), "no network of this cluster has this VNI", "another cluster uses the same nodes or port, or a removed network still has a sender: run doctor on it", packet);
            return;
        }
        if (packet.Inner?.Ethernet is { } ethernet && _expected.Vtep(vxlan.Vni, ethernet.Destination) is { } right && !right.Equals(ip.Destination))
        {
            Report("error", "vxlan.wrong-vtep", $"{ethernet.Destination} in {network}", $"frames go to {ip.Destination}, and the endpoint is on {right}",
                $"the sender's FDB is stale: run 'overlaynet doctor' on node {_expected.Nodes.GetValueOrDefault(ip.Source, ip.Source.ToString())}; its daemon mends it within seconds when it runs", packet);
        }
    }
}
