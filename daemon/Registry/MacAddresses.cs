using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>
/// MAC addresses that follow from network and IP address, so that an address that is given out again (to another node even)
/// keeps its MAC and no neighbour's cache is wrong.
/// </summary>
internal static class MacAddresses
{
    // Locally administered, unicast (IEEE 802 bit 1 set, bit 0 clear); one for each family so that they cannot meet.
    private const byte FromIPv4 = 0x02;
    private const byte FromIPv6 = 0x06;

    /// <summary>
    /// For IPv4: the whole address is in it, hence unique in the network. For IPv6: the last 32 bits, hence unique as long as
    /// those differ.
    /// </summary>
    /// <returns>Colon-separated lower-case hex.</returns>
    public static string Derive(string networkId, IPAddress address)
    {
        Span<byte> mac = stackalloc byte[6];
        mac[0] = address.AddressFamily == AddressFamily.InterNetwork ? FromIPv4 : FromIPv6;
        // One byte that tells networks apart: containers on two networks with the same subnet get two MACs.
        mac[1] = SHA256.HashData(Encoding.ASCII.GetBytes(networkId))[0];
        address.GetAddressBytes().AsSpan()[^4..].CopyTo(mac[2..]);
        return Format(mac);
    }

    /// <summary>A MAC that somebody asks for.</summary>
    /// <returns>Colon-separated lower-case hex.</returns>
    /// <exception cref="RegistryException">No unicast MAC, the gateway's, or one that the network may derive for another address.</exception>
    public static string Wanted(string text, Network network, IPAddress address)
    {
        const string remedy = "give a unicast address such as 0a:58:0a:0a:00:05, or leave it out";
        Span<byte> mac = stackalloc byte[6];
        var parts = text.Split(':', '-');
        if (parts.Length != mac.Length)
            throw Refuse.Invalid("invalid-mac", "mac", text, "it is not a MAC address", remedy);
        for (var i = 0; i < mac.Length; i++)
        {
            if (parts[i].Length != 2 || !byte.TryParse(parts[i], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out mac[i]))
                throw Refuse.Invalid("invalid-mac", "mac", text, "it is not a MAC address", remedy);
        }
        var wanted = Format(mac);
        if ((mac[0] & 1) != 0 || !mac.ContainsAnyExcept((byte)0))
            throw Refuse.Invalid("invalid-mac", "mac", text, "it is not a unicast address", remedy);
        if (wanted == network.GatewayMac)
            throw Refuse.Conflict("mac-taken", "mac", text, $"the gateway of network '{network.Name}' has it", remedy);
        var own = Derive(network.Id, address);
        if (wanted != own && (wanted.StartsWith(own[..PrefixLength], StringComparison.Ordinal) || wanted.StartsWith(OtherFamily(own), StringComparison.Ordinal)))
            throw Refuse.Invalid("invalid-mac", "mac", text, $"network '{network.Name}' gives {own[..PrefixLength]}... to its other addresses", remedy);
        return wanted;
    }

    // "02:xx": family and network.
    private const int PrefixLength = 5;

    private static string OtherFamily(string mac) => (mac.StartsWith("02", StringComparison.Ordinal) ? "06" : "02") + mac[2..PrefixLength];

    private static string Format(ReadOnlySpan<byte> mac)
    {
        return Convert.ToHexStringLower(mac[..1]) + string.Concat(mac[1..].ToArray().Select(b => $":{b:x2}"));
    }
}
