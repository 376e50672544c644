using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>The director of one network on this node, in the network's own namespace: settings, marks, the IPVS table, and the virtual addresses.</summary>
internal sealed class Director
{
    private readonly DrainClock drains = new();
    private IpvsPlan? applied;

    internal void Reconcile(VipNetwork network, Findings findings)
    {
        var plan = IpvsPlan.Of(network);
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        using var table = IpvsTable.TryOpen(netns) ?? throw new IOException("this kernel has no IPVS");
        using var route = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        var addresses = VirtualAddresses.Read(route, network, plan.Addresses);

        Settings(network, netns, table, findings);
        // A virtual address is there only while the table behind it is: last to come, first to go.
        foreach (var address in addresses.Surplus)
            Change(findings, network, $"virtual address {address.Address} removed", () => addresses.Remove(address));
        Helpers(network, plan, netns, findings);
        Table(network, plan, table, findings);
        foreach (var address in addresses.Missing)
            Change(findings, network, $"virtual address {address} added", () => addresses.Add(address), applied?.Addresses.Contains(address) == true);
        Routes(network, addresses, findings);
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

    private static void Helpers(VipNetwork network, IpvsPlan plan, NetworkNamespace netns, Findings findings)
    {
        using var nft = NfTables.Open(netns);
        var elements = DirectorTable.Elements(plan);
        if (elements.Count == 0)
        {
            if (DirectorTable.Layout.Exists(nft))
                Change(findings, network, "marks and refusals removed", () => DirectorTable.Layout.Remove(nft));
            return;
        }
        var (added, deleted, _) = DirectorTable.Layout.Reconcile(nft, _ => elements, findings.Write);
        if (added.Count + deleted.Count > 0)
            findings.Changed(network, network.Netns, $"marks and refusals: {added.Count} added, {deleted.Count} removed");
    }

    /// <summary>Only the node's own traffic needs these: a failure is reported and stops nothing.</summary>
    private static void Routes(VipNetwork network, VirtualAddresses addresses, Findings findings)
    {
        foreach (var (what, deed) in addresses.RouteDifference())
        {
            try
            {
                Change(findings, network, what, deed);
            }
            catch (NetlinkException e)
            {
                findings.Failed(network, null, network.Netns, e.Message);
            }
        }
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
}
