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
/// <param name="Text">The rule in nft's words, of the older tables in iptables'.</param>
/// <param name="Handle">Null: the chain's policy.</param>
/// <param name="Legacy">Of the older tables, which have no handles.</param>
internal sealed record Refusal(string Family, string Table, string Chain, long? Handle, string Text, bool Legacy = false)
{
    private string Program => Family == "ip6" ? "ip6tables-legacy" : "iptables-legacy";

    public override string ToString() => Legacy ? $"chain {Chain} of table {Table} ({Program}): {Text}"
        : Handle is { } handle ? $"chain {Chain} of table {Family} {Table}, handle {Cli.Text.Number(handle)}: {Text}"
        : $"chain {Chain} of table {Family} {Table}: {Text}";

    /// <summary>What undoes it.</summary>
    /// <param name="accept">What has to be let through, in nft's words.</param>
    public string Remedy(string accept) => (Legacy, Handle) switch
    {
        (true, not null) => $"{Program} -t {Table} -D {Chain} {Text} (and where it comes from), or accept {accept} before it",
        (true, null) => $"{Program} -t {Table} -P {Chain} ACCEPT, or accept {accept} in it",
        (_, { } handle) => $"nft delete rule {Family} {Table} {Chain} handle {Cli.Text.Number(handle)} (and where it comes from), or accept {accept} before it",
        _ => $"nft insert rule {Family} {Table} {Chain} {accept} accept (and in what makes this table)",
    };
}
