using System.Globalization;

namespace OverlayNet.Kernel;

/// <summary>An Ethernet address: 48 bits, first octet on the wire in the most significant byte of <see cref="Value"/>.</summary>
public readonly record struct MacAddress(ulong Value) : IComparable<MacAddress>
{
    public const int Length = 6;

    /// <summary>Reads six octets in wire order.</summary>
    /// <exception cref="ArgumentException">Fewer than six octets.</exception>
    public static MacAddress Read(ReadOnlySpan<byte> octets)
    {
        if (octets.Length < Length)
            throw new ArgumentException($"a MAC address has {Length} octets, not {octets.Length}", nameof(octets));
        ulong value = 0;
        for (var i = 0; i < Length; i++)
            value = value << 8 | octets[i];
        return new MacAddress(value);
    }

    /// <summary>Writes six octets in wire order.</summary>
    public void Write(Span<byte> octets)
    {
        for (var i = 0; i < Length; i++)
            octets[i] = (byte)(Value >> 8 * (Length - 1 - i));
    }

    /// <summary>Reads colon-separated hex, such as <c>02:42:0a:60:00:05</c>.</summary>
    /// <exception cref="FormatException">Not six colon-separated octets.</exception>
    public static MacAddress Parse(string text) =>
        TryParse(text, out var mac) ? mac : throw new FormatException($"'{text}' is not a MAC address (six hex octets with colons)");

    public static bool TryParse(string? text, out MacAddress mac)
    {
        mac = default;
        var parts = text?.Split(':');
        if (parts is not { Length: Length })
            return false;
        ulong value = 0;
        foreach (var part in parts)
        {
            if (part.Length is 0 or > 2 || !byte.TryParse(part, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var octet))
                return false;
            value = value << 8 | octet;
        }
        mac = new MacAddress(value);
        return true;
    }

    public int CompareTo(MacAddress other) => Value.CompareTo(other.Value);

    public override string ToString() => string.Create(17, Value, static (text, value) =>
    {
        const string digits = "0123456789abcdef";
        for (var i = 0; i < Length; i++)
        {
            var octet = (byte)(value >> 8 * (Length - 1 - i));
            text[3 * i] = digits[octet >> 4];
            text[3 * i + 1] = digits[octet & 15];
            if (i < Length - 1)
                text[3 * i + 2] = ':';
        }
    });
}
