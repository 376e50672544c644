using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Files;
using OverlayNet.Tools.Capture.Nodes;

namespace OverlayNet.UnitTests.Tools.Capture;

/// <summary>Streams of several nodes become one in the order of time, whatever the pace at which each comes in.</summary>
public sealed class TimeMergeTests
{
    [Fact]
    public void A_packet_waits_until_every_source_has_got_past_it()
    {
        var handed = new List<long>();
        var merge = new TimeMerge(2, record => handed.Add(record.TimeNs));
        merge.Take(0, At(5));
        merge.Take(0, At(9));
        Assert.Empty(handed);
        merge.Take(1, At(3));
        Assert.Equal([3], handed);
        merge.Reach(1, 7);
        Assert.Equal([3, 5], handed);
        merge.End(1);
        Assert.Equal([3, 5, 9], handed);
        Assert.Equal(0, merge.Late);
    }

    [Fact]
    public void A_silent_source_is_not_waited_for_until_it_speaks_again()
    {
        var handed = new List<long>();
        var merge = new TimeMerge(2, record => handed.Add(record.TimeNs));
        merge.Take(0, At(5));
        merge.Silence(1);
        Assert.Equal([5], handed);
        merge.Take(1, At(4));
        Assert.Equal(1, merge.Late);
        merge.Take(0, At(8));
        Assert.Equal([5, 4], handed);
        merge.Drain();
        Assert.Equal([5, 4, 8], handed);
    }

    [Fact]
    public void What_waits_is_bounded()
    {
        var handed = 0;
        var merge = new TimeMerge(2, _ => handed++, most: 10);
        for (var i = 0; i < 1000; i++)
            merge.Take(0, At(i));
        Assert.Equal(10, merge.Waiting);
        Assert.Equal(990, handed);
    }

    /// <summary>Any sources, each in its own order, mixed in any way: all packets, each once, in order.</summary>
    [Fact]
    public void Every_packet_comes_once_and_in_order()
    {
        var events = Gen.Choose(0, 2).SelectMany(source => Gen.Choose(0, 3).Select(step => (Source: source, Step: step))).ListOf();
        Check.QuickThrowOnFailure(Prop.ForAll(events.ToArbitrary(), list =>
        {
            var handed = new List<(string Point, long TimeNs)>();
            var merge = new TimeMerge(3, record => handed.Add((record.Point, record.TimeNs)));
            var now = new long[3];
            var given = new List<(string Point, long TimeNs)>();
            foreach (var (source, step) in list)
            {
                now[source] += step;
                // Without a step it is only a mark.
                if (step == 0)
                {
                    merge.Reach(source, now[source]);
                    continue;
                }
                var record = At(now[source]) with { Point = $"{source}" };
                given.Add((record.Point, record.TimeNs));
                merge.Take(source, record);
            }
            for (var source = 0; source < 3; source++)
                merge.End(source);
            return merge.Late == 0 && merge.Waiting == 0 && handed.Select(one => one.TimeNs).SequenceEqual(handed.Select(one => one.TimeNs).Order()) && handed.Order().SequenceEqual(given.Order());
        }));
    }

    [Theory]
    [InlineData(500, 1000, 0)]
    [InlineData(-5000, 1000, 5000)]
    [InlineData(5000, 1000, -5000)]
    public void A_clock_is_corrected_by_what_is_beyond_doubt(long offset, long uncertainty, long shift) =>
        Assert.Equal(shift, NodeStream.Shift(new ClockOffset { Node = "node2", OffsetNs = offset, UncertaintyNs = uncertainty }));

    /// <summary>As a stream of another node comes: its points named, its marks and counts, its packets in this node's time.</summary>
    [Fact]
    public void A_stream_is_read_as_it_comes()
    {
        var file = new MemoryStream();
        using (var writer = new PcapNgWriter(file, "test"))
        {
            writer.AddInterface("web1", "a port", LinkType.Ethernet, 0, "tcp", "a comment");
            writer.Packet(0, 1_000_000, [1, 2, 3], 3);
            writer.Statistics(0, 2_000_000, 7, 1);
        }
        var heard = new Heard();
        var stream = new NodeStream(4, "node2", new MemoryStream(file.ToArray()), new ClockOffset { Node = "node2", OffsetNs = 400_000, UncertaintyNs = 100_000 }, heard);
        stream.Start();
        stream.Join();
        Assert.Equal(["described node2:web1 a port tcp", "captured node2:web1 600000 3", "counted node2:web1 1600000 7 1", "ended "], heard.Words);
        Assert.Equal("the clock of node2 is 0.400 ms ahead, to within 0.100 ms; its time stamps are moved by -0.400 ms", stream.Comment);
    }

    private static CaptureRecord At(long timeNs) => new("", LinkType.Ethernet, timeNs, 0, default);

    private sealed class Heard : INodeStreamSink
    {
        public List<string> Words { get; } = [];

        public void Described(NodeStream stream, CapturedInterface point) => Words.Add($"described {point.Name} {point.Description} {point.Filter}");

        public void Captured(NodeStream stream, CaptureRecord record) => Words.Add($"captured {record.Point} {record.TimeNs} {record.Data.Length}");

        public void Counted(NodeStream stream, CapturedCounts counts) => Words.Add($"counted {counts.Name} {counts.TimeNs} {counts.Received} {counts.Dropped}");

        public void Ended(NodeStream stream, string? problem) => Words.Add($"ended {problem}");
    }
}
