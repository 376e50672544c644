using System.Globalization;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry.Store;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Registry;

/// <summary>Floating VIPs as objects. Their VRIDs and addresses are guarded by index keys; who holds them is in <c>ClusterRegistry.Leases</c>.</summary>
public sealed partial class ClusterRegistry
{
    public async Task<Written<FloatingVip>> CreateVipAsync(VipCreateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var template = VipSpec.Parse(request, NewId());
        var written = await WriteAsync(draft => PlanVip(draft, template, request), cancel).ConfigureAwait(false);
        Record(Kinds.Vip, "create", template.Name, by, written.Revision, $"{string.Join(", ", template.Addresses)}, VRID {template.Vrid} on {template.Interface}");
        return written;
    }

    /// <summary>
    /// Removes a floating VIP; its holder gives it up when it hears of it, or at its deadline. Until then the addresses rest: a new
    /// VIP cannot have them.
    /// </summary>
    public async Task<Written<FloatingVip>> RemoveVipAsync(string reference, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Vip(Current, reference).Id;
        var written = await WriteAsync(draft => PlanVipRemoval(draft, id, reference), cancel).ConfigureAwait(false);
        Record(Kinds.Vip, "remove", written.Value.Name, by, written.Revision);
        return written;
    }

    private FloatingVip PlanVip(Draft draft, FloatingVip template, VipCreateRequest request)
    {
        if (draft.Snapshot.Vips.TryGetValue(template.Id, out var existing))
            return existing;
        var snapshot = draft.Snapshot;
        var vip = template with { CreatedAtUnixMs = draft.NowUnixMs };
        vip = WithPriorities(snapshot, vip, request.Priorities ?? []);
        if (request.Service is { } service)
        {
            var front = Resolve.Service(snapshot, service, request.Network);
            vip = vip with { ServiceId = front.Id };
            CheckService(front, vip);
            draft.GuardAlive(Keys.Service(front.Id));
        }
        if (snapshot.FindVip(vip.Name).Candidates.Any(other => other.Name == vip.Name))
            throw Refuse.Conflict("name-taken", "name", vip.Name, "a floating VIP has this name already", "choose another name");
        if (snapshot.Vips.Values.FirstOrDefault(other => other.Interface == vip.Interface && other.Vrid == vip.Vrid) is { } rival)
            throw Refuse.Conflict("vrid-taken", "vrid", Names.Text(vip.Vrid), $"floating VIP '{rival.Name}' uses it on {vip.Interface}", "choose another --vrid");
        foreach (var address in vip.Addresses.Select(VirtualAddress.Parse))
            ClaimAddress(draft, vip, address.Address);
        if (vip.SyncGroup is { } group)
        {
            CheckGroup(snapshot, vip);
            draft.GuardUnchanged(Keys.VipGroup(group));
            draft.Mark(Keys.VipGroup(group), vip.Id);
        }
        draft.Put(vip);
        draft.Claim(Keys.VipName(vip.Name), vip.Id);
        draft.Claim(Keys.VipVrid(vip.Interface, vip.Vrid), vip.Id);
        return vip;
    }

    private static void ClaimAddress(Draft draft, FloatingVip vip, IPAddress address)
    {
        var snapshot = draft.Snapshot;
        if (snapshot.Nodes.Values.FirstOrDefault(node => node.Address.Equals(address)) is { } owner)
            throw Refuse.Conflict("address-taken", "addresses", address.ToString(), $"it is node '{owner.Name}'s own address", "choose a free address of the segment");
        if (snapshot.Networks.Values.FirstOrDefault(network => (network.Subnet4 is { } four && four.Contains(address)) || (network.Subnet6 is { } six && six.Contains(address))) is { } network)
            throw Refuse.Conflict("address-in-network", "addresses", address.ToString(), $"it lies in overlay network '{network.Name}'", "choose an address of the hosts' segment");
        var (taken, restsUntil) = draft.State.VipAddresses[address];
        if (taken is not null)
            throw Refuse.Conflict("address-taken", "addresses", address.ToString(), $"floating VIP '{snapshot.Vips.GetValueOrDefault(taken)?.Name ?? taken}' has it", "choose another address, or remove that VIP first");
        if (restsUntil > draft.NowUnixMs)
            throw Refuse.Conflict("address-rests", "addresses", address.ToString(), "its last holder may still answer for it",
                string.Create(CultureInfo.InvariantCulture, $"try again in {Math.Ceiling((restsUntil - draft.NowUnixMs) / 1000.0):0} s"));
        draft.GuardUnchanged(Keys.VipAddress(address));
        draft.Mark(Keys.VipAddress(address), vip.Id);
    }

