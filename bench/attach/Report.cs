using System.Globalization;
using System.Text.Json.Nodes;

namespace OverlayNet.Bench.Attach;

/// <summary>Milliseconds: the attach call itself; from its return to the name, and to the VIP, on the slowest of the nodes.</summary>
internal readonly record struct Sample(double Attach, double Name, double Vip);

internal static class Report
{
    public static void Print(IReadOnlyList<Sample> samples, bool json)
    {
        (string Name, double[] Values)[] rows =
        [
            ("attach call", [.. samples.Select(sample => sample.Attach)]),
            ("name answers on all nodes", [.. samples.Select(sample => sample.Name)]),
            ("vip balances on all nodes", [.. samples.Select(sample => sample.Vip)]),
            ("both, after the call returned", [.. samples.Select(sample => Math.Max(sample.Name, sample.Vip))]),
        ];
        if (json)
        {
            var report = new JsonObject { ["benchmark"] = "attach", ["runs"] = samples.Count };
            foreach (var (name, values) in rows)
                report[name] = new JsonObject { ["p50Ms"] = Quantile(values, 0.5), ["p99Ms"] = Quantile(values, 0.99), ["maxMs"] = Math.Round(values.Max(), 2) };
            Console.WriteLine(report.ToJsonString());
            return;
        }
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{"ms, " + samples.Count + " runs, three nodes",-32} {"p50",8} {"p99",8} {"max",8}"));
        foreach (var (name, values) in rows)
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-32} {Quantile(values, 0.5),8:F1} {Quantile(values, 0.99),8:F1} {values.Max(),8:F1}"));
    }

    private static double Quantile(double[] values, double quantile)
    {
        var sorted = values.Order().ToArray();
        return Math.Round(sorted[Math.Min(sorted.Length - 1, (int)Math.Ceiling(quantile * sorted.Length) - 1)], 2);
    }
}
