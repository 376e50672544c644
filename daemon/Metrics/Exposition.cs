using System.Globalization;
using System.Text;

namespace OverlayNet.Daemon.Metrics;

/// <summary>One value of a family; labels that are empty say nothing and are left out by Prometheus itself.</summary>
public readonly record struct Sample(double Value, params (string Name, string Value)[] Labels);

/// <param name="Bounds">Upper bounds of the buckets, rising, without +Inf.</param>
/// <param name="Counts">Observations in each bucket, not accumulated; one more than <paramref name="Bounds"/>, the last is beyond them all.</param>
/// <param name="Sum">Of all observations, in the family's unit.</param>
public readonly record struct HistogramSample(IReadOnlyList<double> Bounds, IReadOnlyList<long> Counts, double Sum, params (string Name, string Value)[] Labels);

/// <summary>
/// Writes Prometheus' text format 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format): a family is written once, with all its samples.
/// </summary>
public sealed class Exposition
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    private readonly StringBuilder _text = new();
    private readonly HashSet<string> _families = new(StringComparer.Ordinal);

    public void Counter(string name, string help, params IEnumerable<Sample> samples)
    {
        if (!name.EndsWith("_total", StringComparison.Ordinal))
            throw new ArgumentException($"a counter's name ends in _total: {name}", nameof(name));
        Family(name, "counter", help, samples);
    }

    public void Counter(string name, string help, double value) => Counter(name, help, new Sample(value));

    public void Gauge(string name, string help, params IEnumerable<Sample> samples) => Family(name, "gauge", help, samples);

    public void Gauge(string name, string help, double value) => Gauge(name, help, new Sample(value));

    public void Histogram(string name, string help, params IEnumerable<HistogramSample> samples)
    {
        Head(name, "histogram", help);
        foreach (var sample in samples)
        {
            var count = 0L;
            for (var i = 0; i < sample.Counts.Count; i++)
            {
                count += sample.Counts[i];
                Line(name + "_bucket", count, [.. sample.Labels, ("le", i < sample.Bounds.Count ? Number(sample.Bounds[i]) : "+Inf")]);
            }
            Line(name + "_sum", sample.Sum, sample.Labels);
            Line(name + "_count", count, sample.Labels);
        }
    }

    public override string ToString() => _text.ToString();

    private void Family(string name, string type, string help, IEnumerable<Sample> samples)
    {
        Head(name, type, help);
        foreach (var sample in samples)
            Line(name, sample.Value, sample.Labels);
    }

    private void Head(string name, string type, string help)
    {
        if (!IsName(name, colons: true))
            throw new ArgumentException($"'{name}' is not a metric's name", nameof(name));
        if (!_families.Add(name))
            throw new ArgumentException($"{name} is written twice", nameof(name));
        _text.Append("# HELP ").Append(name).Append(' ');
        Escape(help, quotes: false);
        _text.Append("\n# TYPE ").Append(name).Append(' ').Append(type).Append('\n');
    }

    private void Line(string name, double value, ReadOnlySpan<(string Name, string Value)> labels)
    {
        _text.Append(name);
        for (var i = 0; i < labels.Length; i++)
        {
            if (!IsName(labels[i].Name, colons: false))
                throw new ArgumentException($"'{labels[i].Name}' is not a label's name", nameof(labels));
            _text.Append(i == 0 ? '{' : ',').Append(labels[i].Name).Append("=\"");
            Escape(labels[i].Value, quotes: true);
            _text.Append('"');
        }
        if (labels.Length > 0)
            _text.Append('}');
        _text.Append(' ').Append(Number(value)).Append('\n');
    }

    private void Escape(string text, bool quotes)
    {
        foreach (var c in text)
        {
            switch (c)
            {
                case '\\':
                    _text.Append(@"\\");
                    break;
                case '\n':
                    _text.Append(@"\n");
                    break;
                case '"' when quotes:
                    _text.Append("\\\"");
                    break;
                default:
                    _text.Append(c);
                    break;
            }
        }
    }

    private static string Number(double value) => value switch
    {
        double.PositiveInfinity => "+Inf",
        double.NegativeInfinity => "-Inf",
        _ => value.ToString("R", CultureInfo.InvariantCulture),
    };

    private static bool IsName(string name, bool colons)
    {
        if (name.Length == 0 || char.IsAsciiDigit(name[0]))
            return false;
        foreach (var c in name)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c != '_' && !(c == ':' && colons))
                return false;
        }
        return true;
    }
}
