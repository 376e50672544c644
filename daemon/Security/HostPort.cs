using System.Globalization;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Security;

/// <summary>A node's API address as people and files write it: <c>host</c>, <c>host:port</c>, <c>[v6]:port</c> or a bare IPv6 address.</summary>
public sealed record HostPort(string Host, int Port)
{
    public const int DefaultPort = 7373;

    /// <returns>Null: malformed.</returns>
    public static HostPort? Parse(string text)
    {
        if (IPAddress.TryParse(text, out var bare) && bare.AddressFamily == AddressFamily.InterNetworkV6 && text[0] != '[')
            return new HostPort(bare.ToString(), DefaultPort);
        var colon = text.LastIndexOf(':');
        var hasPort = colon >= 0 && !text.EndsWith(']');
        var host = hasPort ? text[..colon] : text;
        var port = DefaultPort;
        if (hasPort && (!int.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out port)
            || port is < 1 or > ushort.MaxValue))
            return null;
        if (host.StartsWith('[') && host.EndsWith(']'))
        {
            return IPAddress.TryParse(host[1..^1], out var address) && address.AddressFamily == AddressFamily.InterNetworkV6
                ? new HostPort(address.ToString(), port)
                : null;
        }
        return Uri.CheckHostName(host) is UriHostNameType.Dns or UriHostNameType.IPv4 ? new HostPort(host, port) : null;
    }

    /// <summary>Where a node answers other nodes.</summary>
    public static HostPort Of(Node node) => new(node.Address.ToString(), node.ApiPort);

    public static string Format(IPAddress address, int port) => new HostPort(address.ToString(), port).ToString();

    /// <param name="path">Of a resource there, with its query.</param>
    public Uri ToUri(string path = "/") => new($"https://{this}{path}");

    public override string ToString()
    {
        var host = Host.Contains(':', StringComparison.Ordinal) ? $"[{Host}]" : Host;
        return string.Create(CultureInfo.InvariantCulture, $"{host}:{Port}");
    }
}
