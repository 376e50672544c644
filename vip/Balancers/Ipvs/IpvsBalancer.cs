using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// VIPs by IPVS direct routing: a director in each network's namespace on every node, the translation in the tasks'.
/// The client's address is kept, answers go straight from the task to the client. docs/ipvs.md explains it.
/// </summary>
public sealed class IpvsBalancer(TimeProvider time) : IBalancer
{
    private static readonly string[] Schedulers = ["rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq"];
    private static readonly TimeSpan AskAgain = TimeSpan.FromMinutes(1);
    private readonly Dictionary<string, Director> directors = [];
    private readonly Dictionary<(string Network, string Endpoint), (TaskTranslation Translation, VipNetwork Network, VipTask Task)> tasks = [];
    private readonly Dictionary<(string Network, string Service, IPAddress Address), string> endpoints = [];
    private BalancerAvailability? availability;
    private DateTimeOffset asked;

    public string Name => BalancerNames.Ipvs;

    public BalancerAvailability Availability
    {
        get
        {
            // A kernel that has it keeps it; one that has not may get the module.
            if (availability is null || !availability.Usable && time.GetUtcNow() - asked >= AskAgain)
            {
                availability = Probe();
                asked = time.GetUtcNow();
            }
            return availability;
        }
    }

    public string? Refuses(VipService service) => Schedulers.Contains(service.Scheduler)
        ? null
        : $"scheduler '{service.Scheduler}' is not one of {string.Join(", ", Schedulers)}";

    public BalancerReport Apply(VipConfig config) => Pass(config, write: true);

    public BalancerReport Observe(VipConfig config) => Pass(config, write: false);

    public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config)
    {
        var statistics = new List<RealServerStatistics>();
        foreach (var network in config.Networks.Where(network => network.Services.Count > 0))
        {
            try
            {
                using var netns = NamedNamespaces.OpenPinned(network.Netns);
                using var table = IpvsTable.TryOpen(netns);
                if (table is not null)
                    statistics.AddRange(Statistics(network, Director.Read(table)));
            }
            catch (KernelException)
            {
                // A network that is being made or taken down has no counters; Apply reports what is wrong with it.
            }
        }
        return statistics;
    }

    public void Dispose()
    {
    }

    private static BalancerAvailability Probe()
    {
        try
        {
            using var table = IpvsTable.TryOpen();
            if (table is null)
                return BalancerAvailability.No("this kernel has no IPVS: load the module ip_vs (modprobe ip_vs) or install a kernel that has it");
            table.Info();
            return BalancerAvailability.Yes;
        }
        catch (KernelException e)
        {
            return BalancerAvailability.No($"IPVS cannot be used: {e.Message}; the daemon needs CAP_NET_ADMIN");
        }
    }

    private BalancerReport Pass(VipConfig config, bool write)
    {
        var findings = new Findings(write, time.GetUtcNow());
        // A real server gets connections only after its task can take them.
        foreach (var network in config.Networks)
        {
            foreach (var task in network.Tasks)
                findings.Guard(network, task.NetnsPath, () => Translation(network, task).Reconcile(network, task, findings));
        }
        foreach (var network in config.Networks)
        {
            Remember(network);
            if (!directors.TryGetValue(network.Id, out var director))
                directors[network.Id] = director = new Director();
            findings.Guard(network, network.Netns, () => director.Reconcile(network, findings));
        }
        if (write)
            Forget(config, findings);
        return findings.Report();
    }

    private TaskTranslation Translation(VipNetwork network, VipTask task)
    {
        var key = (network.Id, task.EndpointId);
        // Another namespace or another address: nothing we know of the old one holds.
        if (!tasks.TryGetValue(key, out var known) || known.Task != task)
            tasks[key] = known = (new TaskTranslation(), network, task);
        return known.Translation;
    }

    /// <summary>Endpoints that left a network while their container lives lose the translation; directors of networks that are gone went with them.</summary>
    private void Forget(VipConfig config, Findings findings)
    {
        var networks = config.Networks.Select(network => network.Id).ToHashSet();
        var here = config.Networks.SelectMany(network => network.Tasks, (network, task) => (network.Id, task.EndpointId)).ToHashSet();
        foreach (var (key, known) in tasks.Where(known => !here.Contains(known.Key)).ToList())
        {
            tasks.Remove(key);
            if (!known.Translation.Idle)
                findings.Guard(known.Network, known.Task.NetnsPath, () => TaskTranslation.Remove(known.Network, known.Task));
        }
        foreach (var id in directors.Keys.Where(id => !networks.Contains(id)).ToList())
            directors.Remove(id);
        foreach (var key in endpoints.Keys.Where(key => !networks.Contains(key.Network)).ToList())
            endpoints.Remove(key);
    }

    /// <summary>Whose an address is: still asked for while a real server drains that the configuration has forgotten.</summary>
    private void Remember(VipNetwork network)
    {
        foreach (var service in network.Services)
        {
            foreach (var server in service.RealServers)
            {
                foreach (var address in new[] { server.Address4, server.Address6 }.OfType<IPAddress>())
                    endpoints[(network.Id, service.Id, address)] = server.EndpointId;
            }
        }
    }

    private IEnumerable<RealServerStatistics> Statistics(VipNetwork network, Dictionary<IpvsServiceKey, DirectorService> kernel)
    {
        Remember(network);
        var plan = IpvsPlan.Of(network);
        return
            from pair in kernel
            let planned = plan.Services.GetValueOrDefault(pair.Key)
            where planned is not null
            from state in pair.Value.Destinations
            let endpoint = endpoints.GetValueOrDefault((network.Id, planned.Owner.Id, state.Destination.Address)) ?? state.Destination.Address.ToString()
            // A TCP connection is remembered for two minutes after its end; a UDP flow is never anything but remembered.
            let live = planned.Protocol == VipPort.Udp ? state.Connections : state.ActiveConnections
            group (state, live) by (planned.Owner.Id, endpoint) into server
            select new RealServerStatistics(BalancerNames.Ipvs, network.Id, server.Key.Id, server.Key.endpoint,
                server.Sum(one => (long)one.live),
                server.Sum(one => (long)one.state.Statistics.Connections),
                server.Sum(one => (long)(one.state.Statistics.PacketsIn + one.state.Statistics.PacketsOut)),
                server.Sum(one => (long)(one.state.Statistics.BytesIn + one.state.Statistics.BytesOut)));
    }
}
