using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>
/// Balances by translating the destination where a connection begins: in the client's own namespace, and in the network's for what the
/// node itself originates or lets in. Servers see the client's address and their own; nothing is needed at their side.
/// Design and figures: docs/vip.md.
/// </summary>
public sealed class NftBalancer(TimeProvider time) : IBalancer
{
    private const int ENOENT = 2, ESRCH = 3, EINVAL = 22;
    private readonly Dictionary<(string Network, NfFamily Family), NftImage> images = [];
    private readonly Dictionary<string, NftNamespace> namespaces = [];
    private readonly FlowKeeper flows = new(time);
    private readonly BackgroundCloser closer = new();
    private bool disposed;
    private BalancerAvailability? availability;

    public NftBalancer()
        : this(TimeProvider.System)
    {
    }

    public string Name => BalancerNames.Nft;

    public BalancerAvailability Availability => availability ??= Probe();

    public string? Refuses(VipService service) =>
        PathSelection.CountsConnections(service.Scheduler) ? $"scheduler {service.Scheduler} counts connections" : null;

    public BalancerReport Apply(VipConfig config) => OnThread(() => Run(config, observe: false));

    public BalancerReport Observe(VipConfig config)
    {
        // A writer of its own, so that looking leaves this one's idea of the kernel as it is.
        using var observer = new NftBalancer(time);
        foreach (var path in namespaces.Values)
            observer.namespaces[path.Path] = new NftNamespace(path.Path, path.IsNetwork, observer.closer);
        return OnThread(() => observer.Run(config, observe: true));
    }

    public IReadOnlyList<RealServerStatistics> ReadStatistics(VipConfig config) => OnThread(() => Count(config));

    public void Dispose()
    {
        if (disposed)
            return;
        disposed = true;
        closer.Dispose();
    }

    private List<RealServerStatistics> Count(VipConfig config)
    {
        var statistics = new List<RealServerStatistics>();
        foreach (var network in config.Networks)
        {
            var live = new Dictionary<FlowKeeper.Pair, long>();
            foreach (var (path, isNetwork) in PathsOf(network))
                CountFlows(new NftNamespace(path, isNetwork, closer), live);
            foreach (var service in network.Services)
            {
                foreach (var server in service.RealServers)
                {
                    var count = service.Addresses.Sum(vip =>
                        (vip.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork ? server.Address4 : server.Address6) is { } address
                            ? live.GetValueOrDefault(new FlowKeeper.Pair(vip, address)) : 0);
                    statistics.Add(new RealServerStatistics(Name, network.Id, service.Id, server.EndpointId, count));
                }
            }
        }
        return statistics;
    }

    /// <summary>One thread that may move between namespaces for the whole pass, instead of one for each look.</summary>
    private static T OnThread<T>(Func<T> pass)
    {
        T result = default!;
        NetworkNamespace.RunOnThread(() => result = pass());
        return result;
    }

    private static IEnumerable<(string Path, bool IsNetwork)> PathsOf(VipNetwork network) =>
        network.Tasks.Select(task => (task.NetnsPath, false)).Append((network.Netns, true)).Distinct();

    private BalancerReport Run(VipConfig config, bool observe)
    {
        var changes = new List<VipChange>();
        var errors = new List<VipError>();
        var said = UpdateImages(config);
        var wanted = new Dictionary<string, List<NftImage>>();
        foreach (var network in config.Networks)
        {
            foreach (var (path, isNetwork) in PathsOf(network))
            {
                if (!namespaces.ContainsKey(path))
                    namespaces[path] = new NftNamespace(path, isNetwork, closer);
                if (!wanted.TryGetValue(path, out var list))
                    wanted[path] = list = [];
                foreach (var family in Families)
                {
                    if (images.TryGetValue((network.Id, family), out var image) && !image.IsEmpty)
                        list.Add(image);
                }
            }
        }
        var names = config.Networks.ToDictionary(network => network.Vni, network => network.Name);
        var updated = new Dictionary<NftImage, int>();
        foreach (var (path, netns) in namespaces.ToList())
        {
            var isWanted = wanted.TryGetValue(path, out var list);
            try
            {
                var result = netns.Sync(list ?? [], observe);
                foreach (var image in result.Updated)
                    updated[image] = updated.GetValueOrDefault(image) + 1;
                changes.AddRange(result.Changes.Select(change =>
                    new VipChange(Name, NameOf(change.Image), path, change.What, change.Mended)));
                if (result.Adopted && !observe)
                    AdoptFlows(netns, config);
            }
            catch (KernelException e)
            {
                var gone = IsGone(e);
                if (isWanted)
                    errors.Add(new VipError(Name, NameOf(list!.FirstOrDefault()), null, path, e.Message, gone));
                if (gone)
                    namespaces.Remove(path);
            }
            if (!isWanted && !observe)
                namespaces.Remove(path);
        }
        // Namespaces that were loaded or compared as a whole have said so themselves.
        foreach (var (image, text) in said.Where(entry => updated.ContainsKey(entry.Image)))
            changes.Add(new VipChange(Name, NameOf(image), $"{updated[image]} namespaces", text));
        if (!observe)
        {
            EndFlows(config, changes, errors);
            foreach (var key in images.Where(entry => !config.Networks.Any(network => network.Id == entry.Key.Network)).Select(entry => entry.Key).ToList())
            {
                images.Remove(key);
                flows.Forget(key.Network);
            }
        }
        return new BalancerReport { Changes = changes, Errors = errors, NextDue = flows.Next };

        string NameOf(NftImage? image) => images.FirstOrDefault(entry => entry.Value == image).Key.Network is { } id
            ? config.Networks.FirstOrDefault(network => network.Id == id)?.Name ?? id
            : "removed";
    }

