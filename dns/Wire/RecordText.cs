using System.Buffers.Binary;
using System.Net;
using System.Text;

namespace OverlayNet.Dns;

/// <summary>Records as people read them.</summary>
internal static class RecordText
{
    public static string Type(RrType type) => Enum.IsDefined(type) ? type.ToString() : "TYPE" + (int)type;

    /// <summary>Reads a mnemonic or TYPEnnn (RFC 3597 §5).</summary>
    public static bool TryParseType(string text, out RrType type)
    {
        if (Enum.TryParse(text, ignoreCase: true, out type) && Enum.IsDefined(type))
            return true;
        type = 0;
        if (!text.StartsWith("TYPE", StringComparison.OrdinalIgnoreCase) || !ushort.TryParse(text.AsSpan(4), out var number))
            return false;
        type = (RrType)number;
        return true;
    }

    /// <summary>A record of a message, or null when it is malformed.</summary>
    public static DnsRecord? Format(MessageReader reader, in WireRecord record)
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var position = record.OwnerAt;
        if (!reader.TryReadName(ref position, name, out var length))
            return null;
        return new DnsRecord(DnsName.ToText(name[..length]), Type(record.Type), record.Ttl, Data(reader, record));
    }

    public static string Data(MessageReader reader, in WireRecord record)
    {
        var data = reader.Message.Slice(record.DataAt, record.DataLength);
        switch (record.Type)
        {
            case RrType.A when data.Length == 4:
            case RrType.AAAA when data.Length == 16:
                return new IPAddress(data).ToString();
            case RrType.NS or RrType.CNAME or RrType.PTR or RrType.DNAME:
                return Name(reader, record.DataAt, out _);
            case RrType.MX when data.Length > 2:
                return $"{U16(data, 0)} {Name(reader, record.DataAt + 2, out _)}";
            case RrType.SRV when data.Length > 6:
                return $"{U16(data, 0)} {U16(data, 2)} {U16(data, 4)} {Name(reader, record.DataAt + 6, out _)}";
            case RrType.SOA:
                var primary = Name(reader, record.DataAt, out var next);
                var contact = Name(reader, next, out next);
                var numbers = new StringBuilder(primary).Append(' ').Append(contact);
                for (var i = 0; i < 5 && next + 4 <= reader.Message.Length; i++, next += 4)
                    numbers.Append(' ').Append(BinaryPrimitives.ReadUInt32BigEndian(reader.Message[next..]));
                return numbers.ToString();
            case RrType.TXT:
                return Strings(data);
            default:
                return $"\\# {data.Length} {Convert.ToHexString(data)}";
        }
    }

    private static int U16(ReadOnlySpan<byte> data, int at) => BinaryPrimitives.ReadUInt16BigEndian(data[at..]);

    private static string Name(MessageReader reader, int position, out int next)
    {
        Span<byte> name = stackalloc byte[Limits.NameLength];
        var text = reader.TryReadName(ref position, name, out var length) ? DnsName.ToText(name[..length]) : "?";
        next = position;
        return text;
    }

    private static string Strings(ReadOnlySpan<byte> data)
    {
        var text = new StringBuilder();
        for (var i = 0; i < data.Length;)
        {
            var end = Math.Min(data.Length, i + 1 + data[i]);
            text.Append(text.Length > 0 ? " \"" : "\"");
            for (i++; i < end; i++)
            {
                if (data[i] is (byte)'"' or (byte)'\\')
                    text.Append('\\');
                if (data[i] is >= 0x20 and < 0x7F)
                    text.Append((char)data[i]);
                else
                    text.Append('\\').Append(data[i].ToString("D3", null));
            }

            text.Append('"');
        }

        return text.ToString();
    }
}
