using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using OverlayNet.Bench.Health;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;

const int Nodes = 3;
var quick = args.Contains("--quick");
var json = args.Contains("--json");
// One node's part of ten thousand.
var targets = (quick ? 3000 : 10_000) / Nodes;
var interval = TimeSpan.FromSeconds(5);
var window = quick ? TimeSpan.FromSeconds(5) : TimeSpan.FromSeconds(10);
var rounds = quick ? 3 : 5;

using var bed = new Bed();
using var starts = new Starts();
var (ours, theirs) = (new List<double>(), new List<double>());
var checks = Enumerable.Range(0, targets).ToDictionary(i => $"{i:x12}", i => new PlannedCheck(
    $"{i:x12}", new HealthCheck { Kind = CheckKind.Http, Path = "/healthz", IntervalMs = (int)interval.TotalMilliseconds }, Bed.Target(i), 80,
    bed.Probers, Bed.Source, "", "web", Own: true, InUse: true, Eager: false, Reach: false));
for (var round = 0; round <= rounds; round++)
{
    using (var prober = new HealthProber(TimeProvider.System, NullLogger<HealthProber>.Instance))
    {
        prober.Apply(checks);
        prober.Start();
        Thread.Sleep(interval);
        var cost = Measure(Process.GetCurrentProcess);
        // The first round compiles.
        if (round > 0)
            ours.Add(cost);
        if (prober.Trust().Silent > 0)
            Console.Error.WriteLine($"{prober.Trust().Silent} targets gave no answer");
    }
    var checker = bed.StartChecker(targets, interval);
    Thread.Sleep(interval);
    var peer = Measure(() => Process.GetProcessById(checker.Id));
    if (round > 0)
        theirs.Add(peer);
    Bed.Stop(checker);
}

var ratios = ours.Zip(theirs, (a, b) => a / b).Order().ToArray();
var histogram = starts.Histogram(TimeSpan.FromMilliseconds(100));
if (json)
{
    Console.WriteLine(JsonSerializer.Serialize(new
    {
        benchmark = "health",
        targets,
        intervalMs = interval.TotalMilliseconds,
        ratio = Median(ratios),
        ratioLow = ratios[0],
        ratioHigh = ratios[^1],
        oursMicroseconds = Median(ours),
        haproxyMicroseconds = Median(theirs),
        startsPer100Ms = new { least = histogram[0], median = histogram[histogram.Count / 2], most = histogram[^1], expected = targets / interval.TotalSeconds / 10 },
        lateMs = new { p50 = starts.Late(0.5), p99 = starts.Late(0.99), max = starts.Late(1) },
    }));
    return;
}
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{targets} targets every {interval.TotalSeconds:0} s (a third of {targets * Nodes}), HTTP, {rounds} interleaved rounds of {window.TotalSeconds:0} s; CPU of the prober's process, kernel's part included"));
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {Median(ratios),8:0.00} [{ratios[0]:0.00}, {ratios[^1]:0.00}] CPU a check, ours / HAProxy's"));
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {Median(ours),8:0.0} us a check, ours: {Median(ours) * targets / interval.TotalSeconds / 1e4:0.00} % of a processor"));
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {Median(theirs),8:0.0} us a check, HAProxy's"));
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  checks begun in each 100 ms: expected {targets / interval.TotalSeconds / 10:0}, least {histogram[0]}, p10 {histogram[histogram.Count / 10]}, median {histogram[histogram.Count / 2]}, p90 {histogram[histogram.Count * 9 / 10]}, most {histogram[^1]}"));
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  begun late by: p50 {starts.Late(0.5):0.0} ms, p99 {starts.Late(0.99):0.0} ms, at most {starts.Late(1):0.0} ms"));

static double Median(IEnumerable<double> values)
{
    var sorted = values.Order().ToArray();
    return sorted[sorted.Length / 2];
}

// Microseconds of CPU for each request that the answering side has counted meanwhile.
double Measure(Func<Process> find)
{
    var (cpu, answered) = (Cpu(find), bed.Answered());
    starts.Record = true;
    Thread.Sleep(window);
    starts.Record = false;
    return (Cpu(find) - cpu).TotalMicroseconds / (bed.Answered() - answered);
}

static TimeSpan Cpu(Func<Process> find)
{
    using var process = find();
    return process.TotalProcessorTime;
}

namespace OverlayNet.Bench.Health
{
    /// <summary>When checks began, as the prober's own metrics tell.</summary>
    internal sealed class Starts : IDisposable
    {
        private readonly MeterListener _listener = new();
        private readonly ConcurrentQueue<(long At, double Late)> _starts = new();

        public Starts()
        {
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == "overlaynet.health.lateness")
                    listener.EnableMeasurementEvents(instrument);
            };
            _listener.SetMeasurementEventCallback<double>((_, late, _, _) =>
            {
                if (Record)
                    _starts.Enqueue((Stopwatch.GetTimestamp(), late));
            });
            _listener.Start();
        }

        public bool Record { get; set; }

        /// <summary>How many began in each slot, sorted; slots at the edges of a recording are left out.</summary>
        public IReadOnlyList<int> Histogram(TimeSpan slot)
        {
            var ticks = slot.TotalSeconds * Stopwatch.Frequency;
            var counts = _starts.GroupBy(start => (long)(start.At / ticks)).ToDictionary(group => group.Key, group => group.Count());
            return [.. counts.Keys.Where(key => counts.ContainsKey(key - 1) && counts.ContainsKey(key + 1)).Select(key => counts[key]).Order()];
        }

        public double Late(double which)
        {
            var sorted = _starts.Select(start => start.Late).Order().ToArray();
            return sorted.Length == 0 ? 0 : sorted[Math.Min(sorted.Length - 1, (int)(which * sorted.Length))];
        }

        public void Dispose() => _listener.Dispose();
    }
}
