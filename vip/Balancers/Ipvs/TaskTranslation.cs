using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Ipvs;

/// <summary>
/// Keeps the translation in one task's namespace. What is no longer wanted stays for a while: directors on other nodes
/// learn of it later than we do, and their draining flows need it.
/// </summary>
internal sealed class TaskTranslation
{
    private readonly Dictionary<NftElement, DateTimeOffset> lingering = [];
    private HashSet<NftElement> applied = [];
    private TimeSpan linger = TimeSpan.FromSeconds(30);
    private uint generation;

    /// <summary>Nothing of ours is in the namespace, and nothing is wanted there.</summary>
    internal bool Idle { get; private set; }

    internal void Reconcile(VipNetwork network, VipTask task, Findings findings)
    {
        var wanted = TaskTable.Elements(network, task);
        if (wanted.Count == 0 && Idle)
            return;
        foreach (var service in network.Services.Where(service => service.RealServers.Any(server => server.EndpointId == task.EndpointId)))
            linger = TimeSpan.FromSeconds(Math.Max(linger.TotalSeconds, service.DrainSeconds));
        using var netns = NetworkNamespace.Open(task.NetnsPath);
        using var nft = NfTables.Open(netns);
        var layout = TaskTable.Layout(network.Vni, task);
        // The rule set is as we left it, and we want what we wanted then.
        if (generation != 0 && applied.SetEquals(wanted) && lingering.Count == 0 && nft.Generation() == generation && layout.Exists(nft))
            return;
        if (wanted.Count == 0 && !layout.Exists(nft))
        {
            Idle = findings.Write;
            return;
        }
        var keep = new HashSet<NftElement>();
        var (added, deleted, made) = layout.Reconcile(nft, there =>
        {
            keep = [.. wanted];
            foreach (var element in (there ?? applied).Except(wanted))
            {
                // The same port of the VIP with another target, or after its time: out.
                if (!wanted.Any(other => other.Set == element.Set && other.Key == element.Key) && findings.Now < Deadline(element, findings))
                    keep.Add(element);
            }
            return keep;
        }, findings.Write);
        foreach (var element in keep.Except(wanted))
            findings.Due(Deadline(element, findings));
        foreach (var element in added)
            findings.Changed(network, task.NetnsPath, $"translation of {TaskTable.Describe(element)} added", applied.Contains(element));
        foreach (var element in deleted)
            findings.Changed(network, task.NetnsPath, $"translation of {TaskTable.Describe(element)} removed");
        if (!findings.Write)
            return;
        foreach (var element in lingering.Keys.Where(element => !keep.Contains(element) || wanted.Contains(element)).ToList())
            lingering.Remove(element);
        if (keep.Count == 0)
        {
            layout.Remove(nft);
            applied = [];
            generation = 0;
            Idle = true;
            return;
        }
        Idle = false;
        applied = [.. wanted];
        // A commit of somebody else in between only makes us look again next time.
        generation = made || added.Count + deleted.Count > 0 ? nft.Generation() : generation;
        if (task.Address4 is not null && wanted.Count > 0)
            AcceptOwnSource(netns, network, task, findings);
    }

    /// <summary>Takes our table out of a namespace that is not a task's of this network any more.</summary>
    internal static void Remove(VipNetwork network, VipTask task)
    {
        using var netns = NetworkNamespace.Open(task.NetnsPath);
        using var nft = NfTables.Open(netns);
        TaskTable.Layout(network.Vni, task).Remove(nft);
    }

    private DateTimeOffset Deadline(NftElement element, Findings findings)
    {
        if (lingering.TryGetValue(element, out var deadline))
            return deadline;
        deadline = findings.Now + linger;
        if (findings.Write)
            lingering[element] = deadline;
        return deadline;
    }

    /// <summary>A task chosen for its own connection gets a packet with its own source address, which IPv4 drops unless told otherwise.</summary>
    private static void AcceptOwnSource(NetworkNamespace netns, VipNetwork network, VipTask task, Findings findings)
    {
        var name = $"net/ipv4/conf/{task.Interface}/accept_local";
        if (netns.Run(() => Sysctl.Read(name) is "0" && Sysctl.Write(name, "1")))
            findings.Changed(network, task.NetnsPath, $"{name} = 1");
    }
}
