using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

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
        return Convert.ToHexStringLower(mac[..1]) + string.Concat(mac[1..].ToArray().Select(b => $":{b:x2}"));
    }
}
