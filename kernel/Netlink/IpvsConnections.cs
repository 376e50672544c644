using System.Globalization;
using System.Net;

namespace OverlayNet.Kernel.Netlink;

/// <summary>A connection that IPVS follows.</summary>
/// <param name="Protocol">IP protocol number.</param>
/// <param name="State">In the kernel's words: ESTABLISHED, FIN_WAIT, UDP.</param>
public sealed record IpvsConnection(byte Protocol, IPEndPoint Client, IPEndPoint Vip, IPEndPoint Server, string State);

/// <summary>The connections IPVS follows in a namespace, as <c>/proc/net/ip_vs_conn</c> lists them (net/netfilter/ipvs/ip_vs_conn.c): netlink does not show them.</summary>
public static class IpvsConnections
{
    /// <returns>Empty where there is no IPVS.</returns>
    /// <exception cref="KernelException">The namespace cannot be entered.</exception>
    public static IReadOnlyList<IpvsConnection> Of(NetworkNamespace netns) => netns.Run(() =>
    {
        try
        {
            return Parse(File.ReadLines("/proc/thread-self/net/ip_vs_conn"));
        }
        catch (IOException)
        {
            return [];
        }
    });

    /// <summary>Pure. Lines that are none (the heading, templates of persistence without a port) are passed over.</summary>
    public static IReadOnlyList<IpvsConnection> Parse(IEnumerable<string> lines)
    {
        var connections = new List<IpvsConnection>();
        foreach (var line in lines)
        {
            if (line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [var protocol, var client, var clientPort, var vip, var vipPort, var server, var serverPort, var state, ..]
                && Protocol(protocol) is { } number && End(client, clientPort) is { Port: > 0 } from && End(vip, vipPort) is { } to && End(server, serverPort) is { } real)
                connections.Add(new IpvsConnection(number, from, to, real, state));
        }
        return connections;
    }

    private static byte? Protocol(string name) => name switch
    {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        _ => null,
    };

    /// <summary>IPv4 as eight hexadecimal digits in the order of the wire, IPv6 as eight groups; ports in hexadecimal.</summary>
    private static IPEndPoint? End(string address, string port)
    {
        if (!ushort.TryParse(port, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var number))
            return null;
        if (address.Contains(':'))
            return IPAddress.TryParse(address, out var parsed) ? new IPEndPoint(parsed, number) : null;
        return address.Length == 8 && uint.TryParse(address, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var word)
            ? new IPEndPoint(new IPAddress((byte[])[(byte)(word >> 24), (byte)(word >> 16), (byte)(word >> 8), (byte)word]), number)
            : null;
    }
}
