namespace OverlayNet.Bench.Ipvs;

/// <summary>Figures of interleaved rounds.</summary>
internal sealed class Summary(string name, string unit)
{
    private readonly List<double> rounds = [];

    internal string Name { get; } = name;
    internal string Unit { get; } = unit;

    internal double Median
    {
        get
        {
            var sorted = rounds.Order().ToList();
            return sorted.Count % 2 == 1 ? sorted[sorted.Count / 2] : (sorted[sorted.Count / 2 - 1] + sorted[sorted.Count / 2]) / 2;
        }
    }

    internal void Add(double value) => rounds.Add(value);

    /// <summary>Round by round against another, so that what both had to bear at the time cancels out.</summary>
    /// <returns>The mean of the ratios and half the width of its 95 % confidence interval (Student's t).</returns>
    internal (double Mean, double Half) RatioTo(Summary other)
    {
        var ratios = rounds.Zip(other.rounds, (one, two) => one / two).ToList();
        var mean = ratios.Average();
        if (ratios.Count < 2)
            return (mean, double.NaN);
        var deviation = Math.Sqrt(ratios.Sum(ratio => (ratio - mean) * (ratio - mean)) / (ratios.Count - 1));
        double[] t = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14];
        return (mean, t[Math.Min(ratios.Count - 2, t.Length - 1)] * deviation / Math.Sqrt(ratios.Count));
    }
}
