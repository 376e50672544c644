using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Overlay;

/// <summary>What encapsulation leaves of the underlay's MTU.</summary>
public static class OverlayMtu
{
    // Outer IPv4 20 (IPv6 40) + UDP 8 + VXLAN 8 + the inner Ethernet header 14 (RFC 7348 section 5).
    private const int Overhead4 = 50, Overhead6 = 70;

    /// <summary>Bytes that fit a frame's payload inside the overlay.</summary>
    public static int Of(IPAddress underlayAddress, int underlayMtu) =>
        underlayMtu - (underlayAddress.AddressFamily == AddressFamily.InterNetworkV6 ? Overhead6 : Overhead4);
}
