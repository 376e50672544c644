using System.Net;
using System.Net.Sockets;

namespace OverlayNet.Tools.Diagnosis.Firewall;

/// <summary>A packet as rules see it: what is asked of them is whether it would get through.</summary>
/// <param name="Protocol">IP protocol number.</param>
/// <param name="Input">Interface it comes in by; null: it begins here, or any.</param>
/// <param name="Output">Interface it leaves by; null: it ends here, or any.</param>
internal sealed record FilteredPacket(IPAddress Source, IPAddress Destination, byte Protocol, int SourcePort = 0, int DestinationPort = 0, string? Input = null, string? Output = null)
{
    public const byte Icmp = 1, Tcp = 6, Udp = 17, Icmp6 = 58, Vrrp = 112;

    public bool IPv6 => Destination.AddressFamily == AddressFamily.InterNetworkV6;
}

/// <summary>A rule, or a chain's policy, that stops a packet.</summary>
/// <param name="Text">The rule in nft's words.</param>
/// <param name="Handle">Null: the chain's policy.</param>
internal sealed record Refusal(string Family, string Table, string Chain, long? Handle, string Text)
{
    public override string ToString() => Handle is { } handle
        ? $"chain {Chain} of table {Family} {Table}, handle {handle.ToString(System.Globalization.CultureInfo.InvariantCulture)}: {Text}"
        : $"chain {Chain} of table {Family} {Table}: {Text}";

    /// <summary>What undoes it.</summary>
    /// <param name="accept">What has to be let through, in nft's words.</param>
    public string Remedy(string accept) => Handle is { } handle
        ? $"nft delete rule {Family} {Table} {Chain} handle {handle.ToString(System.Globalization.CultureInfo.InvariantCulture)} (and where it comes from), or accept {accept} before it"
        : $"nft insert rule {Family} {Table} {Chain} {accept} accept (and in what makes this table)";
}
