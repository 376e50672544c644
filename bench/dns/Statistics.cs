namespace OverlayNet.Bench.Dns;

/// <summary>A ratio with its 95 % confidence interval.</summary>
internal readonly record struct Ratio(double Value, double Low, double High)
{
    /// <summary>Geometric mean of paired ratios; the interval is Student's over their logarithms.</summary>
    public static Ratio Of(IReadOnlyList<double> numerator, IReadOnlyList<double> denominator)
    {
        var logs = numerator.Zip(denominator, (a, b) => Math.Log(a / b)).ToArray();
        var mean = logs.Average();
        if (logs.Length < 2)
            return new(Math.Exp(mean), double.NaN, double.NaN);
        var deviation = Math.Sqrt(logs.Sum(l => (l - mean) * (l - mean)) / (logs.Length - 1));
        var half = StudentT95(logs.Length - 1) * deviation / Math.Sqrt(logs.Length);
        return new(Math.Exp(mean), Math.Exp(mean - half), Math.Exp(mean + half));
    }

    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return sorted.Length % 2 == 1 ? sorted[sorted.Length / 2] : (sorted[sorted.Length / 2 - 1] + sorted[sorted.Length / 2]) / 2;
    }

    public override string ToString() =>
        string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{Value:F2} [{Low:F2}, {High:F2}]");

    /// <summary>Two-sided 95 % quantiles of Student's distribution.</summary>
    private static double StudentT95(int degrees) => degrees switch
    {
        1 => 12.71,
        2 => 4.30,
        3 => 3.18,
        4 => 2.78,
        5 => 2.57,
        6 => 2.45,
        7 => 2.36,
        8 => 2.31,
        9 => 2.26,
        < 15 => 2.20,
        < 30 => 2.10,
        _ => 2.00,
    };
}
