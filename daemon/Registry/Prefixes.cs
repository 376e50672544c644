using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Daemon.Registry;

/// <summary>Arithmetic on addresses and prefixes of either family.</summary>
internal static class Prefixes
{
    /// <summary>Reads CIDR text; null when it is not a prefix. Host bits are kept: see <see cref="HasHostBits"/>.</summary>
    public static (IPAddress Address, int Length)? Parse(string text)
    {
        var slash = text.IndexOf('/', StringComparison.Ordinal);
        if (slash < 0 || ParseAddress(text[..slash]) is not { } address
            || !int.TryParse(text.AsSpan(slash + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var length)
            || length > Bits(address))
            return null;
        return (address, length);
    }

    /// <summary>Reads an address in its full form; null for anything else, "10.1", "010.0.0.1" and "::ffff:10.0.0.1" included.</summary>
    public static IPAddress? ParseAddress(string text)
    {
        // IPv4-mapped IPv6 is neither here nor there: .NET counts it to both families. Of [::1]:53 it drops the port.
        if (text.StartsWith('[') || !IPAddress.TryParse(text, out var address) || text.Contains('%', StringComparison.Ordinal) || address.IsIPv4MappedToIPv6)
            return null;
        return address.AddressFamily == AddressFamily.InterNetworkV6 || address.ToString() == text ? address : null;
    }

    public static bool HasHostBits(IPAddress address, int length) => (ToNumber(address) & HostMask(address, length)) != 0;

    public static IPNetwork Of(IPAddress address, int length) =>
        new(FromNumber(ToNumber(address) & ~HostMask(address, length), address.AddressFamily), length);

    public static bool Overlap(IPNetwork a, IPNetwork b) =>
        a.BaseAddress.AddressFamily == b.BaseAddress.AddressFamily && (a.Contains(b.BaseAddress) || b.Contains(a.BaseAddress));

    public static int Bits(IPAddress address) => address.AddressFamily == AddressFamily.InterNetwork ? 32 : 128;

    /// <summary>How far an address is from the beginning of its prefix.</summary>
    public static UInt128 Offset(IPNetwork prefix, IPAddress address) => ToNumber(address) - ToNumber(prefix.BaseAddress);

    public static IPAddress At(IPNetwork prefix, UInt128 offset) =>
        FromNumber(ToNumber(prefix.BaseAddress) + offset, prefix.BaseAddress.AddressFamily);

    /// <summary>The offset of the last address of a prefix.</summary>
    public static UInt128 LastOffset(IPNetwork prefix) => HostMask(prefix.BaseAddress, prefix.PrefixLength);

    private static UInt128 HostMask(IPAddress address, int length)
    {
        var hostBits = Bits(address) - length;
        return hostBits == 128 ? UInt128.MaxValue : (UInt128.One << hostBits) - 1;
    }

    private static UInt128 ToNumber(IPAddress address)
    {
        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out var written);
        return written == 4 ? BinaryPrimitives.ReadUInt32BigEndian(bytes) : BinaryPrimitives.ReadUInt128BigEndian(bytes);
    }

    private static IPAddress FromNumber(UInt128 number, AddressFamily family)
    {
        Span<byte> bytes = stackalloc byte[16];
        if (family == AddressFamily.InterNetwork)
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)number);
            return new IPAddress(bytes[..4]);
        }
        BinaryPrimitives.WriteUInt128BigEndian(bytes, number);
        return new IPAddress(bytes);
    }
}
