using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>
/// Flows that connection tracking keeps on a server after the maps left it: they may go on until a deadline, UDP flows to a removed server
/// not at all (nothing would ever tell the sender).
/// </summary>
internal sealed class FlowKeeper(TimeProvider time)
{
    internal readonly record struct Pair(IPAddress Vip, IPAddress Server);

    private readonly Dictionary<(string Network, Pair Pair), DateTimeOffset> deadlines = [];

    /// <summary>The next deadline.</summary>
    internal DateTimeOffset? Next => deadlines.Count == 0 ? null : deadlines.Values.Min();

    internal void Begin(string network, IPAddress vip, IPAddress server, int drainSeconds) =>
        deadlines.TryAdd((network, new Pair(vip, server)), time.GetUtcNow() + TimeSpan.FromSeconds(drainSeconds));

    internal void Cancel(string network, IPAddress vip, IPAddress server) => deadlines.Remove((network, new Pair(vip, server)));

    /// <summary>The pairs of a network whose time is over; they are forgotten with this call.</summary>
    internal HashSet<Pair> TakeDue(string network)
    {
        var now = time.GetUtcNow();
        var due = deadlines.Where(entry => entry.Key.Network == network && entry.Value <= now).Select(entry => entry.Key.Pair).ToHashSet();
        foreach (var pair in due)
            deadlines.Remove((network, pair));
        return due;
    }

    internal void Forget(string network)
    {
        foreach (var key in deadlines.Keys.Where(key => key.Network == network).ToList())
            deadlines.Remove(key);
    }

    /// <summary>Ends flows: all of the due pairs, and UDP ones of the removed.</summary>
    internal static int Cut(NetworkNamespace netns, HashSet<Pair> due, HashSet<Pair> removed)
    {
        using var conntrack = Conntrack.Open(netns);
        return conntrack.Delete([.. conntrack.List().Where(flow => flow.HasDestinationNat && PairOf(flow) is var pair
            && (due.Contains(pair) || flow.Original.Protocol != VipPort.Tcp && removed.Contains(pair)))]);
    }

    internal static Pair PairOf(TrackedFlow flow) => new(flow.Original.Destination, flow.Reply.Source);
}
