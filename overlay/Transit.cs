using System.Net;

namespace OverlayNet.Overlay;

/// <summary>The way from a network's namespace to its host: a link and an address pair for each family.</summary>
/// <param name="Interface">Index of the link inside the network's namespace.</param>
/// <param name="Pairs">Inside and outside address of each family.</param>
internal sealed record Transit(int Interface, IReadOnlyList<(IPAddress Inside, IPAddress Outside)> Pairs);

/// <summary>
/// Address pairs of the transit links of one host: link-local for IPv4; for IPv6 unique local ones, as no router
/// forwards link-local sources (RFC 4291 section 2.5.6). They never leave the host.
/// </summary>
internal static class TransitAddresses
{
    /// <summary>How many networks one host can lead outside.</summary>
    internal const int Count = 8192;

    /// <summary>All IPv4 pairs.</summary>
    internal static readonly IPNetwork Range4 = IPNetwork.Parse("169.254.64.0/18");

    /// <summary>All IPv6 pairs.</summary>
    internal static readonly IPNetwork Range6 = IPNetwork.Parse("fd6f:7665:726c:6179::/64");

    /// <summary>The IPv4 pair of a place, a /31 (RFC 3021).</summary>
    internal static (IPAddress Inside, IPAddress Outside) Pair4(int place) => Pair(Range4, place);

    /// <summary>The IPv6 pair of a place, a /127 (RFC 6164).</summary>
    internal static (IPAddress Inside, IPAddress Outside) Pair6(int place) => Pair(Range6, place);

    /// <summary>The place of an address of ours; null when it is none.</summary>
    internal static int? PlaceOf(IPAddress address)
    {
        if (!Range4.Contains(address))
            return null;
        var octets = address.GetAddressBytes();
        return ((octets[2] & 0x3f) << 8 | octets[3]) >> 1;
    }

    /// <summary>The first place that no address of the host has.</summary>
    /// <exception cref="InvalidDataException">All are taken.</exception>
    internal static int Free(IEnumerable<IPAddress> taken)
    {
        var places = taken.Select(PlaceOf).OfType<int>().ToHashSet();
        for (var place = 0; place < Count; place++)
        {
            if (!places.Contains(place))
                return place;
        }
        throw new InvalidDataException($"all {Count} transit address pairs of {Range4} are in use on this host; remove unused networks");
    }

    private static (IPAddress Inside, IPAddress Outside) Pair(IPNetwork range, int place) => (Add(range, 2 * place + 1), Add(range, 2 * place));

    private static IPAddress Add(IPNetwork range, int offset)
    {
        var octets = range.BaseAddress.GetAddressBytes();
        octets[^1] |= (byte)offset;
        octets[^2] |= (byte)(offset >> 8);
        return new IPAddress(octets);
    }
}
