using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>
/// What one table is to hold, for one network and family; shared by all namespaces that need it. Each change makes a new version and a
/// <see cref="NftDelta"/> from the one before, so that a namespace known to hold that one gets only what differs.
/// </summary>
internal sealed class NftImage(NfFamily family, int vni)
{
    private readonly Dictionary<string, CompiledService> services = [];
    private readonly Dictionary<ServiceClass, int> classes = [];
    private IReadOnlyList<VipService> last = [];

    internal NftSchema Schema { get; } = new(family, vni);

    internal NfFamily Family { get; } = family;

    internal int Vni { get; } = vni;

    /// <summary>The version for which flows of servers that are gone were looked after.</summary>
    internal long FlowsEndedAt { get; set; }

    /// <summary>Grows with every change.</summary>
    internal long Version { get; private set; }

    /// <summary>From the version before to this one; null when that is everything.</summary>
    internal NftDelta? Delta { get; private set; }

    internal IReadOnlyDictionary<string, CompiledService> Services => services;

    /// <summary>The node's own address, for the network's namespace.</summary>
    internal IPAddress? NodeAddress { get; private set; }

    internal IPNetwork? Subnet { get; private set; }

    /// <summary>Addresses of the tasks on this node.</summary>
    internal IReadOnlyCollection<IPAddress> Local { get; private set; } = [];

    /// <summary>Brings the image to a desired state.</summary>
    /// <returns>What a person would call the changes.</returns>
    internal IReadOnlyList<string> Update(VipNetwork network)
    {
        var said = new List<string>();
        var delta = new NftDelta { Records = services.Count > 0 };
        if (!ReplaceChanged(network.Services, delta, said))
            ReplaceAll(network.Services, delta, said);
        last = network.Services;
        var node = Family == NfFamily.IPv4 ? network.NodeAddress4 : network.NodeAddress6;
        var subnet = Family == NfFamily.IPv4 ? network.Subnet4 : network.Subnet6;
        var local = network.Tasks.Select(task => Family == NfFamily.IPv4 ? task.Address4 : task.Address6).OfType<IPAddress>().ToHashSet();
        if (!Equals(node, NodeAddress) || !Equals(subnet, Subnet))
        {
            (NodeAddress, Subnet) = (node, subnet);
            delta.Structure = true;
        }
        if (!local.SetEquals(Local))
        {
            foreach (var address in Local.Where(address => !local.Contains(address)))
                delta.LocalRemoved.Add(address);
            foreach (var address in local.Where(address => !Local.Contains(address)))
                delta.LocalAdded.Add(address);
            Local = local;
        }
        if (delta.IsEmpty)
            return [];
        delta.Settle();
        Delta = delta.Records ? delta : null;
        Version++;
        return said;
    }

    internal bool IsEmpty => services.Count == 0;

    /// <summary>All chains with their rules, base chains last: their rules refer to maps whose verdicts refer to the others.</summary>
    internal IEnumerable<ChainSpec> Chains(bool networkNamespace)
    {
        foreach (var buckets in classes.Keys.Where(service => service.TurnChain is not null).Select(service => service.Buckets).Distinct())
            yield return Schema.TurnChain(buckets);
        foreach (var service in classes.Keys)
            yield return Schema.ClassChain(service);
        foreach (var chain in Schema.BaseChains(networkNamespace ? NodeAddress : null, Subnet))
            yield return chain;
    }

    internal IEnumerable<ServiceClass> Classes => classes.Keys;

    /// <summary>All elements of the maps but the classes.</summary>
    internal IEnumerable<KeyValuePair<NftKey, NftData>> Elements(bool networkNamespace)
    {
        foreach (var service in services.Values)
        {
            foreach (var element in service.Elements())
                yield return element;
        }
        if (!networkNamespace)
            yield break;
        foreach (var address in Local)
            yield return new(NftKey.Address(NftMap.Local, address), default);
    }