    private static readonly NfFamily[] Families = [NfFamily.IPv4, NfFamily.IPv6];

    private List<(NftImage Image, string What)> UpdateImages(VipConfig config)
    {
        var said = new List<(NftImage, string)>();
        foreach (var network in config.Networks)
        {
            foreach (var family in Families)
            {
                if (!images.TryGetValue((network.Id, family), out var image) || image.Vni != network.Vni)
                    images[(network.Id, family)] = image = new NftImage(family, network.Vni);
                var version = image.Version;
                said.AddRange(image.Update(network).Select(what => (image, what)));
                if (image.Version == version)
                    continue;
                if (image.Delta is null)
                    continue;
                foreach (var (vip, server) in image.Delta.Back)
                    flows.Cancel(network.Id, vip, server);
                foreach (var (vip, server, service) in image.Delta.Gone)
                    flows.Begin(network.Id, vip, server, service.DrainSeconds);
            }
        }
        return said;
    }

    /// <summary>After a restart: flows on servers that no longer count get their time from now.</summary>
    private void AdoptFlows(NftNamespace netns, VipConfig config)
    {
        using var open = netns.Open();
        using var conntrack = Conntrack.Open(open);
        foreach (var flow in conntrack.List().Where(flow => flow.HasDestinationNat))
        {
            var pair = FlowKeeper.PairOf(flow);
            foreach (var network in config.Networks)
            {
                var service = network.Services.FirstOrDefault(service => service.Addresses.Contains(pair.Vip));
                if (service is not null && !service.RealServers.Any(server => server.Weight > 0 && (pair.Server.Equals(server.Address4) || pair.Server.Equals(server.Address6))))
                    flows.Begin(network.Id, pair.Vip, pair.Server, service.DrainSeconds);
            }
        }
    }

    private void EndFlows(VipConfig config, List<VipChange> changes, List<VipError> errors)
    {
        foreach (var network in config.Networks)
        {
            var due = flows.TakeDue(network.Id);
            var removed = new HashSet<FlowKeeper.Pair>();
            foreach (var family in Families)
            {
                var image = images[(network.Id, family)];
                if (image.Version == image.FlowsEndedAt)
                    continue;
                image.FlowsEndedAt = image.Version;
                foreach (var (vip, server, service) in image.Delta?.Gone ?? [])
                {
                    var stillThere = image.Services.TryGetValue(service.Id, out var now) && now.Vip.Equals(vip)
                        && service.RealServers.Any(real => server.Equals(real.Address4) || server.Equals(real.Address6));
                    if (!stillThere && (service.Ports.Count == 0 || service.Ports.Any(port => port.Protocol == VipPort.Udp)))
                        removed.Add(new FlowKeeper.Pair(vip, server));
                }
            }
            if (due.Count == 0 && removed.Count == 0)
                continue;
            foreach (var (path, isNetwork) in PathsOf(network))
            {
                try
                {
                    using var netns = new NftNamespace(path, isNetwork, closer).Open();
                    var cut = FlowKeeper.Cut(netns, due, removed);
                    if (cut > 0)
                        changes.Add(new VipChange(Name, network.Name, path, $"{cut} flows to real servers that are gone ended"));
                }
                catch (KernelException e)
                {
                    errors.Add(new VipError(Name, network.Name, null, path, e.Message, IsGone(e)));
                }
            }
        }
    }

    private static void CountFlows(NftNamespace netns, Dictionary<FlowKeeper.Pair, long> live)
    {
        try
        {
            using var open = netns.Open();
            using var conntrack = Conntrack.Open(open);
            foreach (var flow in conntrack.List().Where(flow => flow.HasDestinationNat && flow.IsLive))
            {
                var pair = FlowKeeper.PairOf(flow);
                live[pair] = live.GetValueOrDefault(pair) + 1;
            }
        }
        catch (KernelException e) when (IsGone(e))
        {
            // The container has ended, and its flows with it.
        }
    }

    private static bool IsGone(KernelException e) => e.Errno is ENOENT or ESRCH or EINVAL && e is not NetlinkException;

    /// <summary>Writes everything this writer uses into the current namespace and takes it back, in one transaction that leaves nothing.</summary>
    private static BalancerAvailability Probe()
    {
        try
        {
            using var nft = NfTables.Open();
            foreach (var family in Families)
            {
                var schema = new NftSchema(family, 0);
                var batch = new NfTablesBatch();
                batch.AddTable(schema.Table);
                foreach (var set in schema.Sets(networkNamespace: false))
                    batch.AddSet(schema.Table, set);
                foreach (var chain in schema.BaseChains(null, null)
                    .Prepend(schema.ClassChain(new ServiceClass(2, true, true, 1)))
                    .Prepend(schema.ClassChain(new ServiceClass(2, true, false, 1)))
                    .Prepend(schema.TurnChain(2)))
                {
                    batch.AddChain(schema.Table, chain.Chain);
                    foreach (var rule in chain.Rules)
                        batch.AddRule(schema.Table, chain.Chain.Name, rule.Expressions);
                }
                batch.DeleteTable(schema.Table);
                try
                {
                    nft.Commit(ref batch);
                }
                finally
                {
                    batch.Dispose();
                }
            }
            return BalancerAvailability.Yes;
        }
        catch (KernelException e)
        {
            return BalancerAvailability.No($"this kernel lacks a part of nftables (needs nf_tables with nat, reject, numgen, hash and ct, and CAP_NET_ADMIN): {e.Message}");
        }
    }
}
