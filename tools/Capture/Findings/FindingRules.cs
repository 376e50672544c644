using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>All rules over one capture.</summary>
internal sealed class FindingRules
{
    private readonly FindingRule[] _rules;
    private readonly Damage _damage = new();
    private long _lastNs;

    public FindingRules(Expectations expected, int vxlanPort = 4789) => _rules =
    [
        new VrrpRule(), new NeighbourRule(), new TunnelRule(expected), new SizeRule(vxlanPort), new ConnectionRule(), new DnsRule(), _damage,
    ];

    public void See(DecodedPacket packet)
    {
        _lastNs = Math.Max(_lastNs, packet.TimeNs);
        foreach (var rule in _rules)
            rule.See(packet);
    }

    /// <summary>What the capture shows; call it once, at its end.</summary>
    public IReadOnlyList<Finding> End()
    {
        foreach (var rule in _rules)
            rule.End(_lastNs);
        return [.. _rules.SelectMany(rule => rule.Findings).OrderBy(finding => finding.Severity == "error" ? 0 : 1).ThenBy(finding => finding.Check, StringComparer.Ordinal)];
    }

    /// <summary>Packets that contradict themselves, and IP headers with a wrong checksum.</summary>
    private sealed class Damage : FindingRule
    {
        public override void See(DecodedPacket packet)
        {
            foreach (var layer in packet.Layers())
            {
                if (layer.Malformed is { } malformed)
                    Report("warning", "packet.malformed", malformed.Split(':')[0], malformed, "look at the packet in Wireshark: its sender is broken, or something on the way damages it", packet);
                if (layer.Ip is { ChecksumRight: false } ip)
                    Report("warning", "ip.checksum", ip.Source.ToString(), "IP headers with a wrong checksum", "look for a faulty card or its offload on the sender", packet);
            }
        }
    }
}
