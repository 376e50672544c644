using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Files;

/// <summary>
/// Reads pcap (both byte orders, microseconds and nanoseconds) and pcapng (several sections and interfaces) as a stream:
/// memory is bounded by the longest block, not by the file.
/// </summary>
internal abstract class CaptureFileReader : IDisposable
{
    private protected const int LongestBlock = 16 * 1024 * 1024;
    private readonly Stream _input;

    private protected CaptureFileReader(Stream input, string name) => (_input, Name) = (input, name);

    /// <summary>The file's name, for complaints.</summary>
    protected string Name { get; }

    /// <summary>Octets read so far.</summary>
    public long Position { get; private set; }

    /// <summary>Tells the format by the first four octets.</summary>
    /// <exception cref="CaptureFileException">The file is neither.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static CaptureFileReader Open(Stream input, string name)
    {
        Span<byte> magic = stackalloc byte[4];
        if (input.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false) < magic.Length)
            throw new CaptureFileException($"{name}: shorter than a capture file's first four octets");
        return BinaryPrimitives.ReadUInt32LittleEndian(magic) switch
        {
            PcapNgReader.SectionHeader => new PcapNgReader(input, name),
            0xa1b2c3d4 => new PcapReader(input, name, bigEndian: false, nanoseconds: false),
            0xa1b23c4d => new PcapReader(input, name, bigEndian: false, nanoseconds: true),
            0xd4c3b2a1 => new PcapReader(input, name, bigEndian: true, nanoseconds: false),
            0x4d3cb2a1 => new PcapReader(input, name, bigEndian: true, nanoseconds: true),
            var other => throw new CaptureFileException(string.Create(CultureInfo.InvariantCulture, $"{name}: starts with 0x{other:x8}, neither pcap nor pcapng")),
        };
    }

    /// <summary>The next packet; false at the end.</summary>
    /// <exception cref="CaptureFileException">The file breaks off or contradicts itself.</exception>
    public abstract bool TryRead(out CaptureRecord record);

    public void Dispose() => _input.Dispose();

    private protected CaptureFileException Broken(string what) =>
        new(string.Create(CultureInfo.InvariantCulture, $"{Name}: {what} at octet {Position}"));

    /// <summary>Fills a span; false when the file ends right here.</summary>
    private protected bool Fill(Span<byte> span)
    {
        var read = _input.ReadAtLeast(span, span.Length, throwOnEndOfStream: false);
        Position += read;
        if (read == 0 && span.Length > 0)
            return false;
        return read == span.Length ? true : throw Broken("breaks off");
    }
}

/// <summary>The classic format (draft-ietf-opsawg-pcap).</summary>
internal sealed class PcapReader : CaptureFileReader
{
    private readonly bool _bigEndian, _nanoseconds;
    private readonly LinkType _link;
    private byte[] _data = new byte[4096];

    internal PcapReader(Stream input, string name, bool bigEndian, bool nanoseconds) : base(input, name)
    {
        (_bigEndian, _nanoseconds) = (bigEndian, nanoseconds);
        Span<byte> header = stackalloc byte[20];
        if (!Fill(header))
            throw Broken("has no file header");
        _link = (LinkType)(U32(header[16..]) & 0xffff);
    }

    public override bool TryRead(out CaptureRecord record)
    {
        record = default;
        Span<byte> header = stackalloc byte[16];
        if (!Fill(header))
            return false;
        long seconds = U32(header), fraction = U32(header[4..]);
        var captured = U32(header[8..]);
        var length = U32(header[12..]);
        if (captured > LongestBlock || length > int.MaxValue)
            throw Broken($"says a packet has {captured} octets");
        if (_data.Length < captured)
            _data = new byte[captured];
        if (captured > 0 && !Fill(_data.AsSpan(0, (int)captured)))
            throw Broken("breaks off");
        record = new CaptureRecord("", _link, seconds * 1_000_000_000 + fraction * (_nanoseconds ? 1 : 1000), (int)Math.Max(length, captured), _data.AsMemory(0, (int)captured));
        return true;
    }

    private uint U32(ReadOnlySpan<byte> span) => _bigEndian ? BinaryPrimitives.ReadUInt32BigEndian(span) : BinaryPrimitives.ReadUInt32LittleEndian(span);
}

/// <summary>An interface block of a pcapng file.</summary>
internal sealed record CapturedInterface(string Name, string Description, LinkType Link, string Filter);

/// <summary>A statistics block of a pcapng file.</summary>
internal sealed record CapturedCounts(string Name, long TimeNs, long Received, long Dropped);

/// <summary>pcapng: section, interface, statistics, enhanced and simple packet blocks; others are passed over.</summary>
internal sealed class PcapNgReader : CaptureFileReader
{
    internal const uint SectionHeader = 0x0a0d0d0a;
    private const uint InterfaceDescription = 1, SimplePacket = 3, InterfaceStatistics = 5, EnhancedPacket = 6;
    private const int Overhead = 12;
    private readonly List<Interface> _interfaces = [];
    private bool _bigEndian;
    private byte[] _block = new byte[4096];

    internal PcapNgReader(Stream input, string name) : base(input, name) => Section();

    /// <summary>An interface block has been read.</summary>
    public event Action<CapturedInterface>? Described;

    /// <summary>A statistics block has been read: what its interface had received and dropped at a time.</summary>
    public event Action<CapturedCounts>? Counted;

