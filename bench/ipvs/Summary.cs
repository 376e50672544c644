namespace OverlayNet.Bench.Ipvs;

/// <summary>Figures of interleaved rounds.</summary>
internal sealed class Summary(string name, string unit)
{
    private readonly List<double> rounds = [];

    internal string Name { get; } = name;
    internal string Unit { get; } = unit;

    internal double Median => MedianOf(rounds);

    internal void Add(double value) => rounds.Add(value);

    /// <summary>Round by round against another, so that what both had to bear at the time cancels out.</summary>
    /// <returns>The median of the ratios and its 95 % confidence interval by order statistics, which a disturbed round does not move.</returns>
    internal (double Median, double Low, double High) RatioTo(Summary other)
    {
        var ratios = rounds.Zip(other.rounds, (one, two) => one / two).Order().ToList();
        var skip = Math.Max(0, (int)Math.Floor(ratios.Count / 2.0 - 0.98 * Math.Sqrt(ratios.Count)));
        return (MedianOf(ratios), ratios[skip], ratios[^(skip + 1)]);
    }

    private static double MedianOf(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return sorted.Count % 2 == 1 ? sorted[sorted.Count / 2] : (sorted[sorted.Count / 2 - 1] + sorted[sorted.Count / 2]) / 2;
    }
}
