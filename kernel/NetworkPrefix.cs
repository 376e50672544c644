using System.Net;

namespace OverlayNet.Kernel;

/// <summary>Arithmetic on prefixes.</summary>
public static class NetworkPrefix
{
    /// <summary>The network of a given length that holds an address: host bits are cleared, which <see cref="IPNetwork"/> demands.</summary>
    /// <exception cref="InvalidDataException">The length does not fit the family.</exception>
    public static IPNetwork Containing(IPAddress address, int length)
    {
        Span<byte> octets = stackalloc byte[16];
        address.TryWriteBytes(octets, out var count);
        if (length < 0 || length > count * 8)
            throw new InvalidDataException($"a prefix of {length} bits does not fit {address}");
        for (var i = 0; i < count; i++)
        {
            var kept = Math.Clamp(length - i * 8, 0, 8);
            octets[i] &= (byte)(0xff << 8 - kept);
        }
        return new IPNetwork(new IPAddress(octets[..count]), length);
    }
}
