using System.Globalization;
using System.Net;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>
/// Adverts: two routers that both claim a VRID, gaps, intervals that differ, packets a router would refuse, and CARP in
/// the same group.
/// </summary>
internal sealed class VrrpRule : FindingRule
{
    private const int ReleasePriority = 0;
    private readonly Dictionary<(string Point, IPAddress Group, int Vrid), Dictionary<IPAddress, Speaker>> _routers = [];

    public override void See(DecodedPacket packet)
    {
        foreach (var layer in packet.Layers())
        {
            if (layer is { Vrrp: { } vrrp, Ip: { } ip })
                See(packet, ip, vrrp);
        }
    }

    private void See(DecodedPacket packet, IpHeader ip, VrrpMessage vrrp)
    {
        var group = string.Create(CultureInfo.InvariantCulture, $"VRID {vrrp.VirtualRouterId}");
        if (vrrp.Carp)
        {
            Report("warning", "vrrp.carp", ip.Source.ToString(), "CARP shares protocol 112 and its group with VRRP", "keep CARP and VRRP on different segments, or give CARP another group", packet);
            return;
        }
        if (vrrp.Problem is { } problem)
        {
            Report("error", "vrrp.packet", $"{group} from {ip.Source}", $"{problem}: routers discard this advert", problem.StartsWith("hop limit", StringComparison.Ordinal)
                ? "the sender is behind a router, or is no VRRP router; adverts must not be routed"
                : "compare version, checksum mode and settings of both routers", packet);
        }
        var key = (packet.Point, ip.Destination, vrrp.VirtualRouterId);
        if (!_routers.TryGetValue(key, out var speakers))
        {
            if (_routers.Count >= MostFollowed)
                return;
            _routers[key] = speakers = [];
        }
        foreach (var (other, speaker) in speakers)
        {
            if (other.Equals(ip.Source) || vrrp.Priority == ReleasePriority || speaker.Priority == ReleasePriority)
                continue;
            // A hand-over shows both once; two that go on are two owners: the earlier one speaks again after the later one did.
            if (speaker.LastNs > speakers.GetValueOrDefault(ip.Source)?.LastNs && packet.TimeNs - speaker.LastNs < 3L * speaker.IntervalCs * 10_000_000 && speakers.ContainsKey(ip.Source))
            {
                var pair = string.Join(" and ", new[] { other, ip.Source }.Select(a => a.ToString()).Order(StringComparer.Ordinal));
                Report("error", "vrrp.two-masters", group, $"{pair} both advertise: the virtual address may have two owners",
                    "see 'overlaynet vip explain' on both nodes; check that protocol 112 passes between them, and that no other router uses this VRID", packet);
            }
            if (speaker.IntervalCs != vrrp.IntervalCs)
                Report("warning", "vrrp.interval", group, string.Create(CultureInfo.InvariantCulture, $"{other} advertises every {speaker.IntervalCs * 10} ms, {ip.Source} every {vrrp.IntervalCs * 10} ms"), "give both routers the same interval", packet);
            if (speaker.Priority == vrrp.Priority && !other.Equals(ip.Source))
                Report("warning", "vrrp.priority", group, string.Create(CultureInfo.InvariantCulture, $"{other} and {ip.Source} have the same priority {vrrp.Priority}"), "give each router a priority of its own", packet);
        }
        if (speakers.TryGetValue(ip.Source, out var before) && before.Priority != ReleasePriority && before.IntervalCs > 0)
        {
            var gap = packet.TimeNs - before.LastNs;
            if (gap > 3L * before.IntervalCs * 10_000_000)
                Report("warning", "vrrp.gap", $"{group} from {ip.Source}", string.Create(CultureInfo.InvariantCulture, $"no advert for {gap / 1_000_000} ms, at an interval of {before.IntervalCs * 10} ms"), "look for a loaded host, a blocked protocol 112 or packet loss between the routers", packet);
        }
        if (speakers.Count < byte.MaxValue)
            speakers[ip.Source] = new Speaker(packet.TimeNs, vrrp.Priority, vrrp.IntervalCs);
    }

    private sealed record Speaker(long LastNs, int Priority, int IntervalCs);
}
