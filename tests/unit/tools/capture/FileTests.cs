using System.Buffers.Binary;
using OverlayNet.Tools.Capture.Decode;
using OverlayNet.Tools.Capture.Files;

namespace OverlayNet.UnitTests.Tools.Capture;

/// <summary>Capture files: what is written is read back, and what is broken is said.</summary>
public sealed class FileTests
{
    [Fact]
    public void WhatIsWrittenIsReadBack()
    {
        var file = Written(out var frames);
        using var reader = CaptureFileReader.Open(new MemoryStream(file), "x");
        for (var i = 0; i < frames.Length; i++)
        {
            Assert.True(reader.TryRead(out var record));
            Assert.Equal((i % 2 == 0 ? "web1" : "underlay", LinkType.Ethernet, 1_800_000_000_123_456_789 + i, frames[i].Length + 1), (record.Point, record.Link, record.TimeNs, record.Length));
            Assert.Equal(frames[i], record.Data.ToArray());
        }
        Assert.False(reader.TryRead(out _));
    }

    [Theory]
    [InlineData(false, 0xa1b2c3d4, 1_000)]
    [InlineData(false, 0xa1b23c4d, 1)]
    [InlineData(true, 0xa1b2c3d4, 1_000)]
    [InlineData(true, 0xa1b23c4d, 1)]
    public void TheClassicFormatInBothByteOrders(bool bigEndian, uint magic, int unitNs)
    {
        var file = new byte[24 + 16 + 3];
        uint[] fields = [magic, 0x0004_0002, 0, 0, 65535, 1, 1_800_000_000, 7, 3, 60];
        for (var i = 0; i < fields.Length; i++)
        {
            if (bigEndian)
                BinaryPrimitives.WriteUInt32BigEndian(file.AsSpan(i * 4), fields[i]);
            else
                BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(i * 4), fields[i]);
        }
        using var reader = CaptureFileReader.Open(new MemoryStream(file), "x");
        Assert.True(reader.TryRead(out var record));
        Assert.Equal((1_800_000_000L * 1_000_000_000 + 7 * unitNs, 60, 3), (record.TimeNs, record.Length, record.Data.Length));
        Assert.False(reader.TryRead(out _));
    }

    [Fact]
    public void FilesAreMergedByTime()
    {
        using var merged = new MergedReader([Open(5, 3), Open(1, 2), Open(4, 6)]);
        var times = new List<long>();
        while (merged.TryRead(out var record))
            times.Add(record.TimeNs);
        Assert.Equal([1, 2, 4, 5, 3, 6], times);

        static CaptureFileReader Open(params long[] times)
        {
            var stream = new MemoryStream();
            var writer = new PcapNgWriter(stream, "test");
            writer.AddInterface("a", "", LinkType.Ethernet, 0, "");
            foreach (var time in times)
                writer.Packet(0, time, [1, 2, 3], 3);
            return CaptureFileReader.Open(new MemoryStream(stream.ToArray()), "x");
        }
    }

    [Fact]
    public void WhatIsNoCaptureIsRefused()
    {
        Assert.Contains("neither pcap nor pcapng", Assert.Throws<CaptureFileException>(() => CaptureFileReader.Open(new MemoryStream("text file"u8.ToArray()), "x")).Message, StringComparison.Ordinal);
        Assert.Throws<CaptureFileException>(() => CaptureFileReader.Open(new MemoryStream([1]), "x"));
    }

    /// <summary>A broken file ends with a message that says where, never with anything else; fixed seed.</summary>
    [Fact]
    public void FilesOfAnyShapeAreSurvived()
    {
        var random = new Random(21);
        var good = Written(out _);
        for (var i = 0; i < 20_000; i++)
        {
            var file = (byte[])good.Clone();
            for (var flips = random.Next(6); flips > 0; flips--)
                file[random.Next(4, file.Length)] = (byte)random.Next(256);
            var length = random.Next(3) == 0 ? random.Next(4, file.Length) : file.Length;
            try
            {
                using var reader = CaptureFileReader.Open(new MemoryStream(file, 0, length), "x");
                while (reader.TryRead(out var record))
                    Assert.True(record.Data.Length <= record.Length);
            }
            catch (CaptureFileException e)
            {
                Assert.StartsWith("x: ", e.Message, StringComparison.Ordinal);
            }
        }
    }

    private static byte[] Written(out byte[][] frames)
    {
        frames = [.. Enumerable.Range(0, 7).Select(i => Frames.Udp("10.0.0.1", "10.0.0.2", 1, 2, new byte[i]))];
        var stream = new MemoryStream();
        var writer = new PcapNgWriter(stream, "test");
        writer.AddInterface("web1", "a port", LinkType.Ethernet, 65535, "udp");
        writer.AddInterface("underlay", "", LinkType.Ethernet, 65535, "");
        for (var i = 0; i < frames.Length; i++)
            writer.Packet(i % 2, 1_800_000_000_123_456_789 + i, frames[i], frames[i].Length + 1, i == 0 ? "a comment" : null);
        writer.Statistics(0, 1_800_000_000_123_456_789, 4, 0);
        Assert.Equal(stream.Length, writer.Written);
        return stream.ToArray();
    }
}
