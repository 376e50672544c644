using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>
/// Makes the overlay networks of one node reflect a configuration. Everything there is is read back, compared, and
/// only what differs is changed; nothing is flushed, and what is ours but not desired goes by its ownership mark.
/// Calls must not overlap. Holds its networks' namespaces open, so that one whose name somebody deleted gets its name
/// back with everything in it.
/// </summary>
/// <param name="hostPath">The network namespace of the host, which the underlay belongs to; null: the process's own.</param>
public sealed class Overlay(string? hostPath = null) : IDisposable
{
    /// <summary>The bridge in a network's namespace: the device its gateways' addresses are on.</summary>
    public const string BridgeName = NetworkReconciler.BridgeName;

    private const string HostScope = "host";
    private readonly Dictionary<string, NetworkNamespace> held = [];

    /// <summary>Mends every difference between the configuration and the kernel.</summary>
    /// <returns>What was different, what could not be mended, and how each endpoint fares.</returns>
    /// <exception cref="KernelException">The host's own namespace cannot be read; nothing else ends the pass.</exception>
    public ApplyReport Apply(OverlayConfig config) => Run(config, dryRun: false);

    /// <summary>
    /// Makes the kernel reflect <paramref name="after"/> where it differs from <paramref name="before"/>, the configuration that was
    /// applied last: a network that is the same object in both is not looked at, and differences of the tables are written
    /// without reading them back. What somebody else changed is for <see cref="Apply"/>.
    /// </summary>
    /// <inheritdoc cref="Apply"/>
    public ApplyReport ApplyChange(OverlayConfig before, OverlayConfig after)
    {
        ApplyReport? report = null;
        NetworkNamespace.RunOnThread(() => report = IsOfSameNetworks(before, after) ? Change(before, after) : Pass(after, dryRun: false));
        return report!;
    }

    /// <summary>Names every difference and changes nothing. Below something that is missing, nothing further can be compared.</summary>
    /// <inheritdoc cref="Apply"/>
    public ApplyReport Plan(OverlayConfig config) => Run(config, dryRun: true);

    /// <summary>Lets go of the namespaces; the networks go on.</summary>
    public void Dispose()
    {
        foreach (var netns in held.Values)
            netns.Dispose();
        held.Clear();
    }

    private ApplyReport Run(OverlayConfig config, bool dryRun)
    {
        ApplyReport? report = null;
        // One thread that goes through all namespaces, instead of one for each step.
        NetworkNamespace.RunOnThread(() => report = Pass(config, dryRun));
        return report!;
    }

    private ApplyReport Pass(OverlayConfig config, bool dryRun)
    {
        var account = new Reconciliation(dryRun);
        using var host = OpenHost();
        var desired = Accepted(config, account);
        RemoveStale(config, desired, account);
        MendHost(config, desired, host, account);
        foreach (var network in desired)
            account.Try(network.Name, $"apply network {network.Name}", () =>
            {
                if (OpenNetns(network, account) is { } netns)
                    new NetworkReconciler(account, config, network, host, netns).Run();
            });
        return account.Report;
    }

    /// <summary>Whether only endpoints differ: all else of a network may concern the host, too.</summary>
    private static bool IsOfSameNetworks(OverlayConfig before, OverlayConfig after)
    {
        if (before with { Networks = after.Networks } != after || before.Networks.Count != after.Networks.Count)
            return false;
        var old = before.Networks.ToDictionary(network => network.Netns);
        return after.Networks.All(network => !network.Encrypted
            && old.TryGetValue(network.Netns, out var was)
            && was with { Endpoints = network.Endpoints, Remotes = network.Remotes } == network);
    }

    private ApplyReport Change(OverlayConfig before, OverlayConfig after)
    {
        var account = new Reconciliation(dryRun: false);
        var old = before.Networks.ToDictionary(network => network.Netns);
        foreach (var network in after.Networks.Where(network => !ReferenceEquals(network, old[network.Netns])))
            account.Try(network.Name, $"change network {network.Name}", () =>
            {
                if (held.TryGetValue(network.Netns, out var known)
                    && NetworkChange.Between(old[network.Netns], network) is { } change
                    && change.Write(account, network, known))
                    return;
                using var host = OpenHost();
                if (OpenNetns(network, account) is { } netns)
                    new NetworkReconciler(account, after, network, host, netns).Run();
            });
        return account.Report;
    }

