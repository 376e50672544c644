namespace OverlayNet.Vip.Health;

/// <summary>What the clients of one node see of one real server at present.</summary>
/// <param name="Observer">The clients' node.</param>
/// <param name="Flows">Connections to it that were looked at.</param>
/// <param name="Troubled">Of those, how many are unanswered, retransmitting or were reset.</param>
public readonly record struct PassiveSight(string Observer, string Id, int Flows, int Troubled);

/// <summary>A real server that clients fare badly with, worst first where several are.</summary>
public readonly record struct Outlier(string Id, int Flows, int Troubled);

/// <summary>
/// Passive signals: whom real clients fare badly with, while they fare well with others, and how many of those may be ejected. Pure.
/// </summary>
public static class Outliers
{
    /// <summary>Fewer troubled connections than this say nothing: clients end theirs for reasons of their own.</summary>
    public const int LeastTroubled = 5;

    /// <summary>Never more of a service than this, whatever is asked for: passive signals are the clients' view, not proof.</summary>
    public const int MostPercent = 10;

    /// <summary>
    /// Half of the connections to it, or more, are in trouble. A node whose clients fare so with most of the service is set aside: then it is
    /// their own path. What they have no connection to now counts as well: most are over before anybody looks.
    /// </summary>
    /// <param name="members">How many endpoints the service has.</param>
    public static IReadOnlyList<Outlier> Find(int members, IEnumerable<PassiveSight> sights)
    {
        var believed = sights.GroupBy(sight => sight.Observer).Where(of => of.Count(Bad) * 2 <= members).SelectMany(of => of);
        return
        [
            .. believed.GroupBy(sight => sight.Id).Select(of => new Outlier(of.Key, of.Sum(sight => sight.Flows), of.Sum(sight => sight.Troubled)))
                .Where(outlier => outlier.Troubled >= LeastTroubled && outlier.Troubled * 2 >= outlier.Flows)
                .OrderByDescending(outlier => (double)outlier.Troubled / outlier.Flows).ThenBy(outlier => outlier.Id, StringComparer.Ordinal),
        ];

        static bool Bad(PassiveSight sight) => sight.Troubled > 0 && sight.Troubled * 2 >= sight.Flows;
    }

    /// <summary>How many may be ejected now. Whatever is out already, for whatever reason, counts: passive signals never deepen a failure that others have begun.</summary>
    /// <param name="members">Endpoints of the service that would serve if they were well.</param>
    /// <param name="without">Of those, how many do not serve.</param>
    /// <param name="percent">Of the members that may be out at most, 0-<see cref="MostPercent"/>; 0: nobody is ejected.</param>
    public static int Room(int members, int without, int percent) =>
        Math.Max(0, (members * Math.Min(percent, MostPercent) / 100) - without);
}
