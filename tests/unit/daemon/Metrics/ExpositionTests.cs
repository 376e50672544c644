using System.Diagnostics.Metrics;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Daemon.Metrics;

namespace OverlayNet.UnitTests.Daemon.Metrics;

/// <summary>The text format, read back as its page describes it; promtool judges real pages in the cluster tests.</summary>
public sealed class ExpositionTests
{
    [Fact]
    public void A_family_is_help_type_and_samples()
    {
        var page = new Exposition();
        page.Counter("asked_total", "Questions\nthat \\ came", new Sample(3, ("a", "x\"y\\z\n")), new Sample(double.PositiveInfinity));
        page.Gauge("level", "Level", 0.5);

        Assert.Equal("# HELP asked_total Questions\\nthat \\\\ came\n# TYPE asked_total counter\nasked_total{a=\"x\\\"y\\\\z\\n\"} 3\nasked_total +Inf\n# HELP level Level\n# TYPE level gauge\nlevel 0.5\n", page.ToString());
    }

    [Fact]
    public void Buckets_of_a_histogram_are_accumulated()
    {
        var page = new Exposition();
        page.Histogram("took_seconds", "Took", new HistogramSample([0.1, 1], [2, 0, 1], 7.25, ("k", "v")));

        Assert.EndsWith(
            "took_seconds_bucket{k=\"v\",le=\"0.1\"} 2\ntook_seconds_bucket{k=\"v\",le=\"1\"} 2\ntook_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\ntook_seconds_sum{k=\"v\"} 7.25\ntook_seconds_count{k=\"v\"} 3\n",
            page.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_that_Prometheus_would_refuse_are_refused()
    {
        var page = new Exposition();

        Assert.Throws<ArgumentException>(() => page.Gauge("a.b", "", 1));
        Assert.Throws<ArgumentException>(() => page.Counter("without_ending", "", 1));
        Assert.Throws<ArgumentException>(() => page.Gauge("ok", "", new Sample(1, ("no-label", ""))));
        page.Gauge("twice", "", 1);
        Assert.Throws<ArgumentException>(() => page.Gauge("twice", "", 1));
    }

    [Fact]
    public void Every_label_and_number_is_read_back() => Prop.ForAll(
        Gen.Zip(ArbMap.Default.GeneratorFor<string>().Where(text => text is not null), ArbMap.Default.GeneratorFor<double>()).ToArbitrary(),
        pair =>
        {
            var (label, number) = pair;
            var page = new Exposition();
            page.Gauge("g", "G", new Sample(number, ("l", label)));
            var line = page.ToString()["# HELP g G\n# TYPE g gauge\n".Length..];
            var (read, rest) = ReadLabel(line["g{l=\"".Length..]);
            return read == label && rest.StartsWith("} ", StringComparison.Ordinal) && rest[^1] == '\n' && rest.Count(c => c == '\n') == 1
                && double.Parse(rest[2..^1].Replace("+Inf", "Infinity", StringComparison.Ordinal).Replace("-Inf", "-Infinity", StringComparison.Ordinal), System.Globalization.CultureInfo.InvariantCulture).Equals(number);
        }).QuickCheckThrowOnFailure();

    [Fact]
    public void Instruments_are_read_by_Prometheus_rules()
    {
        var name = $"test-{Guid.NewGuid():N}";
        using var reader = new MeterReader(name);
        using var meter = new Meter(name);
        var counter = meter.CreateCounter<long>("overlaynet.some.things", "{thing}", "Things");
        var histogram = meter.CreateHistogram("overlaynet.some.wait", "s", "Waits", advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [1, 2] });
        counter.Add(2, new KeyValuePair<string, object?>("the.kind", "b"));
        counter.Add(3, new KeyValuePair<string, object?>("the.kind", "a"));
        counter.Add(4, new KeyValuePair<string, object?>("the.kind", "b"));
        histogram.Record(1);
        histogram.Record(1.5);
        histogram.Record(9);
        var page = new Exposition();

        reader.Write(page);

        Assert.Equal("""
            # HELP overlaynet_some_things_total Things
            # TYPE overlaynet_some_things_total counter
            overlaynet_some_things_total{the_kind="a"} 3
            overlaynet_some_things_total{the_kind="b"} 6
            # HELP overlaynet_some_wait_seconds Waits
            # TYPE overlaynet_some_wait_seconds histogram
            overlaynet_some_wait_seconds_bucket{le="1"} 1
            overlaynet_some_wait_seconds_bucket{le="2"} 2
            overlaynet_some_wait_seconds_bucket{le="+Inf"} 3
            overlaynet_some_wait_seconds_sum 11.5
            overlaynet_some_wait_seconds_count 3

            """, page.ToString());
    }

    private static (string Label, string After) ReadLabel(string text)
    {
        var label = new StringBuilder();
        for (var i = 0; ; i++)
        {
            if (text[i] == '"')
                return (label.ToString(), text[(i + 1)..]);
            if (text[i] == '\\')
                label.Append(text[++i] == 'n' ? '\n' : text[i]);
            else
                label.Append(text[i]);
        }
    }
}
