using System.Buffers.Binary;
using System.Text;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture.Files;

/// <summary>
/// Writes pcapng (draft-ietf-opsawg-pcapng): one section, an interface block for each capture point with its name and
/// description, nanosecond time stamps, comments on packets, and the drop counts at the end. Blocks are in host byte
/// order, which the section header says. Not thread-safe.
/// </summary>
internal sealed class PcapNgWriter : IDisposable
{
    private const uint SectionHeader = 0x0a0d0d0a, InterfaceDescription = 1, InterfaceStatistics = 5, EnhancedPacket = 6, ByteOrderMagic = 0x1a2b3c4d;
    private const ushort EndOfOptions = 0, Comment = 1, HardwareName = 2, OsName = 3, UserApplication = 4;
    private const ushort InterfaceName = 2, InterfaceText = 3, InterfaceFilter = 11, InterfaceResolution = 9;
    private const ushort StatisticsReceived = 4, StatisticsDropped = 5;
    private const byte Nanoseconds = 9;
    private readonly Stream _output;
    private readonly List<string> _interfaces = [];
    private readonly MemoryStream _block = new();

    /// <param name="output">Closed with the writer.</param>
    public PcapNgWriter(Stream output, string application)
    {
        _output = output;
        Span<byte> fixedPart = stackalloc byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(fixedPart, ByteOrderMagic);
        BinaryPrimitives.WriteUInt16LittleEndian(fixedPart[4..], 1);
        BinaryPrimitives.WriteInt64LittleEndian(fixedPart[8..], -1);
        _block.Write(fixedPart);
        Option(HardwareName, Encoding.UTF8.GetBytes(System.Runtime.InteropServices.RuntimeInformation.OSArchitecture.ToString()));
        Option(OsName, Encoding.UTF8.GetBytes(Environment.OSVersion.VersionString));
        Option(UserApplication, Encoding.UTF8.GetBytes(application));
        Option(EndOfOptions, []);
        Flush(SectionHeader);
    }

    /// <summary>Octets written so far.</summary>
    public long Written { get; private set; }

    /// <summary>Adds a capture point and returns its number in this file.</summary>
    /// <param name="snapLength">Octets kept of a frame; 0: all.</param>
    /// <param name="comment">For the reader of the file; null: none.</param>
    public int AddInterface(string name, string description, LinkType link, int snapLength, string filter, string? comment = null)
    {
        Span<byte> fixedPart = stackalloc byte[8];
        BinaryPrimitives.WriteUInt16LittleEndian(fixedPart, (ushort)link);
        BinaryPrimitives.WriteInt32LittleEndian(fixedPart[4..], snapLength);
        _block.Write(fixedPart);
        Option(InterfaceName, Encoding.UTF8.GetBytes(name));
        if (description.Length > 0)
            Option(InterfaceText, Encoding.UTF8.GetBytes(description));
        Option(InterfaceResolution, [Nanoseconds]);
        if (filter.Length > 0)
            Option(InterfaceFilter, [0, .. Encoding.UTF8.GetBytes(filter)]);
        if (comment is not null)
            Option(Comment, Encoding.UTF8.GetBytes(comment));
        Option(EndOfOptions, []);
        Flush(InterfaceDescription);
        _interfaces.Add(name);
        return _interfaces.Count - 1;
    }

    /// <param name="interfaceNumber">What <see cref="AddInterface"/> returned.</param>
    /// <param name="length">Octets on the wire; <paramref name="data"/> may be less.</param>
    public void Packet(int interfaceNumber, long timeNs, ReadOnlySpan<byte> data, int length, string? comment = null)
    {
        Span<byte> fixedPart = stackalloc byte[20];
        BinaryPrimitives.WriteInt32LittleEndian(fixedPart, interfaceNumber);
        BinaryPrimitives.WriteUInt32LittleEndian(fixedPart[4..], (uint)(timeNs >> 32));
        BinaryPrimitives.WriteUInt32LittleEndian(fixedPart[8..], (uint)timeNs);
        BinaryPrimitives.WriteInt32LittleEndian(fixedPart[12..], data.Length);
        BinaryPrimitives.WriteInt32LittleEndian(fixedPart[16..], length);
        _block.Write(fixedPart);
        _block.Write(data);
        Pad(data.Length);
        if (comment is { Length: > 0 })
        {
            Option(Comment, Encoding.UTF8.GetBytes(comment));
            Option(EndOfOptions, []);
        }
        Flush(EnhancedPacket);
    }

    /// <summary>What the kernel counted at a capture point.</summary>
    public void Statistics(int interfaceNumber, long timeNs, long received, long dropped)
    {
        Span<byte> fixedPart = stackalloc byte[12];
        BinaryPrimitives.WriteInt32LittleEndian(fixedPart, interfaceNumber);
        BinaryPrimitives.WriteUInt32LittleEndian(fixedPart[4..], (uint)(timeNs >> 32));
        BinaryPrimitives.WriteUInt32LittleEndian(fixedPart[8..], (uint)timeNs);
        _block.Write(fixedPart);
        Span<byte> number = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(number, received);
        Option(StatisticsReceived, number);
        BinaryPrimitives.WriteInt64LittleEndian(number, dropped);
        Option(StatisticsDropped, number);
        Option(EndOfOptions, []);
        Flush(InterfaceStatistics);
    }

    public void Flush() => _output.Flush();

    public void Dispose() => _output.Dispose();

    private void Option(ushort code, ReadOnlySpan<byte> value)
    {
        Span<byte> head = stackalloc byte[4];
        BinaryPrimitives.WriteUInt16LittleEndian(head, code);
        BinaryPrimitives.WriteUInt16LittleEndian(head[2..], (ushort)value.Length);
        _block.Write(head);
        _block.Write(value);
        Pad(value.Length);
    }

    private void Pad(int length)
    {
        for (; length % 4 != 0; length++)
            _block.WriteByte(0);
    }

    private void Flush(uint type)
    {
        var length = (int)_block.Length + 12;
        Span<byte> head = stackalloc byte[8];
        BinaryPrimitives.WriteUInt32LittleEndian(head, type);
        BinaryPrimitives.WriteInt32LittleEndian(head[4..], length);
        _output.Write(head);
        _output.Write(_block.GetBuffer().AsSpan(0, (int)_block.Length));
        _output.Write(head[4..]);
        _block.SetLength(0);
        Written += length;
    }
}
