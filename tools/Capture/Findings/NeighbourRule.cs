using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>An address that two MACs claim by ARP or neighbour discovery, which a hand-over does once and a duplicate all the time.</summary>
internal sealed class NeighbourRule : FindingRule
{
    private static readonly TimeSpan Overlap = TimeSpan.FromSeconds(10);
    private readonly Dictionary<(int Vni, IPAddress Address), List<Claim>> _claims = [];

    public override void See(DecodedPacket packet)
    {
        var vni = 0;
        foreach (var layer in packet.Layers())
        {
            if (layer.Arp is { } arp && (arp.Operation == ArpMessage.Reply || arp.Gratuitous) && !IPAddress.Any.Equals(arp.Sender))
                Claimed(packet, vni, arp.Sender, arp.SenderMac);
            else if (layer.Icmp is { NeighbourAdvertisement: true, Target: { } target, LinkAddress: { } mac })
                Claimed(packet, vni, target, mac);
            vni = layer.Vxlan?.Vni ?? vni;
        }
    }

    private void Claimed(DecodedPacket packet, int vni, IPAddress address, MacAddress mac)
    {
        if (!_claims.TryGetValue((vni, address), out var claims))
        {
            if (_claims.Count >= MostFollowed)
                return;
            _claims[(vni, address)] = claims = [];
        }
        // The same MAC again after another one: neither has given way.
        if (claims.Count > 0 && claims[^1].Mac != mac && claims.Any(claim => claim.Mac == mac && packet.TimeNs - claim.TimeNs < (long)Overlap.TotalNanoseconds))
        {
            Report("error", "address.two-owners", address.ToString(), $"{claims[^1].Mac} and {mac} both answer for it",
                "find both owners by their MACs ('overlaynet endpoint ls', 'ip neigh'); take the address away from one", packet);
        }
        if (claims.Count > 0 && claims[^1].Mac == mac)
            claims[^1] = new Claim(mac, packet.TimeNs);
        else
            claims.Add(new Claim(mac, packet.TimeNs));
        if (claims.Count > 8)
            claims.RemoveAt(0);
    }

    private sealed record Claim(MacAddress Mac, long TimeNs);
}
