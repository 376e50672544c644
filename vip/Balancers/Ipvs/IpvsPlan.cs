using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>A virtual service the director shall have, and whose it is.</summary>
/// <param name="Protocol">IPPROTO_TCP or IPPROTO_UDP, also for services by mark.</param>
/// <param name="Destinations">By real server, in the configuration's order.</param>
internal sealed record PlannedService(IpvsService Service, byte Protocol, VipService Owner, IReadOnlyList<(IpvsDestination Destination, RealServer Server)> Destinations);

/// <summary>The director of one network as the configuration wants it. Pure.</summary>
/// <param name="Services">By the kernel's key.</param>
/// <param name="Marks">Port-less services: which packets get which firewall mark.</param>
/// <param name="Addresses">The virtual addresses this node answers for.</param>
internal sealed record IpvsPlan(
    IReadOnlyDictionary<IpvsServiceKey, PlannedService> Services,
    IReadOnlyDictionary<(IPAddress Address, byte Protocol), uint> Marks,
    IReadOnlySet<IPAddress> Addresses)
{
    // Marks are private to the network's own namespace; the first octet makes ours recognisable in a listing.
    private const uint MarkBase = 0x56000000, MarkMask = 0x00fffffe;
    private static readonly byte[] Protocols = [VipPort.Tcp, VipPort.Udp];

    internal static IpvsPlan Of(VipNetwork network)
    {
        var services = new Dictionary<IpvsServiceKey, PlannedService>();
        var marks = new Dictionary<(IPAddress, byte), uint>();
        var addresses = new HashSet<IPAddress>();
        var used = new HashSet<uint>();
        foreach (var service in network.Services.OrderBy(service => service.Id, StringComparer.Ordinal))
        {
            var mark = service.Ports.Count == 0 ? Mark(service.Id, used) : 0;
            foreach (var address in service.Addresses)
            {
                // Of two services with one address the first has it: the registry never says such a thing.
                if (!addresses.Add(address))
                    continue;
                foreach (var port in service.Ports)
                    Add(IpvsServiceKey.Of(port.Protocol, address, port.Port), port.Protocol, port.Port, service);
                foreach (var protocol in service.Ports.Count == 0 ? Protocols : [])
                {
                    // IPVS has no service for all ports; each protocol has a mark of its own, since draining differs.
                    var own = protocol == VipPort.Udp ? mark | 1 : mark;
                    marks.Add((address, protocol), own);
                    Add(IpvsServiceKey.OfMark(address.AddressFamily, own), protocol, 0, service);
                }
            }
        }
        return new IpvsPlan(services, marks, addresses);

        void Add(IpvsServiceKey key, byte protocol, ushort port, VipService service) =>
            services.TryAdd(key, new PlannedService(Wanted(key, service), protocol, service, Destinations(key, protocol, port, service)));
    }

    private static IpvsService Wanted(IpvsServiceKey key, VipService service) => new()
    {
        Key = key,
        Scheduler = service.Scheduler,
        Flags = (service.AffinitySeconds > 0 ? IpvsServiceFlags.Persistent : IpvsServiceFlags.None)
            // Without it these two refuse a client whose server has weight 0.
            | (service.Scheduler is "sh" or "mh" ? IpvsServiceFlags.SchedulerFallback : IpvsServiceFlags.None),
        PersistenceSeconds = service.AffinitySeconds,
    };

    private static List<(IpvsDestination, RealServer)> Destinations(IpvsServiceKey key, byte protocol, ushort port, VipService service)
    {
        var destinations = new List<(IpvsDestination, RealServer)>();
        var seen = new HashSet<IPAddress>();
        foreach (var server in service.RealServers)
        {
            var address = key.Family == AddressFamily.InterNetworkV6 ? server.Address6 : server.Address4;
            if (address is null || !seen.Add(address))
                continue;
            // A UDP flow has no end: it would go to a server with weight 0 for as long as its client talks.
            if (server.Weight == 0 && protocol == VipPort.Udp)
                continue;
            // Direct routing leaves the port alone, so the task translates it; saying the service's own keeps ipvsadm's listings honest.
            destinations.Add((new IpvsDestination { Address = address, Port = port, Weight = server.Weight }, server));
        }
        return destinations;
    }

    /// <summary>An even number that depends on the service alone unless two collide, so that a change elsewhere never moves it.</summary>
    private static uint Mark(string serviceId, HashSet<uint> used)
    {
        // FNV-1a: string.GetHashCode differs from run to run, and the kernel's state outlives a run.
        var hash = 2166136261u;
        foreach (var character in serviceId)
            hash = (hash ^ character) * 16777619u;
        var mark = MarkBase | hash & MarkMask;
        while (!used.Add(mark))
            mark = MarkBase | mark + 2 & MarkMask;
        return mark;
    }
}
