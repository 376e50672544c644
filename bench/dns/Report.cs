using System.Globalization;
using System.Text.Json;

namespace OverlayNet.Bench.Dns;

/// <summary>Ratios first: they hold on other machines, the figures below them do not.</summary>
internal static class Report
{
    private static readonly (string Text, string A, string B, double Goal)[] Ratios =
    [
        ("overlaynet / C echo", Comparison.Ours, Comparison.Echo, 1.15),
        ("overlaynet / knot", Comparison.Ours, "knot", 0.70),
        ("C echo / knot", Comparison.Echo, "knot", double.NaN),
        ("100 clients: overlaynet / C echo", Comparison.ByMany(Comparison.Ours), Comparison.ByMany(Comparison.Echo), 1.15),
        ("100 clients: overlaynet / knot", Comparison.ByMany(Comparison.Ours), Comparison.ByMany("knot"), double.NaN),
        ("100 clients: C echo / knot", Comparison.ByMany(Comparison.Echo), Comparison.ByMany("knot"), double.NaN),
        ("overlaynet / nsd", Comparison.Ours, "nsd", double.NaN),
        ("overlaynet / unbound", Comparison.Ours, "unbound", double.NaN),
        ("overlaynet / dnsmasq", Comparison.Ours, "dnsmasq", double.NaN),
        ("500 sockets at 20k/s / C echo", Comparison.OursMany, Comparison.Echo, 2.2),
        ("500 sockets in kernel / C echo", Comparison.OursManyInKernel, Comparison.Echo, 2.2),
        ("in kernel / C echo", Comparison.OursInKernel, Comparison.Echo, 1.15),
        ("in kernel / knot", Comparison.OursInKernel, "knot", 0.70),
        ("100 clients: in kernel / knot", Comparison.ByMany(Comparison.OursInKernel), Comparison.ByMany("knot"), double.NaN),
        ("500 sockets / C echo, at 20k/s", Comparison.OursMany, Comparison.EchoPaced, double.NaN),
        ("cache hits / unbound's", Comparison.OursCache, Comparison.UnboundCache, 2.0),
    ];

    public static void WriteTable(Comparison comparison, InProcess.UpdateResult update, InProcess.LoadResult load)
    {
        Line($"{"server CPU per query",-34}{"ratio [95 %]",-24}goal");
        foreach (var (text, a, b, goal) in Ratios)
            Line($"{text,-34}{comparison.RatioOf(a, b),-24}{(double.IsNaN(goal) ? "" : "<= " + goal.ToString("F2", CultureInfo.InvariantCulture))}");
        Line($"");
        Line($"{"whole machine, client included",-34}{"ratio [95 %]",-24}");
        foreach (var (text, a, b, _) in Ratios)
            Line($"{text,-34}{comparison.MachineRatioOf(a, b),-24}");
        Line($"");
        Line($"{"server",-26}{"CPU-s/M median",16}{"machine",9}{"qps best",12}{"lost %",9}{"p50 us",9}{"p99 us",9}{"RSS MB",9}");
        foreach (var (name, slices) in comparison.Slices)
        {
            var p50 = Ratio.Median(slices.Select(s => s.P50));
            var p99 = Ratio.Median(slices.Select(s => s.P99));
            var rss = comparison.Resident.TryGetValue(name, out var bytes) ? (bytes / 1048576.0).ToString("F0", CultureInfo.InvariantCulture) : "";
            Line($"{name,-26}{Ratio.Median(slices.Select(s => s.CpuSecondsPerMillion)),16:F2}{Ratio.Median(slices.Select(s => s.MachineSecondsPerMillion)),9:F2}{slices.Max(s => s.QueriesPerSecond),12:F0}{slices.Average(s => s.LostPercent),9:F3}{(p50 > 0 ? p50.ToString("F0", CultureInfo.InvariantCulture) : ""),9}{(p99 > 0 ? p99.ToString("F0", CultureInfo.InvariantCulture) : ""),9}{rss,9}");
        }

        Line($"");
        Line($"one update at 10,000 names: Apply p50 {update.ApplyP50:F0} us, p99 {update.ApplyP99:F0} us; answered p50 {update.VisibleP50:F0} us, p99 {update.VisibleP99:F0} us (goal 1000)");
        Line($"{load.Names:N0} names: {load.Seconds:F2} s (goal 1), {load.BytesPerName:F0} bytes a name (goal 120)");
    }

    public static void WriteJson(Comparison comparison, InProcess.UpdateResult update, InProcess.LoadResult load) =>
        Console.WriteLine(JsonSerializer.Serialize(new
        {
            ratios = Ratios.Select(r => (r.Text, Value: comparison.RatioOf(r.A, r.B), r.Goal)).Select(r => new
            {
                name = r.Text,
                value = r.Value.Value,
                low = r.Value.Low,
                high = r.Value.High,
                goal = double.IsNaN(r.Goal) ? (double?)null : r.Goal,
            }),
            servers = comparison.Slices.Select(s => new
            {
                name = s.Key,
                cpuSecondsPerMillion = Ratio.Median(s.Value.Select(v => v.CpuSecondsPerMillion)),
                machineSecondsPerMillion = Ratio.Median(s.Value.Select(v => v.MachineSecondsPerMillion)),
                queriesPerSecond = s.Value.Max(v => v.QueriesPerSecond),
                lostPercent = s.Value.Average(v => v.LostPercent),
                p50Microseconds = Ratio.Median(s.Value.Select(v => v.P50)),
                p99Microseconds = Ratio.Median(s.Value.Select(v => v.P99)),
                residentBytes = comparison.Resident.GetValueOrDefault(s.Key),
            }),
            update = new { applyP50 = update.ApplyP50, applyP99 = update.ApplyP99, visibleP50 = update.VisibleP50, visibleP99 = update.VisibleP99 },
            load = new { names = load.Names, seconds = load.Seconds, bytesPerName = load.BytesPerName },
        }));

    private static void Line(FormattableString text) => Console.WriteLine(text.ToString(CultureInfo.InvariantCulture));
}
