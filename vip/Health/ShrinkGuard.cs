namespace OverlayNet.Vip.Health;

/// <summary>One member of a service, for protection against shrinking.</summary>
/// <param name="Serving">Takes new connections at present.</param>
/// <param name="Subsets">What clients may select by, such as <c>zone=a</c> or <c>tag=blue</c>.</param>
public sealed record GuardedMember(string Id, bool Serving, IReadOnlyList<string> Subsets);

/// <summary>
/// Which of the members about to go must be looked at again, because more of the service, or of one of its subsets, would go at
/// once than is credible. A subset counts for itself: a service of many instances is empty for those who select the few that went.
/// </summary>
public static class ShrinkGuard
{
    /// <param name="leaving">Ids that would go in one revision.</param>
    /// <param name="percent">At most this share may go unquestioned, 0-100.</param>
    /// <returns>Ids whose going needs to be confirmed, each with the subset that would shrink; "" stands for the whole service.</returns>
    public static IReadOnlyDictionary<string, string> Questioned(IReadOnlyList<GuardedMember> members, IReadOnlySet<string> leaving, int percent)
    {
        var questioned = new Dictionary<string, string>();
        Look("", members);
        foreach (var subset in members.SelectMany(member => member.Subsets).Distinct())
            Look(subset, [.. members.Where(member => member.Subsets.Contains(subset))]);
        return questioned;

        void Look(string subset, IReadOnlyList<GuardedMember> of)
        {
            var serving = of.Count(member => member.Serving);
            var going = of.Where(member => member.Serving && leaving.Contains(member.Id)).ToList();
            if (going.Count * 100 <= serving * percent)
                return;
            foreach (var member in going)
                questioned.TryAdd(member.Id, subset);
        }
    }
}
