using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace OverlayNet.Daemon.Metrics;

/// <summary>
/// Adds up what the program's instruments measure (counters of <see cref="long"/>, histograms of <see cref="double"/>) and writes it
/// by Prometheus' rules: <c>overlaynet.health.checks</c> becomes <c>overlaynet_health_checks_total</c>, a unit of seconds <c>_seconds</c>.
/// </summary>
internal sealed class MeterReader : IDisposable
{
    // Where an instrument does not say: from a tenth of a millisecond to ten seconds.
    private static readonly double[] DefaultBounds = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10];
    private readonly MeterListener _listener = new();
    private readonly ConcurrentDictionary<Instrument, Series> _series = new();

    /// <param name="meter">Instruments of meters of this name are read, those of them that come later too.</param>
    public MeterReader(string meter)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name != meter || instrument is not (Counter<long> or Histogram<double>))
                return;
            listener.EnableMeasurementEvents(instrument, _series.GetOrAdd(instrument, _ => new Series(instrument)));
        };
        _listener.SetMeasurementEventCallback<long>(static (_, value, tags, state) => ((Series)state!).Cell(tags).Add(value));
        _listener.SetMeasurementEventCallback<double>(static (_, value, tags, state) => ((Series)state!).Cell(tags).Observe(value));
        _listener.Start();
    }

    public void Write(Exposition exposition)
    {
        foreach (var (instrument, series) in _series.OrderBy(entry => entry.Key.Name, StringComparer.Ordinal))
        {
            var name = NameOf(instrument);
            var help = instrument.Description ?? instrument.Name;
            if (instrument is Histogram<double>)
                exposition.Histogram(name, help, series.Cells.Select(cell => cell.ToHistogram()));
            else
                exposition.Counter(name, help, series.Cells.Select(cell => cell.ToCounter()));
        }
    }

    public void Dispose() => _listener.Dispose();

    private static string NameOf(Instrument instrument)
    {
        var name = instrument.Name.Replace('.', '_');
        if (instrument.Unit == "s")
            name += "_seconds";
        return instrument is Counter<long> ? name + "_total" : name;
    }

    private sealed class Series
    {
        private readonly ConcurrentDictionary<string, Cell> _cells = new(StringComparer.Ordinal);
        private readonly double[]? _bounds;

        public Series(Instrument instrument)
        {
            if (instrument is Histogram<double> histogram)
                _bounds = histogram.Advice?.HistogramBucketBoundaries is { } advised ? [.. advised] : DefaultBounds;
        }

        public IEnumerable<Cell> Cells => _cells.Values.OrderBy(cell => cell.Key, StringComparer.Ordinal);

        public Cell Cell(ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            var key = "";
            foreach (var (name, value) in tags)
                key += $"{name}\0{value}\0";
            if (_cells.TryGetValue(key, out var known))
                return known;
            var labels = new (string, string)[tags.Length];
            for (var i = 0; i < tags.Length; i++)
                labels[i] = (tags[i].Key.Replace('.', '_'), tags[i].Value?.ToString() ?? "");
            return _cells.GetOrAdd(key, new Cell(key, labels, _bounds));
        }
    }

    private sealed class Cell(string key, (string, string)[] labels, double[]? bounds)
    {
        private readonly Lock _gate = new();
        private readonly long[] _counts = new long[(bounds?.Length ?? 0) + 1];
        private double _sum;
        private long _count;

        public string Key => key;

        public (string, string)[] Labels => labels;

        public void Add(long value) => Interlocked.Add(ref _count, value);

        public void Observe(double value)
        {
            var bucket = Array.FindIndex(bounds!, bound => value <= bound);
            lock (_gate)
            {
                _counts[bucket < 0 ? ^1 : bucket]++;
                _sum += value;
            }
        }

        public Sample ToCounter() => new(Interlocked.Read(ref _count), labels);

        public HistogramSample ToHistogram()
        {
            lock (_gate)
                return new HistogramSample(bounds!, [.. _counts], _sum, labels);
        }
    }
}
