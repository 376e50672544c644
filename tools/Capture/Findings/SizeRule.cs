using System.Globalization;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>Path MTU trouble: fragmented tunnel packets, and "too big" answers.</summary>
internal sealed class SizeRule(int vxlanPort) : FindingRule
{
    private readonly int _vxlanPort = vxlanPort;

    public override void See(DecodedPacket packet)
    {
        if (packet is { Ip: { MoreFragments: true } ip, Udp: { } udp } && udp.DestinationPort == _vxlanPort)
        {
            Report("warning", "vxlan.fragmented", $"{ip.Source} to {ip.Destination}", "tunnel packets are fragmented: each lost fragment loses the whole, and some routers drop them",
                "lower the network's MTU ('overlaynet network create --mtu'), or raise the underlay's", packet);
        }
        foreach (var layer in packet.Layers())
        {
            if (layer is { Icmp: { TooBig: true } icmp, Ip: { } from })
            {
                var about = layer.Inner?.Ip;
                Report("warning", "path.mtu", about is null ? from.Source.ToString() : $"{about.Source} to {about.Destination}",
                    string.Create(CultureInfo.InvariantCulture, $"{from.Source} says packets must not be larger than {icmp.Mtu} octets"),
                    layer.Inner?.Udp?.DestinationPort == _vxlanPort
                        ? string.Create(CultureInfo.InvariantCulture, $"the underlay's path is smaller than its interfaces: create networks with --mtu {Math.Max(icmp.Mtu ?? 0, 50) - 50} or less, or mend the path")
                        : "the sender should use smaller packets from now on; if it does not, something drops the ICMP message on its way", packet);
            }
        }
    }
}