    public override bool TryRead(out CaptureRecord record)
    {
        Span<byte> head = stackalloc byte[8];
        while (true)
        {
            record = default;
            if (!Fill(head[..4]))
                return false;
            var type = U32(head);
            if (type == SectionHeader)
            {
                Section();
                continue;
            }
            if (!Fill(head[4..]))
                throw Broken("breaks off");
            var body = Body(U32(head[4..]), already: 0);
            switch (type)
            {
                case InterfaceDescription:
                    Describe(body.Span);
                    break;
                case InterfaceStatistics:
                    Count(body.Span);
                    break;
                case EnhancedPacket:
                    record = Enhanced(body);
                    return true;
                case SimplePacket when body.Length >= 4 && _interfaces.Count > 0:
                    var length = U32(body.Span);
                    record = new CaptureRecord(_interfaces[0].Name, _interfaces[0].Link, 0, (int)Math.Min(length, int.MaxValue), body.Slice(4, (int)Math.Min(length, (uint)(body.Length - 4))));
                    return true;
            }
        }
    }

    /// <summary>Reads the rest of a section header, whose type was read.</summary>
    private void Section()
    {
        Span<byte> head = stackalloc byte[8];
        if (!Fill(head))
            throw Broken("breaks off");
        _bigEndian = BinaryPrimitives.ReadUInt32LittleEndian(head[4..]) switch
        {
            0x1a2b3c4d => false,
            0x4d3c2b1a => true,
            _ => throw Broken("has no byte-order mark in its section"),
        };
        _interfaces.Clear();
        Body(U32(head), already: 4);
    }

    private ReadOnlyMemory<byte> Body(uint total, int already)
    {
        if (total < Overhead + already || total > LongestBlock || total % 4 != 0)
            throw Broken($"has a block of {total} octets");
        var rest = (int)total - 8 - already;
        if (_block.Length < rest)
            _block = new byte[Math.Max(rest, _block.Length * 2)];
        if (!Fill(_block.AsSpan(0, rest)))
            throw Broken("breaks off");
        return _block.AsMemory(0, rest - 4);
    }

    private void Describe(ReadOnlySpan<byte> body)
    {
        if (body.Length < 8)
            throw Broken("has an interface block without its fields");
        var link = (LinkType)U16(body);
        string name = "", description = "", filter = "";
        var perSecond = 1_000_000L;
        var options = body[8..];
        while (Option(ref options, out var code, out var value))
        {
            if (code == 2)
                name = Encoding.UTF8.GetString(value);
            else if (code == 3)
                description = Encoding.UTF8.GetString(value);
            else if (code == 9 && value.Length == 1)
                perSecond = (value[0] & 0x80) != 0 ? 1L << Math.Min(value[0] & 0x7f, 62) : (long)Math.Pow(10, Math.Min((int)value[0], 18));
            else if (code == 11 && value.Length > 1 && value[0] == 0)
                filter = Encoding.UTF8.GetString(value[1..]);
        }
        _interfaces.Add(new Interface(name, link, perSecond));
        Described?.Invoke(new CapturedInterface(name, description, link, filter));
    }

    private void Count(ReadOnlySpan<byte> body)
    {
        if (body.Length < 12)
            throw Broken("has a statistics block without its fields");
        var at = Of(U32(body));
        var timeNs = Nanoseconds(at, body[4..]);
        long received = 0, dropped = 0;
        var options = body[12..];
        while (Option(ref options, out var code, out var value))
        {
            if (value.Length != 8 || code is not (4 or 5))
                continue;
            var count = (long)(_bigEndian ? BinaryPrimitives.ReadUInt64BigEndian(value) : BinaryPrimitives.ReadUInt64LittleEndian(value));
            if (code == 4)
                received = count;
            else
                dropped = count;
        }
        Counted?.Invoke(new CapturedCounts(at.Name, timeNs, received, dropped));
    }

    /// <summary>Takes the next option off the front; false at the end of the list.</summary>
    private bool Option(ref ReadOnlySpan<byte> options, out int code, out ReadOnlySpan<byte> value)
    {
        code = 0;
        value = default;
        if (options.Length < 4)
            return false;
        code = U16(options);
        int length = U16(options[2..]);
        if (code == 0 || length > options.Length - 4)
            return false;
        value = options.Slice(4, length);
        options = options[Math.Min(options.Length, 4 + (length + 3 & ~3))..];
        return true;
    }

    private Interface Of(uint number) => number < _interfaces.Count ? _interfaces[(int)number] : throw Broken($"has a packet of interface {number}, which it does not describe");

    /// <summary>The time stamp of a block, whose upper half comes first.</summary>
    private long Nanoseconds(Interface at, ReadOnlySpan<byte> halves)
    {
        var time = (ulong)U32(halves) << 32 | U32(halves[4..]);
        return at.PerSecond == 1_000_000_000 ? (long)time : (long)((UInt128)time * 1_000_000_000 / (UInt128)at.PerSecond);
    }

    private CaptureRecord Enhanced(ReadOnlyMemory<byte> body)
    {
        var span = body.Span;
        if (span.Length < 20)
            throw Broken("has a packet block without its fields");
        var at = Of(U32(span));
        var captured = U32(span[12..]);
        if (captured > span.Length - 20)
            throw Broken($"has a packet of {captured} octets in a block of {span.Length}");
        return new CaptureRecord(at.Name, at.Link, Nanoseconds(at, span[4..]), (int)Math.Min(Math.Max(U32(span[16..]), captured), int.MaxValue), body.Slice(20, (int)captured));
    }

    private ushort U16(ReadOnlySpan<byte> span) => _bigEndian ? BinaryPrimitives.ReadUInt16BigEndian(span) : BinaryPrimitives.ReadUInt16LittleEndian(span);

    private uint U32(ReadOnlySpan<byte> span) => _bigEndian ? BinaryPrimitives.ReadUInt32BigEndian(span) : BinaryPrimitives.ReadUInt32LittleEndian(span);

    private sealed record Interface(string Name, LinkType Link, long PerSecond);
}
