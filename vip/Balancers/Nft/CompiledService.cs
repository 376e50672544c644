using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>One service in one family, ready to be written: pure function of the desired state.</summary>
internal sealed class CompiledService
{
    private CompiledService(VipService source, IPAddress vip, ServiceClass serviceClass, IPAddress[] buckets, IPAddress[] servers)
    {
        Source = source;
        Vip = vip;
        Class = serviceClass;
        BucketServers = buckets;
        Servers = servers;
    }

    internal VipService Source { get; }

    internal IPAddress Vip { get; }

    internal ServiceClass Class { get; }

    /// <summary>For each bucket its server.</summary>
    internal IPAddress[] BucketServers { get; }

    /// <summary>Those that get new connections.</summary>
    internal IPAddress[] Servers { get; }

    /// <returns>Null when the service has no address of that family.</returns>
    internal static CompiledService? Compile(VipService service, NfFamily family)
    {
        var wanted = family == NfFamily.IPv4 ? AddressFamily.InterNetwork : AddressFamily.InterNetworkV6;
        var vip = service.Addresses.FirstOrDefault(address => address.AddressFamily == wanted);
        if (vip is null)
            return null;
        var servers = new List<(IPAddress Address, int Weight, ulong Key)>(service.RealServers.Count);
        foreach (var server in service.RealServers)
        {
            var address = family == NfFamily.IPv4 ? server.Address4 : server.Address6;
            if (address is not null && server.Weight > 0)
                servers.Add((address, service.Scheduler == "rr" ? 1 : server.Weight, KeyOf(server.EndpointId)));
        }
        Span<int> weights = [.. servers.Select(server => server.Weight)];
        var buckets = service.Scheduler == "mh"
            ? Buckets.FillConsistently(weights, [.. servers.Select(server => server.Key)])
            : Buckets.Fill(weights);
        var serviceClass = buckets.Length == 0 ? ServiceClass.Refuse
            : new ServiceClass(buckets.Length, service.Ports.Count > 0, service.Scheduler is "sh" or "mh", service.AffinitySeconds);
        return new CompiledService(service, vip, serviceClass,
            [.. buckets.Select(bucket => servers[bucket].Address)], [.. servers.Select(server => server.Address)]);
    }

    /// <summary>What the service needs in the maps.</summary>
    internal IEnumerable<KeyValuePair<NftKey, NftData>> Elements()
    {
        yield return new(NftKey.Address(NftMap.Services, Vip), NftData.Number(Class.Id));
        foreach (var port in Source.Ports)
            yield return new(NftKey.Port(Vip, port.Protocol, port.Port), NftData.Port(port.Target));
        for (var bucket = 0; bucket < BucketServers.Length; bucket++)
            yield return new(NftKey.Bucket(NftMap.Servers, Vip, (uint)bucket), NftData.Address(BucketServers[bucket]));
        if (Class.AffinitySeconds == 0)
            yield break;
        for (var bucket = 0; bucket < BucketServers.Length; bucket++)
            yield return new(NftKey.Bucket(NftMap.Slots, Vip, (uint)bucket), NftData.Number(SlotOf(BucketServers[bucket])));
        foreach (var server in Servers)
            yield return new(NftKey.Bucket(NftMap.Servers, Vip, SlotOf(server)), NftData.Address(server));
    }

    /// <summary>A number that only depends on the server, above all buckets. Two servers of one service sharing it (one in 2^31) would share their bound clients.</summary>
    private static uint SlotOf(IPAddress server)
    {
        ulong hash = 0;
        foreach (var octet in server.GetAddressBytes())
            hash = Buckets.Mix(hash ^ octet);
        return (uint)hash | 0x80000000;
    }

    /// <summary>Whether two desired states of a service are the same to this writer.</summary>
    internal static bool Same(VipService a, VipService b) => ReferenceEquals(a, b)
        || a.Id == b.Id && a.Name == b.Name && a.Scheduler == b.Scheduler && a.AffinitySeconds == b.AffinitySeconds && a.DrainSeconds == b.DrainSeconds
        && Equal(a.Addresses, b.Addresses) && Equal(a.Ports, b.Ports) && Equal(a.RealServers, b.RealServers);

    private static bool Equal<T>(IReadOnlyList<T> a, IReadOnlyList<T> b) => ReferenceEquals(a, b) || a.SequenceEqual(b);

    private static ulong KeyOf(string endpointId)
    {
        ulong key = 0;
        foreach (var letter in endpointId)
            key = Buckets.Mix(key ^ letter);
        return key;
    }
}
