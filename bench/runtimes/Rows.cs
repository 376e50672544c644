using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;

namespace OverlayNet.Bench.Runtimes;

/// <summary>
/// Times in milliseconds by what was done. Of a change: from the command to the changed answer, and the part of it after the
/// command had returned (0 when the answer was there before).
/// </summary>
internal sealed class Rows
{
    private readonly Dictionary<string, List<(double Whole, double After)>> _rows = [];

    public void Change(string what, Action command, Func<long> changed)
    {
        var started = Stopwatch.GetTimestamp();
        // The answer may change before the command returns.
        var seen = Task.Run(changed);
        command();
        var returned = Stopwatch.GetTimestamp();
        var at = seen.GetAwaiter().GetResult();
        Add(what, Stopwatch.GetElapsedTime(started, at).TotalMilliseconds, Math.Max(0, Stopwatch.GetElapsedTime(returned, at).TotalMilliseconds));
    }

    public void Time(string what, Action action)
    {
        var started = Stopwatch.GetTimestamp();
        action();
        var whole = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        Add(what, whole, whole);
    }

    public void Print(int runs, bool json)
    {
        if (json)
        {
            var report = new JsonObject { ["benchmark"] = "runtimes", ["runs"] = runs };
            foreach (var (what, samples) in _rows)
            {
                report[what] = new JsonObject
                {
                    ["p50Ms"] = Quantile(samples.Select(s => s.Whole), 0.5),
                    ["p99Ms"] = Quantile(samples.Select(s => s.Whole), 0.99),
                    ["afterP50Ms"] = Quantile(samples.Select(s => s.After), 0.5),
                    ["afterP99Ms"] = Quantile(samples.Select(s => s.After), 0.99),
                };
            }
            Console.WriteLine(report.ToJsonString());
            return;
        }
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{$"ms, {runs} runs",-44} {"p50",8} {"p99",8}   {"after the command: p50",22} {"p99",8}"));
        foreach (var (what, samples) in _rows)
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what,-44} {Quantile(samples.Select(s => s.Whole), 0.5),8:F0} {Quantile(samples.Select(s => s.Whole), 0.99),8:F0}   {Quantile(samples.Select(s => s.After), 0.5),22:F1} {Quantile(samples.Select(s => s.After), 0.99),8:F1}"));
    }

    private void Add(string what, double whole, double after)
    {
        if (!_rows.TryGetValue(what, out var samples))
            _rows[what] = samples = [];
        samples.Add((whole, after));
    }

    private static double Quantile(IEnumerable<double> values, double quantile)
    {
        var sorted = values.Order().ToArray();
        return Math.Round(sorted[Math.Min(sorted.Length - 1, (int)Math.Ceiling(quantile * sorted.Length) - 1)], 2);
    }
}