    private static FloatingVip WithPriorities(Snapshot snapshot, FloatingVip vip, IReadOnlyList<string> specs)
    {
        var own = new Dictionary<string, int>();
        int? common = null;
        foreach (var (node, priority) in specs.Select(VipSpec.Priority))
        {
            if (node is null)
                common = priority;
            else if (!own.TryAdd(Resolve.Node(snapshot, node).Id, priority))
                throw Refuse.Invalid("duplicate-priority", "priorities", node, "the node is named twice", "name each node once");
        }
        // Who names nodes means these nodes, unless a number for all others is given as well.
        vip = vip with { Priorities = own, Priority = common ?? (own.Count > 0 && vip.NodeLabels.Count == 0 ? 0 : 100) };
        if (own.Where(entry => entry.Value > 0).GroupBy(entry => entry.Value).FirstOrDefault(group => group.Count() > 1) is { } equal)
            throw Refuse.Invalid("equal-priority", "priorities", Names.Text(equal.Key),
                $"nodes {string.Join(" and ", equal.Select(entry => snapshot.Nodes[entry.Key].Name).Order(StringComparer.Ordinal))} have it both", "give each node a priority of its own");
        if (vip.Mode == FloatingVipMode.Vrrp && FloatingVipRules.Members(snapshot, vip).GroupBy(node => FloatingVipRules.PriorityOf(vip, node)).FirstOrDefault(group => group.Count() > 1) is { } tie)
            throw Refuse.Invalid("equal-priority", "priorities", Names.Text(tie.Key),
                $"in plain VRRP nodes {string.Join(" and ", tie.Select(node => node.Name))} would tie and the higher address win", "give each node its own: --priority NODE=N");
        return vip;
    }

    private static void CheckService(Service service, FloatingVip vip)
    {
        if (service.EndpointMode != EndpointMode.Vip)
            throw Refuse.Invalid("service-without-vip", "service", service.Name, "its endpoint mode is dnsrr, so it has no balancer", "use a service with --endpoint-mode vip");
        foreach (var port in vip.Ports)
        {
            if (service.Ports.Count > 0 && !service.Ports.Any(p => p.Port == port.Target && p.Protocol == port.Protocol))
                throw Refuse.Invalid("no-such-port", "ports", $"{port.Target}/{port.Protocol.ToString().ToLowerInvariant()}",
                    $"service '{service.Name}' does not have it", $"use one of {string.Join(", ", service.Ports.Select(p => $"{p.Port}/{p.Protocol.ToString().ToLowerInvariant()}"))}");
        }
    }

    private static void CheckGroup(Snapshot snapshot, FloatingVip vip)
    {
        foreach (var other in FloatingVipRules.OfSet(snapshot, vip.LeaseSet))
        {
            var differs = other.Mode != vip.Mode ? "mode"
                : other.Profile != vip.Profile ? "profile"
                : other.StoreLoss != vip.StoreLoss ? "storeLoss"
                : other.Preempt != vip.Preempt || other.PreemptDelayMs != vip.PreemptDelayMs ? "preempt"
                : other.Priority != vip.Priority || !Same(other.Priorities, vip.Priorities) || !Same(other.NodeLabels, vip.NodeLabels) ? "priorities"
                : null;
            if (differs is not null)
                throw Refuse.Conflict("sync-group-differs", differs, vip.Name, $"floating VIP '{other.Name}' of sync group '{vip.SyncGroup}' has another", "give all VIPs of a group the same, as they move together");
        }
        static bool Same<T>(IReadOnlyDictionary<string, T> a, IReadOnlyDictionary<string, T> b) =>
            a.Count == b.Count && a.All(entry => b.TryGetValue(entry.Key, out var value) && Equals(entry.Value, value));
    }

    private FloatingVip PlanVipRemoval(Draft draft, string id, string reference)
    {
        if (!draft.Snapshot.Vips.TryGetValue(id, out var vip))
            throw Refuse.NotFound(Kinds.Vip, reference);
        var lease = draft.State.Leases.Leases.GetValueOrDefault(vip.LeaseSet);
        var restsUntil = lease.Value?.Holder is null ? 0 : draft.NowUnixMs + (long)Rest(vip).TotalMilliseconds;
        foreach (var address in vip.Addresses.Select(text => VirtualAddress.Parse(text).Address))
        {
            if (restsUntil > 0)
                draft.Mark(Keys.VipAddress(address), VipAddressTable.RestsUntil(restsUntil));
            else
                draft.Release(Keys.VipAddress(address));
        }
        draft.Release(Keys.VipName(vip.Name));
        draft.Release(Keys.VipVrid(vip.Interface, vip.Vrid));
        draft.Delete(Keys.Vip(id));
        if (vip.SyncGroup is { } group)
        {
            draft.GuardUnchanged(Keys.VipGroup(group));
            draft.Mark(Keys.VipGroup(group), id);
        }
        if (FloatingVipRules.OfSet(draft.Snapshot, vip.LeaseSet).Count == 1)
        {
            // A renewal that comes between makes this fail and be planned again: nobody is left with a lease of nothing.
            draft.Guard(Guard.Unchanged(Keys.Lease(vip.LeaseSet), lease.Revision));
            draft.Release(Keys.Lease(vip.LeaseSet));
            draft.Release(Keys.VipHolder(vip.LeaseSet));
            foreach (var bid in draft.State.Leases.Bids.Where(bid => bid.Value.Value.Set == vip.LeaseSet))
                draft.Release(bid.Key);
        }
        return vip;
    }

    private static TimeSpan Rest(FloatingVip vip) =>
        FloatingVipRules.LongestTtl + (vip.StoreLoss == StoreLoss.HoldAll ? FloatingVipRules.MaxHold : TimeSpan.Zero);
}
