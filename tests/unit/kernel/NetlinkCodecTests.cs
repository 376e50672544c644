using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.UnitTests.Kernel;

/// <summary>Writer and reader: round trips, layout by hand, and whatever octets.</summary>
public sealed class NetlinkCodecTests
{
    [Fact]
    public void EveryKindOfAttributeComesBack()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[16]);
        writer.Begin(20, NetlinkFlags.Request | NetlinkFlags.Create);
        writer.Struct(new Fixed { A = 1, B = 0x0203 });
        writer.U8(1, 0xab);
        writer.U16(2, 0xabcd);
        writer.U32(3, 0xabcdef01);
        writer.U64(4, 0x0102030405060708);
        writer.I32(5, -5);
        writer.U16BigEndian(6, 4789);
        writer.U32BigEndian(7, 0x01020304);
        writer.U64BigEndian(8, 0x0102030405060708);
        writer.String(9, "br0");
        writer.Address(10, IPAddress.Parse("10.1.2.3"));
        writer.Address(11, IPAddress.Parse("fd00::1"));
        writer.Mac(12, MacAddress.Parse("02:42:00:00:00:fe"));
        writer.Flag(13);
        var nest = writer.BeginNest(14);
        var inner = writer.BeginNestRaw(1);
        writer.U8(2, 7);
        writer.EndNest(inner);
        writer.EndNest(nest);
        writer.StructAttribute(15, new Fixed { A = 9, B = 10 });
        writer.End();
        var seen = 0;
        foreach (var message in new NetlinkMessageReader(writer.Written))
        {
            Assert.Equal((20, NetlinkFlags.Request | NetlinkFlags.Create), (message.Type, message.Flags));
            Assert.Equal(0x0203u, message.Header<Fixed>().B);
            foreach (var attribute in message.Attributes<Fixed>())
            {
                seen++;
                switch (attribute.Type)
                {
                    case 1: Assert.Equal(0xab, attribute.U8); break;
                    case 2: Assert.Equal(0xabcd, attribute.U16); break;
                    case 3: Assert.Equal(0xabcdef01, attribute.U32); break;
                    case 4: Assert.Equal(0x0102030405060708ul, attribute.U64); break;
                    case 5: Assert.Equal(-5, attribute.I32); break;
                    case 6: Assert.Equal((4789, 0x12), (attribute.U16BigEndian, attribute.Payload[0])); break;
                    case 7: Assert.Equal((0x01020304u, 1), (attribute.U32BigEndian, attribute.Payload[0])); break;
                    case 8: Assert.Equal((0x0102030405060708ul, 1), (attribute.U64BigEndian, attribute.Payload[0])); break;
                    case 9: Assert.Equal(("br0", 4), (attribute.String, attribute.Payload.Length)); break;
                    case 10: Assert.Equal(IPAddress.Parse("10.1.2.3"), attribute.Address); break;
                    case 11: Assert.Equal(IPAddress.Parse("fd00::1"), attribute.Address); break;
                    case 12: Assert.Equal(MacAddress.Parse("02:42:00:00:00:fe"), attribute.Mac); break;
                    case 13: Assert.Equal(0, attribute.Payload.Length); break;
                    case 14: Assert.Equal(7, First(First(attribute.Nested).Nested).U8); break;
                    case 15: Assert.Equal(10u, attribute.Struct<Fixed>().B); break;
                }
            }
        }
        Assert.Equal(15, seen);
        writer.Dispose();
    }

    [Fact]
    public void MessagesStandOnFourOctetsAndGrowPastTheFirstBuffer()
    {
        var writer = new NetlinkMessageWriter(stackalloc byte[32]);
        for (var i = 0; i < 1000; i++)
        {
            writer.Begin((ushort)(16 + i), NetlinkFlags.Request);
            writer.String(1, new string('x', i % 7));
        }
        writer.End();
        Assert.Equal(1000, writer.Count);
        var expected = 16;
        foreach (var message in new NetlinkMessageReader(writer.Written))
        {
            Assert.Equal(expected, message.Type);
            Assert.Equal((expected - 16) % 7, First(new NetlinkAttributes(message.Payload)).String.Length);
            expected++;
        }
        Assert.Equal(1016, expected);
        writer.Clear();
        Assert.Equal((0, 0), (writer.Count, writer.Length));
        writer.Dispose();
    }

    [Fact]
    public void WhatTheFormatCannotSayIsRefused()
    {
        Assert.Throws<ArgumentException>(() =>
        {
            var writer = new NetlinkMessageWriter([]);
            writer.Begin(16, NetlinkFlags.None);
            writer.Attribute(1, new byte[65536]);
        });
        Assert.Throws<InvalidOperationException>(() =>
        {
            var writer = new NetlinkMessageWriter([]);
            writer.Begin(16, NetlinkFlags.None);
            var nest = writer.BeginNest(1);
            writer.Attribute(1, new byte[40000]);
            writer.Attribute(1, new byte[40000]);
            writer.EndNest(nest);
        });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(1000)]
    public void AMessageLengthThatDoesNotFitIsInvalidData(int length)
    {
        var octets = new byte[20];
        BitConverter.TryWriteBytes(octets, length);
        Assert.Throws<InvalidDataException>(() => new NetlinkMessageReader(octets).GetEnumerator().MoveNext());
    }

    [Fact]
    public void ShortPayloadsAreInvalidData()
    {
        byte[] octets = [5, 0, 1, 0, 9, 0, 0, 0];
        Assert.Throws<InvalidDataException>(() => First(new NetlinkAttributes(octets)).U32);
        Assert.Throws<InvalidDataException>(() => First(new NetlinkAttributes(octets)).Mac);
        Assert.Throws<InvalidDataException>(() => First(new NetlinkAttributes(octets)).Address);
        Assert.Equal(9u, First(new NetlinkAttributes(octets)).Struct<Fixed>().A);
        Assert.Throws<InvalidDataException>(() => new NetlinkMessage(16, NetlinkFlags.None, 1, 0, new byte[3]).Header<Fixed>());
    }

    [Fact]
    public void NoOctetsWhateverMakeTheReaderOrAParserFailOtherwiseThanSaid()
    {
        var random = new Random(20261122);
        byte[][] seeds =
        [
            RecordedMessages.Bridge, RecordedMessages.VxlanPort, RecordedMessages.Neighbours, RecordedMessages.Fdb,
            RecordedMessages.Addresses, RecordedMessages.Routes, RecordedMessages.RefusedNeighbour, RecordedMessages.RefusedVxlan,
        ];
        for (var round = 0; round < 20_000; round++)
        {
            var octets = seeds[random.Next(seeds.Length)].ToArray();
            for (var damage = random.Next(1, 8); damage > 0; damage--)
                octets[random.Next(octets.Length)] = (byte)random.Next(256);
            Digest(octets.AsSpan(0, random.Next(octets.Length + 1)));
        }
    }

    private static void Digest(ReadOnlySpan<byte> octets)
    {
        try
        {
            foreach (var message in new NetlinkMessageReader(octets))
            {
                NetlinkMonitor.Parse(message);
                foreach (var attribute in new NetlinkAttributes(message.Payload))
                    _ = attribute.String.Length + attribute.Nested.GetEnumerator().Current.Type;
            }
        }
        catch (InvalidDataException)
        {
        }
    }

    private static NetlinkAttribute First(NetlinkAttributes attributes) =>
        attributes.MoveNext() ? attributes.Current : throw new InvalidDataException("no attribute");

    private struct Fixed
    {
        public uint A;
        public uint B;
    }
}
