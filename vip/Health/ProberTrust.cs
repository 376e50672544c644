namespace OverlayNet.Vip.Health;

/// <summary>Whether a prober should believe itself: when most of its targets are silent at once, it is more likely its own path.</summary>
public static class ProberTrust
{
    /// <summary>With fewer targets, one or two deaths are most of them.</summary>
    public const int LeastTargets = 3;

    /// <param name="silent">Targets whose last probe got no answer at all; refusals and wrong answers prove that the path works.</param>
    public static bool Distrusted(int targets, int silent) => targets >= LeastTargets && silent * 2 > targets;
}