    /// <summary>The usual case among thousands of services: the same ones in the same order, nearly all of them unchanged.</summary>
    /// <returns>False when services came, went or changed places; nothing is done then.</returns>
    private bool ReplaceChanged(IReadOnlyList<VipService> next, NftDelta delta, List<string> said)
    {
        if (next.Count != last.Count)
            return false;
        var changed = new List<int>();
        for (var i = 0; i < next.Count; i++)
        {
            if (ReferenceEquals(next[i], last[i]))
                continue;
            if (next[i].Id != last[i].Id)
                return false;
            if (!CompiledService.Same(next[i], last[i]))
                changed.Add(i);
        }
        foreach (var i in changed)
            Replace(next[i].Id, services.GetValueOrDefault(next[i].Id), CompiledService.Compile(next[i], Family), delta, said);
        return true;
    }

    private void ReplaceAll(IReadOnlyList<VipService> next, NftDelta delta, List<string> said)
    {
        var seen = new HashSet<string>(next.Count);
        foreach (var service in next)
        {
            seen.Add(service.Id);
            services.TryGetValue(service.Id, out var before);
            if (before is null || !CompiledService.Same(before.Source, service))
                Replace(service.Id, before, CompiledService.Compile(service, Family), delta, said);
        }
        foreach (var id in services.Keys.Where(id => !seen.Contains(id)).ToList())
            Replace(id, services[id], null, delta, said);
    }

    private void Replace(string id, CompiledService? before, CompiledService? after, NftDelta delta, List<string> said)
    {
        if (before is null && after is null)
            return;
        if (before is not null)
        {
            foreach (var (key, data) in before.Elements())
                delta.Remove(key, data);
            Count(before.Class, -1, delta);
        }
        if (after is not null)
        {
            if (delta.Records)
            {
                foreach (var (key, data) in after.Elements())
                    delta.Add(key, data);
            }
            Count(after.Class, 1, delta);
            services[id] = after;
        }
        else
        {
            services.Remove(id);
        }
        if (before is not null)
        {
            var left = after is not null && after.Vip.Equals(before.Vip) ? after.Servers : [];
            foreach (var server in before.Servers.Except(left))
                delta.Gone.Add((before.Vip, server, (after ?? before).Source));
            foreach (var server in left.Except(before.Servers))
                delta.Back.Add((before.Vip, server));
        }
        Describe(before, after, said);
    }

    private void Count(ServiceClass service, int by, NftDelta delta)
    {
        var count = classes.GetValueOrDefault(service) + by;
        var turn = service.TurnChain;
        var turnsBefore = turn is not null && TurnUsed(service.Buckets);
        if (count == 0)
            classes.Remove(service);
        else
            classes[service] = count;
        if (count == 0)
            delta.RemoveClass(service);
        else if (count == 1 && by == 1)
            delta.AddClass(service);
        if (turn is null || turnsBefore == TurnUsed(service.Buckets))
            return;
        if (turnsBefore)
            delta.RemoveTurn(service.Buckets);
        else
            delta.AddTurn(service.Buckets);
    }

    private bool TurnUsed(int buckets) => classes.Keys.Any(service => service.Buckets == buckets && service.TurnChain is not null);

    private static void Describe(CompiledService? before, CompiledService? after, List<string> said)
    {
        if (before is null)
        {
            said.Add($"service {after!.Source.Name}: {after.Vip} added with {after.Servers.Length} real servers in {after.BucketServers.Length} buckets");
            return;
        }
        if (after is null)
        {
            said.Add($"service {before.Source.Name}: {before.Vip} removed");
            return;
        }
        foreach (var server in after.Servers.Except(before.Servers))
            said.Add($"service {after.Source.Name}: real server {server} added");
        foreach (var server in before.Servers.Except(after.Servers))
        {
            var draining = after.Source.RealServers.Any(real => server.Equals(real.Address4) || server.Equals(real.Address6));
            said.Add($"service {after.Source.Name}: real server {server} {(draining ? "drains" : "removed")}");
        }
        if (after.Servers.Length == before.Servers.Length && !after.Servers.Except(before.Servers).Any())
            said.Add($"service {after.Source.Name}: changed");
    }
}
