using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;

namespace OverlayNet.Bench.Vip;

/// <summary>One client run.</summary>
internal sealed record Sample(long Count, double Seconds, double CpuPerOperation, double MedianMicroseconds, double Percentile99Microseconds, long Errors)
{
    internal double Rate => Count / Seconds;

    /// <param name="mode">conn or req.</param>
    /// <param name="servers">Processes whose CPU time counts too.</param>
    internal static Sample Take(string netns, string mode, IReadOnlyList<IPAddress> addresses, int port, double seconds, IReadOnlyList<int> servers)
    {
        var before = servers.Sum(Machine.CpuOf);
        var fields = Machine.In(netns, string.Create(CultureInfo.InvariantCulture, $"{Machine.Load} {mode} {string.Join(',', addresses)} {port} {seconds}"))
            .Split(' ').Select(field => double.Parse(field, CultureInfo.InvariantCulture)).ToArray();
        var cpu = fields[2] + servers.Sum(Machine.CpuOf) - before;
        return new Sample((long)fields[0], fields[1], cpu / fields[0] / 1e3, fields[3] / 1e3, fields[4] / 1e3, (long)fields[5]);
    }
}

/// <summary>A median with its 95 % confidence interval.</summary>
internal readonly record struct Estimate(double Median, double Low, double High)
{
    private const int Resamples = 2000;

    /// <summary>By bootstrap with a fixed seed.</summary>
    internal static Estimate Of(IReadOnlyList<double> values)
    {
        var random = new Random(1);
        var medians = new double[Resamples];
        var resample = new double[values.Count];
        for (var i = 0; i < Resamples; i++)
        {
            for (var j = 0; j < resample.Length; j++)
                resample[j] = values[random.Next(values.Count)];
            medians[i] = MedianOf(resample);
        }
        Array.Sort(medians);
        return new Estimate(MedianOf(values), medians[(int)(Resamples * 0.025)], medians[(int)(Resamples * 0.975)]);
    }

    internal static double MedianOf(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return sorted.Length % 2 == 1 ? sorted[sorted.Length / 2] : (sorted[sorted.Length / 2 - 1] + sorted[sorted.Length / 2]) / 2;
    }

    internal JsonObject ToJson() => new() { ["median"] = Median, ["low"] = Low, ["high"] = High };

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Median:0.00} [{Low:0.00}-{High:0.00}]");
}
