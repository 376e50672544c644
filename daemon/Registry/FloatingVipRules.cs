using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>Which nodes take part in a floating VIP, and with which priority. Pure.</summary>
internal static class FloatingVipRules
{
    /// <summary>The longest a lease of the default profile or below lasts: what everything about an unknown lease waits out.</summary>
    public static readonly TimeSpan LongestTtl = TimeSpan.FromSeconds(10);

    /// <summary>With policy hold-all: the longest time a holder goes on without the registry.</summary>
    public static readonly TimeSpan MaxHold = TimeSpan.FromMinutes(10);

    /// <summary>The configured priority of a node; 0: it takes no part.</summary>
    public static int PriorityOf(FloatingVip vip, Node node)
    {
        if (vip.Priorities.TryGetValue(node.Id, out var own))
            return own;
        return vip.NodeLabels.All(label => node.Labels.GetValueOrDefault(label.Key) == label.Value) ? vip.Priority : 0;
    }

    /// <summary>The nodes that may hold it, the highest priority first.</summary>
    public static IReadOnlyList<Node> Members(Snapshot snapshot, FloatingVip vip) =>
        [.. snapshot.Nodes.Values.Where(node => PriorityOf(vip, node) > 0).OrderByDescending(node => PriorityOf(vip, node)).ThenBy(node => node.Id, StringComparer.Ordinal)];

    /// <summary>The VIPs of one lease set, in an order that is the same everywhere.</summary>
    public static IReadOnlyList<FloatingVip> OfSet(Snapshot snapshot, string set) =>
        [.. snapshot.Vips.Values.Where(vip => vip.LeaseSet == set).OrderBy(vip => vip.Id, StringComparer.Ordinal)];
}
