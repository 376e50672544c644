namespace OverlayNet.Vip.Health;

/// <summary>
/// When checks are due. The first ones are spread over the interval by a hash of what is checked, and each gap is drawn anew,
/// so that thousands of checks never fall together. Nothing here is random twice: the same key and round give the same gap.
/// </summary>
public static class CheckSchedule
{
    /// <summary>
    /// Gaps are 0.91 to 0.95 of the interval: three failures and a time-out (10.1 to 15.25 s of 5 s and 1 s) leave room for a check that begins
    /// some milliseconds early beside another, and for the report below 3 intervals and a time-out.
    /// </summary>
    public const double Shortest = 0.91, Longest = 0.95;

    /// <summary>From now to the first check, within <paramref name="spread"/>.</summary>
    public static TimeSpan First(string key, TimeSpan spread) => spread * Fraction(Mix(Hash(key)));

    /// <summary>From the begin of check number <paramref name="round"/> to the next one's.</summary>
    public static TimeSpan Gap(string key, long round, TimeSpan interval) =>
        interval * (Shortest + (Longest - Shortest) * Fraction(Mix(Hash(key) ^ unchecked((ulong)round * 0x9E3779B97F4A7C15))));

    /// <summary>FNV-1a; string.GetHashCode differs from run to run.</summary>
    private static ulong Hash(string key)
    {
        var hash = 0xCBF29CE484222325;
        foreach (var c in key)
            hash = unchecked((hash ^ c) * 0x100000001B3);
        return hash;
    }

    /// <summary>The finaliser of SplitMix64: neighbouring inputs give unrelated outputs.</summary>
    private static ulong Mix(ulong z)
    {
        unchecked
        {
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return z ^ (z >> 31);
        }
    }

    private static double Fraction(ulong bits) => (bits >> 11) * (1.0 / (1ul << 53));
}