    private NetworkNamespace OpenHost() => hostPath is null ? NetworkNamespace.OpenHost() : NetworkNamespace.Open(hostPath);

    /// <summary>The network's namespace, by its name, by what is held of it, or a new one.</summary>
    private NetworkNamespace? OpenNetns(OverlayNetwork network, Reconciliation account)
    {
        var name = network.Netns;
        if (!NamedNamespaces.Exists(name))
        {
            var mended = held.TryGetValue(name, out var nameless)
                ? account.Mend(network.Name, $"give network namespace {name} its name back", () => NamedNamespaces.Pin(name, nameless))
                : account.Mend(network.Name, $"create network namespace {name}", () => NamedNamespaces.Create(name));
            if (!mended)
                return null;
        }
        Release(name);
        return held[name] = NamedNamespaces.OpenPinned(name);
    }

    private void Release(string name)
    {
        if (held.Remove(name, out var netns))
            netns.Dispose();
    }

    private static List<OverlayNetwork> Accepted(OverlayConfig config, Reconciliation account)
    {
        List<OverlayNetwork> accepted = [];
        foreach (var network in config.Networks)
        {
            if (network.Encrypted)
                account.Fail(network.Name, $"apply network {network.Name}", "encryption is not available in this version and nothing is sent in the clear under that flag: create the network without --encrypted");
            else
                accepted.Add(network);
        }
        return accepted;
    }

    /// <summary>Networks of this node that are not desired any more. A namespace that cannot be looked into is left alone.</summary>
    private void RemoveStale(OverlayConfig config, List<OverlayNetwork> desired, Reconciliation account)
    {
        var wanted = desired.Select(network => network.Netns).ToHashSet();
        var prefix = NamePrefix(config);
        foreach (var name in NamedNamespaces.List().Where(name => name.StartsWith(prefix, StringComparison.Ordinal) && !wanted.Contains(name)))
        {
            if (MarkOf(name) is { } mark && mark.Cluster == config.ClusterId && mark.Node == config.NodeId)
                account.Mend(mark.Network, $"delete network namespace {name}, which is ours and not desired", () => Remove(name));
        }
    }

    private static string NamePrefix(OverlayConfig config) => $"on-{config.NodeShortId}-";

    private static OwnershipMark? MarkOf(string name)
    {
        try
        {
            using var netns = NamedNamespaces.OpenPinned(name);
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
            return OwnershipMark.Parse(new RouteLinks(socket).Get("lo")?.Alias);
        }
        catch (KernelException)
        {
            return null;
        }
    }

    private void Remove(string name)
    {
        Release(name);
        using (var netns = NamedNamespaces.OpenPinned(name))
        using (var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns))
        {
            // At once rather than when the kernel gets round to the namespace: the VNI is free again when this returns.
            var links = new RouteLinks(socket);
            foreach (var link in links.Dump().Where(link => link.Kind is "veth" or "vxlan" or "bridge"))
                RouteLinks.Deleting(link.Index).TrySend(socket);
        }
        NamedNamespaces.Delete(name);
    }

    private static void MendHost(OverlayConfig config, List<OverlayNetwork> desired, NetworkNamespace host, Reconciliation account)
    {
        var egress = desired.Any(network => !network.Internal);
        if (desired.Count > 0)
            Set(host.Run(() => NamespaceSysctls.TooLow(NamespaceSysctls.NeighbourLimits)), host, account);
        if (egress)
            Set(host.Run(NamespaceSysctls.HostForwarding), host, account);
        account.Try(HostScope, "set the host's packet filter", () => Firewall.Host(account, config with { Networks = desired }, egress, host, HostScope));
    }

    private static void Set(List<(string Name, string Value)> different, NetworkNamespace host, Reconciliation account)
    {
        foreach (var (name, value) in different)
            account.Mend(HostScope, $"set {name} = {value}", () => host.SetSysctl(name, value));
    }
}
