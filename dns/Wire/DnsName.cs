using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OverlayNet.Dns;

/// <summary>Names in wire form (RFC 1035 §3.1: length-prefixed labels) and in text.</summary>
internal static class DnsName
{
    /// <summary>
    /// Appends the labels of <paramref name="text"/> (no root octet) to <paramref name="wire"/> at
    /// <paramref name="offset"/> and advances it. Letters are lower-cased. A trailing dot is accepted; <c>\.</c> and
    /// <c>\DDD</c> escape as in master files (RFC 1035 §5.1).
    /// </summary>
    /// <returns>False, with <paramref name="offset"/> unchanged, when a label is empty or over 63 octets, or the name over 254.</returns>
    public static bool TryAppend(ReadOnlySpan<char> text, Span<byte> wire, ref int offset)
    {
        var start = offset;
        var position = offset;
        var labelAt = position++;
        var length = 0;
        for (var i = 0; i <= text.Length; i++)
        {
            if (i == text.Length || text[i] == '.')
            {
                if (length == 0)
                {
                    // Only a trailing dot may follow the last label.
                    if (i == text.Length && i > 0 && position - start > 1)
                    {
                        position = labelAt;
                        break;
                    }

                    return false;
                }

                if (labelAt >= wire.Length)
                    return false;
                wire[labelAt] = (byte)length;
                if (i == text.Length)
                    break;
                labelAt = position++;
                length = 0;
                continue;
            }

            var c = text[i];
            if (c == '\\')
            {
                if (i + 1 >= text.Length)
                    return false;
                if (char.IsAsciiDigit(text[i + 1]))
                {
                    if (i + 3 >= text.Length || !byte.TryParse(text.Slice(i + 1, 3), out var code))
                        return false;
                    c = (char)code;
                    i += 3;
                }
                else
                {
                    c = text[++i];
                }
            }

            if (c > 255 || ++length > Limits.LabelLength || position >= wire.Length || position - start >= Limits.NameLength - 1)
                return false;
            wire[position++] = ToLower((byte)c);
        }

        if (position - start > Limits.NameLength - 1)
            return false;
        offset = position;
        return true;
    }

    /// <summary>Wire form with the root octet.</summary>
    /// <exception cref="FormatException">The text is not a domain name.</exception>
    public static byte[] Encode(string text)
    {
        Span<byte> wire = stackalloc byte[Limits.NameLength + 1];
        var length = 0;
        if (text is not "." and not "" && !TryAppend(text, wire, ref length))
            throw new FormatException($"'{text}' is not a domain name: labels have 1-63 octets and a name at most 255.");
        wire[length++] = 0;
        return wire[..length].ToArray();
    }

    /// <summary>Text of an uncompressed wire name; stops at the root octet or the end. The root is ".".</summary>
    public static string ToText(ReadOnlySpan<byte> wire)
    {
        var text = new StringBuilder(wire.Length);
        var i = 0;
        while (i < wire.Length && wire[i] != 0)
        {
            var end = Math.Min(wire.Length, i + 1 + wire[i]);
            for (i++; i < end; i++)
            {
                var b = wire[i];
                if (b is (byte)'.' or (byte)'\\')
                    text.Append('\\').Append((char)b);
                else if (b is > 0x20 and < 0x7F)
                    text.Append((char)b);
                else
                    text.Append('\\').Append(b.ToString("D3", null));
            }

            text.Append('.');
        }

        return text.Length == 0 ? "." : text.ToString();
    }

    /// <summary>Appends the reverse name of an address (RFC 1035 §3.5, RFC 3596 §2.5), without the root octet.</summary>
    public static void AppendReverse(IPAddress address, Span<byte> wire, ref int offset)
    {
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out var count);
        if (address.AddressFamily == AddressFamily.InterNetwork)
        {
            for (var i = count - 1; i >= 0; i--)
            {
                var digits = bytes[i] >= 100 ? 3 : bytes[i] >= 10 ? 2 : 1;
                wire[offset++] = (byte)digits;
                bytes[i].TryFormat(wire[offset..], out _);
                offset += digits;
            }

            "\u0007in-addr\u0004arpa"u8.CopyTo(wire[offset..]);
            offset += 13;
        }
        else
        {
            for (var i = count - 1; i >= 0; i--)
            {
                wire[offset++] = 1;
                wire[offset++] = "0123456789abcdef"u8[bytes[i] & 15];
                wire[offset++] = 1;
                wire[offset++] = "0123456789abcdef"u8[bytes[i] >> 4];
            }

            "\u0003ip6\u0004arpa"u8.CopyTo(wire[offset..]);
            offset += 9;
        }
    }

    /// <summary>
    /// Reads a lower-case reverse name, complete or cut at a label. <paramref name="prefixLength"/> is the number of
    /// address bits the name fixes.
    /// </summary>
    public static bool TryParseReverse(ReadOnlySpan<byte> wire, out IPAddress address, out int prefixLength)
    {
        address = IPAddress.None;
        prefixLength = 0;
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        if (wire.EndsWith("\u0007in-addr\u0004arpa"u8))
        {
            Span<byte> octets = stackalloc byte[4];
            var count = 0;
            for (var i = 0; i < wire.Length - 13; i += wire[i] + 1)
            {
                var label = wire.Slice(i + 1, Math.Min((int)wire[i], wire.Length - i - 1));
                if (count == 4 || label.Length is 0 or > 3 || !byte.TryParse(label, out var octet)
                    || (label.Length > 1 && label[0] == '0'))
                    return false;
                octets[count++] = octet;
            }

            for (var i = 0; i < count; i++)
                bytes[i] = octets[count - 1 - i];
            prefixLength = count * 8;
            address = new IPAddress(bytes[..4]);
            return true;
        }

        if (wire.EndsWith("\u0003ip6\u0004arpa"u8))
        {
            Span<byte> nibbles = stackalloc byte[32];
            var count = 0;
            for (var i = 0; i < wire.Length - 9; i += 2)
            {
                if (count == 32 || wire[i] != 1)
                    return false;
                var c = wire[i + 1];
                var value = c is >= (byte)'0' and <= (byte)'9' ? c - '0' : c is >= (byte)'a' and <= (byte)'f' ? c - 'a' + 10 : -1;
                if (value < 0)
                    return false;
                nibbles[count++] = (byte)value;
            }

            for (var i = 0; i < count; i++)
            {
                var nibble = nibbles[count - 1 - i];
                bytes[i / 2] |= (byte)(i % 2 == 0 ? nibble << 4 : nibble);
            }

            prefixLength = count * 4;
            address = new IPAddress(bytes);
            return true;
        }

        return false;
    }

    /// <summary>Number of labels in a wire name without the root octet.</summary>
    public static int CountLabels(ReadOnlySpan<byte> wire)
    {
        var count = 0;
        for (var i = 0; i < wire.Length && wire[i] != 0; i += wire[i] + 1)
            count++;
        return count;
    }

    /// <summary>True when <paramref name="name"/> equals <paramref name="ancestor"/> or lies below it (both lower-case, same form).</summary>
    public static bool IsAtOrBelow(ReadOnlySpan<byte> name, ReadOnlySpan<byte> ancestor)
    {
        if (!name.EndsWith(ancestor))
            return false;
        var cut = name.Length - ancestor.Length;
        var i = 0;
        while (i < cut)
            i += name[i] + 1;
        return i == cut;
    }

    /// <summary>ASCII only, as RFC 4343 says.</summary>
    public static byte ToLower(byte b) => (uint)(b - 'A') <= 'Z' - 'A' ? (byte)(b | 0x20) : b;
}
