using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Agent.FloatingVips;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Diagnosis;

/// <summary>Composes what <c>overlaynet vip explain</c> shows: this node's view, which is the only one that counts for its gate.</summary>
internal static class VipExplainer
{
    /// <param name="reference">Name or id; null: all.</param>
    /// <exception cref="RegistryException">There is no such VIP.</exception>
    public static List<VipExplanation> Explain(NodeAgent agent, string? reference)
    {
        var snapshot = agent.Follower.Current;
        IEnumerable<FloatingVip> vips = reference is null ? snapshot.Vips.Values.OrderBy(vip => vip.Name, StringComparer.Ordinal) : [Resolve.Vip(snapshot, reference)];
        return [.. vips.Select(vip => Explain(agent, snapshot, vip))];
    }

    /// <summary>One line of <c>overlaynet status</c>.</summary>
    public static PartStatus Part(NodeAgent agent)
    {
        var snapshot = agent.Follower.Current;
        var explained = snapshot.Vips.Values.OrderBy(vip => vip.Name, StringComparer.Ordinal).Select(vip => Explain(agent, snapshot, vip)).Where(vip => vip.State != "absent").ToList();
        var wrong = explained.FirstOrDefault(vip => vip.State == "refused") ?? explained.FirstOrDefault(vip => vip.Alarms.Count > 0);
        return new PartStatus
        {
            Name = "floating vips",
            Revision = snapshot.Revision,
            Ok = wrong is null,
            LastError = wrong is null ? null : $"{wrong.Name}: {(wrong.State == "refused" ? wrong.Reason : wrong.Alarms[^1])}",
            Detail = string.Join(", ", explained.Select(vip => $"{vip.Name} {vip.State}")),
        };
    }

    private static VipExplanation Explain(NodeAgent agent, Snapshot snapshot, FloatingVip vip)
    {
        var runner = agent.FloatingVips;
        var set = vip.LeaseSet;
        var node = snapshot.Nodes.GetValueOrDefault(agent.Membership.NodeId);
        var holder = snapshot.VipHolders.GetValueOrDefault(set);
        var seen = runner.Seen(set);
        var explanation = new VipExplanation
        {
            Name = vip.Name,
            Id = vip.Id,
            Addresses = vip.Addresses,
            Vrid = vip.Vrid,
            Interface = vip.Interface,
            Mode = vip.Mode,
            Node = agent.Membership.NodeName,
            State = "absent",
            Reason = node is null || FloatingVipRules.PriorityOf(vip, node) == 0 ? "this node takes no part in it: it has no priority, or not the labels" : "it starts",
            Holder = holder?.NodeId is { } id ? snapshot.Nodes.GetValueOrDefault(id)?.Name ?? id : null,
            Incarnation = seen.Incarnation,
            Epoch = seen.Epoch,
            Profile = vip.Profile,
            StoreLoss = vip.StoreLoss,
            SyncGroup = vip.SyncGroup,
            Service = vip.ServiceId is { } service ? snapshot.Services.GetValueOrDefault(service)?.Name ?? service : null,
            Alarms = [.. Standing(snapshot, vip)],
            Revision = snapshot.Revision,
        };
        if (runner.Refusal(set) is { } refusal)
            return explanation with { State = "refused", Reason = refusal };
        if (runner.Instance(set) is not { } instance)
            return explanation;
        var now = BootClock.Now;
        explanation = explanation with
        {
            State = instance.State,
            Priority = instance.Priority.Priority,
            PriorityReason = instance.Priority.Reason,
            Peers = [.. Peers(snapshot, vip, instance, now)],
            Alarms = [.. explanation.Alarms, .. instance.Alarms],
        };
        return instance.Fenced is { } fenced ? OfFence(explanation, fenced, now) : OfRouter(explanation, instance.Routers()[0], now);
    }

    private static VipExplanation OfFence(VipExplanation explanation, FencedVip fenced, TimeSpan now)
    {
        var fence = fenced.Node;
        var holds = fence.State == FenceState.Holder;
        var left = fence.Lease?.Record?.Holder is null ? null
            : holds ? fence.RenewedAt + fence.Config.Timing.Ttl - now
            : FenceRules.EligibleAt(fence) - now;
        return explanation with
        {
            Reason = fence.LastTransitionReason.Length > 0 ? fence.LastTransitionReason : "started",
            SecondsInState = (now - (fence.LastTransitionAt == TimeSpan.Zero ? fence.StartedAt : fence.LastTransitionAt)).TotalSeconds,
            LeaseLeftMs = left is { } lease ? Math.Max(0, lease.TotalMilliseconds) : null,
            GateLeftMs = holds && fence.Deadline > now ? (fence.Deadline - now).TotalMilliseconds : null,
            Gate = fenced.GateName,
        };
    }

    private static VipExplanation OfRouter(VipExplanation explanation, VrrpRouter router, TimeSpan now) => explanation with
    {
        Reason = router.LastTransitionReason,
        SecondsInState = (now - router.LastTransitionAt).TotalSeconds,
        Holder = router.State == VrrpState.Active ? explanation.Node : explanation.Peers.FirstOrDefault(peer => peer.Address.Equals(router.ActiveRouter?.Source))?.Node ?? router.ActiveRouter?.Source.ToString(),
        Gate = "none: plain VRRP is not fenced",
    };

    private static IEnumerable<VipPeer> Peers(Snapshot snapshot, FloatingVip vip, FloatingVipInstance instance, TimeSpan now)
    {
        var holder = snapshot.VipHolders.GetValueOrDefault(vip.LeaseSet);
        foreach (var (source, heard) in instance.Routers().Where(router => router.Config.VirtualRouterId == vip.Vrid).SelectMany(router => router.Heard).OrderBy(heard => heard.Key.ToString(), StringComparer.Ordinal))
        {
            yield return new VipPeer
            {
                Address = source,
                Node = NodeAt(snapshot, holder, source),
                Priority = heard.Advertisement.Priority,
                AdvertMs = heard.Advertisement.IntervalCs * 10,
                SecondsAgo = (now - heard.At).TotalSeconds,
            };
        }
    }

    private static string? NodeAt(Snapshot snapshot, VipHolder? holder, IPAddress source) =>
        snapshot.Nodes.Values.FirstOrDefault(node => node.Address.Equals(source))?.Name
        ?? (holder?.NodeId is { } id && holder.Sources.Contains(source) ? snapshot.Nodes.GetValueOrDefault(id)?.Name : null);

    // What the configuration itself costs, said where an operator looks.
    private static IEnumerable<string> Standing(Snapshot snapshot, FloatingVip vip)
    {
        if (vip.Mode == FloatingVipMode.Vrrp)
        {
            yield return "not fenced: a partition or a frozen node gives two owners";
            yield break;
        }
        if (snapshot.Nodes.Values.Count(node => node.Role == NodeRole.Manager) == 1)
            yield return $"one manager is a single point of failure: while it is away {(vip.StoreLoss == StoreLoss.Release ? "the VIP is dropped at its deadline" : $"the policy is {vip.StoreLoss}")}";
        if (vip.StoreLoss == StoreLoss.Vrrp)
            yield return "without the registry it runs plain VRRP: two owners are possible then";
        if (vip is { Profile: FenceProfile.Fast, StoreLoss: StoreLoss.Release })
            yield return "profile fast: the loss of the registry's leader drops the VIP until the next one is elected";
    }
}
