using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>What must change of a link so that it is as desired.</summary>
internal static class LinkDifference
{
    /// <summary>
    /// Requests that bring a link from what it is to what is wanted; null fields of <paramref name="wanted"/> do not
    /// matter. Empty when it is as wanted.
    /// </summary>
    internal static IEnumerable<RouteRequest> Requests(Link actual, LinkChange wanted)
    {
        var joins = wanted.Master is { } master && master != actual.Master;
        var change = new LinkChange
        {
            Up = wanted.Up is { } up && up != actual.IsUp ? up : null,
            Mtu = wanted.Mtu is { } mtu && mtu != actual.Mtu ? mtu : null,
            Mac = wanted.Mac is { } mac && mac != actual.Mac ? mac : null,
            Alias = wanted.Alias is { } alias && alias != (actual.Alias ?? "") ? alias : null,
            Master = joins ? wanted.Master : null,
            Bridge = wanted.Bridge is { } bridge && !Satisfies(actual.Bridge, bridge) ? bridge : null,
        };
        if (change != new LinkChange())
            yield return Name(actual, change);
        // On its own: the kernel takes port settings only from a link that is a port already.
        if (wanted.Port is { } port && (joins || !Satisfies(actual.Port, port)))
            yield return RouteLinks.Changing(actual.Index, new LinkChange { Port = port }) with { Verb = "set bridge port", Subject = actual.Name };
    }

    private static RouteRequest Name(Link actual, LinkChange change) => RouteLinks.Changing(actual.Index, change) with
    {
        Verb = "set link",
        Subject = actual.Name + Say("up", change.Up) + Say("mtu", change.Mtu) + Say("address", change.Mac) + Say("alias", change.Alias) + Say("master #", change.Master) + Say("bridge options", change.Bridge is null ? null : ""),
    };

    private static string Say(string field, object? value) => value is null ? "" : $" {field} {value}";

    private static bool Satisfies(BridgePortOptions? actual, BridgePortOptions wanted) => actual is not null
        && Matches(actual.Learning, wanted.Learning) && Matches(actual.UnicastFlood, wanted.UnicastFlood)
        && Matches(actual.MulticastFlood, wanted.MulticastFlood) && Matches(actual.BroadcastFlood, wanted.BroadcastFlood)
        && Matches(actual.NeighbourSuppress, wanted.NeighbourSuppress) && Matches(actual.Hairpin, wanted.Hairpin)
        && Matches(actual.Isolated, wanted.Isolated);

    // A kernel without VLAN filtering reports no default VLAN: nothing to mend there.
    private static bool Satisfies(BridgeOptions? actual, BridgeOptions wanted) => actual is not null
        && Matches(actual.MulticastSnooping, wanted.MulticastSnooping) && Matches(actual.Stp, wanted.Stp)
        && Matches(actual.VlanFiltering, wanted.VlanFiltering) && (actual.DefaultPvid is null || Matches(actual.DefaultPvid, wanted.DefaultPvid))
        && Matches(actual.Ageing, wanted.Ageing) && Matches(actual.ForwardDelay, wanted.ForwardDelay);

    private static bool Matches<T>(T? actual, T? wanted) where T : struct => wanted is null || Nullable.Equals(actual, wanted);
}
