using System.Globalization;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Tools.Diagnosis.Trace;

/// <summary>The balancer's entry for a VIP in a client's namespace, as the kernel has it.</summary>
/// <param name="Table">Name of the nftables table; "" when there is none.</param>
/// <param name="Known">The table has the VIP.</param>
/// <param name="Servers">Real servers with the number of turns each gets.</param>
internal sealed record BalancerReading(string Table, bool Known, IReadOnlyDictionary<IPAddress, int> Servers)
{
    /// <summary>Reads the nft writer's tables; what they look like is in vip/Balancers/Nft/NftSchema.cs.</summary>
    public static BalancerReading Of(NetworkNamespace netns, Network network, IPAddress vip)
    {
        var v6 = vip.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6;
        var table = new NfTable(v6 ? NfFamily.IPv6 : NfFamily.IPv4, string.Create(CultureInfo.InvariantCulture, $"overlaynet-vip-{network.Vni}"));
        using var tables = NfTables.Open(netns);
        if (!tables.Tables(table.Family).Any(info => info.Table == table))
            return new BalancerReading("", false, new Dictionary<IPAddress, int>());
        var octets = vip.GetAddressBytes();
        var known = tables.Elements(table, "services").Any(element => element.Key.AsSpan(0, octets.Length).SequenceEqual(octets));
        var servers = new Dictionary<IPAddress, int>();
        foreach (var element in tables.Elements(table, "servers").Where(element => element.Data?.Length >= octets.Length && element.Key.AsSpan(0, octets.Length).SequenceEqual(octets)))
        {
            var server = new IPAddress(element.Data.AsSpan(0, octets.Length));
            servers[server] = servers.GetValueOrDefault(server) + 1;
        }
        return new BalancerReading(table.ToString(), known, servers);
    }
}
