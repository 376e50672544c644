using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// The director of one network on this node, in the network's own namespace: settings, marks, the IPVS table, and the
/// virtual addresses on the bridge. The bridge answers ARP and ND for them, to this node's own endpoints only: neither is flooded
/// into the tunnel. So each client's packets end at its own node's director, and there is one on every node.
/// </summary>
internal sealed class Director
{
    // Marks an address as made by this writer (ip -details address: proto 0x56).
    private const byte AddressProtocol = 0x56;
    private const byte ScopeHost = 254;
    private readonly DrainClock drains = new();
    private IpvsPlan? applied;

    internal void Reconcile(VipNetwork network, Findings findings)
    {
        var plan = IpvsPlan.Of(network);
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        using var table = IpvsTable.TryOpen(netns) ?? throw new IOException("this kernel has no IPVS");
        using var route = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        var addresses = new RouteAddresses(route);
        var (missing, surplus) = AddressDifference(network, plan, route, addresses);

        Settings(network, netns, table, findings);
        // A virtual address is there only while the table behind it is: last to come, first to go.
        foreach (var address in surplus)
            Change(findings, network, $"virtual address {address.Address} removed", () => addresses.Delete(address));
        if (findings.Write)
            Marks(network, plan, netns, findings);
        Table(network, plan, table, findings);
        foreach (var address in missing)
            Change(findings, network, $"virtual address {address.Address} added", () => addresses.Replace(address), applied?.Addresses.Contains(address.Address) == true);
        if (findings.Write)
            applied = plan;
    }

    /// <summary>Every service with its real servers.</summary>
    internal static Dictionary<IpvsServiceKey, DirectorService> Read(IpvsTable table)
    {
        var services = new Dictionary<IpvsServiceKey, DirectorService>();
        foreach (var (service, _) in table.Services())
            services[service.Key] = new DirectorService(service, table.Destinations(service.Key));
        return services;
    }

    private static void Change(Findings findings, VipNetwork network, string what, Action change, bool mended = false)
    {
        if (findings.Write)
            change();
        findings.Changed(network, network.Netns, what, mended);
    }

    private void Settings(VipNetwork network, NetworkNamespace netns, IpvsTable table, Findings findings)
    {
        if (network.Services.Count == 0 && applied is not { Services.Count: > 0 })
            return;
        var different = netns.Run(() =>
        {
            var settings = DirectorSettings.Different();
            foreach (var (name, value) in findings.Write ? settings : [])
                Sysctl.Write(name, value);
            return settings;
        });
        foreach (var (name, value) in different)
            findings.Changed(network, network.Netns, $"{name} = {value}", applied is not null);
        if (table.Timeouts() != DirectorSettings.Timeouts)
        {
            var wanted = DirectorSettings.Timeouts;
            Change(findings, network, $"timeouts {wanted.Tcp} (tcp), {wanted.TcpFin} (tcp fin), {wanted.Udp} (udp)",
                () => table.SetTimeouts(wanted), applied is not null);
        }
    }

    private static void Marks(VipNetwork network, IpvsPlan plan, NetworkNamespace netns, Findings findings)
    {
        using var nft = NfTables.Open(netns);
        var elements = MarkTable.Elements(plan);
        if (elements.Count == 0)
        {
            if (MarkTable.Layout.Exists(nft))
                MarkTable.Layout.Remove(nft);
            return;
        }
        var (added, deleted, _) = MarkTable.Layout.Reconcile(nft, _ => elements, write: true);
        if (added.Count + deleted.Count > 0)
            findings.Changed(network, network.Netns, $"marks of port-less services: {added.Count} added, {deleted.Count} removed");
    }

    private void Table(VipNetwork network, IpvsPlan plan, IpvsTable table, Findings findings)
    {
        var clock = findings.Write ? drains : drains.Copy();
        var difference = IpvsDifference.Between(plan, Read(table), clock, findings.Now);
        findings.Due(difference.NextDue);
        var changes = difference.Changes;
        var results = findings.Write ? table.Batch([.. changes.Select(change => change.Change)]) : [];
        for (var i = 0; i < changes.Count; i++)
        {
            var (change, service) = changes[i];
            if (i < results.Count && !results[i].Ok)
                findings.Failed(network, service, network.Netns, new NetlinkException(change.ToString(), results[i].Errno, results[i].Detail).Message);
            else
                findings.Changed(network, network.Netns, service is null ? change.ToString() : $"service {service}: {change}", Mended(change));
        }
    }

    /// <summary>We had put the same thing there before.</summary>
    private bool Mended(IpvsChange change) => applied is not null && change switch
    {
        { Command: IpvsCommand.NewService or IpvsCommand.SetService } => applied.Services.GetValueOrDefault(change.Key)?.Service == change.Service,
        { Command: IpvsCommand.NewDestination or IpvsCommand.SetDestination } =>
            applied.Services.GetValueOrDefault(change.Key)?.Destinations.Any(planned => planned.Destination == change.Destination) == true,
        { Command: IpvsCommand.DeleteService } => !applied.Services.ContainsKey(change.Key),
        _ => false,
    };

    private static (List<LinkAddress> Missing, List<LinkAddress> Surplus) AddressDifference(
        VipNetwork network, IpvsPlan plan, NetlinkSocket route, RouteAddresses addresses)
    {
        var bridges = new RouteLinks(route).Dump().Where(link => link.Kind == "bridge").ToList();
        if (bridges.Count != 1)
        {
            return plan.Addresses.Count == 0
                ? ([], [])
                : throw new IOException($"network namespace {network.Netns} has {bridges.Count} bridges; virtual addresses go on the one of the network");
        }
        var bridge = bridges[0].Index;
        var there = addresses.Dump().Where(address => address.Interface == bridge && IsVirtual(address)).ToList();
        return (
            [.. plan.Addresses.Where(address => !there.Any(one => one.Address.Equals(address))).Select(address => Virtual(bridge, address))],
            [.. there.Where(address => !plan.Addresses.Contains(address.Address))]);
    }

    /// <summary>
    /// Never the source of anything the node originates: scope host in IPv4, deprecated in IPv6. No duplicate detection:
    /// every node has it.
    /// </summary>
    private static LinkAddress Virtual(int bridge, IPAddress address) => address.AddressFamily == AddressFamily.InterNetworkV6
        ? new LinkAddress
        {
            Interface = bridge,
            Address = address,
            PrefixLength = 128,
            Flags = AddressFlags.NoDad | AddressFlags.NoPrefixRoute,
            PreferredLifetime = TimeSpan.Zero,
            Protocol = AddressProtocol,
        }
        : new LinkAddress { Interface = bridge, Address = address, PrefixLength = 32, Scope = ScopeHost, Protocol = AddressProtocol };

    /// <summary>Kernels before 5.18 do not keep who made an address: there its shape tells.</summary>
    private static bool IsVirtual(LinkAddress address) => address.Protocol switch
    {
        AddressProtocol => true,
        0 => address.Address.AddressFamily == AddressFamily.InterNetworkV6
            ? address.PrefixLength == 128 && (address.Flags & AddressFlags.Deprecated) != 0
            : address.PrefixLength == 32 && address.Scope == ScopeHost,
        _ => false,
    };
}
