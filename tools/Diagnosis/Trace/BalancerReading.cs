using System.Globalization;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Tools.Diagnosis.Trace;

/// <summary>The balancer's entry for a VIP, as the kernel has it: of nft in a client's namespace, of ipvs in the network's.</summary>
/// <param name="Table">Name of the table; "" when there is none.</param>
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

    /// <summary>What may be read: the path that a status names decides, without it what is there.</summary>
    /// <param name="path">As in a status: the writers, front to back, such as <c>ebpf+ipvs</c>; null: not known.</param>
    /// <param name="around">The network's namespace.</param>
    public static BalancerReading Of(NetworkNamespace client, NetworkNamespace around, Network network, TraceDestination destination, string? path)
    {
        if (path is not null)
            return IsIpvs(path) ? OfIpvs(around, destination) : Of(client, network, destination.Address);
        var nft = Of(client, network, destination.Address);
        return nft.Known ? nft : OfIpvs(around, destination) is { Known: true } ipvs ? ipvs : nft;
    }

    public static bool IsIpvs(string path) => path.Split('+').Contains("ipvs");

    /// <summary>Reads the director of a network; what it looks like is in vip/Balancers/Ipvs/IpvsPlan.cs.</summary>
    /// <param name="around">The network's namespace.</param>
    public static BalancerReading OfIpvs(NetworkNamespace around, TraceDestination destination)
    {
        var none = new Dictionary<IPAddress, int>();
        using var table = IpvsTable.TryOpen(around);
        if (table is null)
            return new BalancerReading("", false, none);
        var wanted = destination.Backends.Select(destination.AddressOf).OfType<IPAddress>().ToHashSet();
        var services = table.Services().Select(state => state.Service.Key).Where(key => key.Family == destination.Address.AddressFamily)
            .Select(key => (key, Servers: table.Destinations(key).Select(state => state.Destination).ToList())).ToList();
        // A service for every port is one by firewall mark, which has no address: it is known by its real servers.
        var ours = services.FirstOrDefault(service => destination.Address.Equals(service.key.Address));
        if (ours.Servers is null && destination.Service?.Ports.Count == 0)
            ours = services.FirstOrDefault(service => service.key.Address is null && service.Servers.Any(server => wanted.Contains(server.Address)));
        return ours.Servers is null
            ? new BalancerReading("ipvs", false, none)
            : new BalancerReading($"ipvs {ours.key}", true, ours.Servers.Where(server => server.Weight > 0).GroupBy(server => server.Address).ToDictionary(group => group.Key, group => group.First().Weight));
    }
}
