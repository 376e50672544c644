using System.Net;

namespace OverlayNet.Tools.Diagnosis.Firewall;

/// <summary>Whether a host's rules let VXLAN pass, each way.</summary>
internal static class VxlanFilter
{
    // Senders take it from the inner flow's hash.
    private const int AnyPort = 49152;

    /// <param name="port">UDP port of the tunnels.</param>
    /// <param name="interface">That the packets come in by; null: any.</param>
    public static Refusal? StopsFrom(Ruleset rules, IPAddress peer, IPAddress self, int port, string? @interface) =>
        RulesetWalk.Stops(rules, new FilteredPacket(peer, self, FilteredPacket.Udp, AnyPort, port, Input: @interface), "prerouting", "input");

    /// <inheritdoc cref="StopsFrom"/>
    /// <param name="interface">That the packets leave by; null: any.</param>
    public static Refusal? StopsTo(Ruleset rules, IPAddress self, IPAddress peer, int port, string? @interface) =>
        RulesetWalk.Stops(rules, new FilteredPacket(self, peer, FilteredPacket.Udp, AnyPort, port, Output: @interface), "output", "postrouting");
}
