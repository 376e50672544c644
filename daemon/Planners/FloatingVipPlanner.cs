using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Vip.Fence;
using OverlayNet.Vip.Vrrp;

namespace OverlayNet.Daemon.Planners;

/// <summary>A macvlan that a floating VIP's addresses live on.</summary>
/// <param name="Mac">The virtual router's, 48 bits.</param>
public readonly record struct MacvlanPlan(string Name, string Parent, ulong Mac);

/// <summary>One set of floating VIPs as one node is to run it.</summary>
public sealed record FloatingVipPlan
{
    /// <summary>The lease's key.</summary>
    public required string Set { get; init; }
    public required IReadOnlyList<FloatingVip> Vips { get; init; }

    /// <summary>Everything that makes an instance another one: while it is equal, the instance stays.</summary>
    public required string Fingerprint { get; init; }

    /// <summary>This node's configured priority, 1-254.</summary>
    public required int Priority { get; init; }

    /// <summary>Ids of all nodes that take part, this one included.</summary>
    public required IReadOnlyList<string> Peers { get; init; }

    /// <summary>Virtual routers, one for each VIP and family, as <c>VrrpRunner</c> takes them.</summary>
    public required IReadOnlyList<VrrpMember> Members { get; init; }
    public required IReadOnlyList<MacvlanPlan> Macvlans { get; init; }
    public required FenceGateConfig Gate { get; init; }

    /// <summary>Why this node must not hold it whatever is tracked; null: nothing.</summary>
    public string? Unfit { get; init; }

    public FloatingVip First => Vips[0];
    public bool Fenced => First.Mode == FloatingVipMode.Fenced;
}

/// <summary>From a snapshot to the floating VIPs of one node. Pure.</summary>
public static class FloatingVipPlanner
{
    private const int MaxGateName = 40;

    // RFC 9568 section 7.3: 00-00-5E-00-01-VRID, and 02 for IPv6.
    private const ulong VirtualMac4 = 0x00005e000100, VirtualMac6 = 0x00005e000200;

    public static IReadOnlyList<FloatingVipPlan> Plan(Snapshot snapshot, string nodeId) =>
        !snapshot.Nodes.TryGetValue(nodeId, out var node) ? [] :
        [
            .. snapshot.Vips.Values.Where(vip => FloatingVipRules.PriorityOf(vip, node) > 0)
                .Select(vip => vip.LeaseSet).Distinct().Order(StringComparer.Ordinal)
                .Select(set => PlanSet(snapshot, node, set)),
        ];

    /// <summary>The lease's times of a profile.</summary>
    public static FenceTiming TimingOf(FenceProfile profile) =>
        (profile == FenceProfile.Fast ? FenceTiming.Fast : FenceTiming.Default) with { LongestTtl = FloatingVipRules.LongestTtl, MaxHold = FloatingVipRules.MaxHold };

    /// <summary>The name of a set's gate and of everything else that a node makes for it.</summary>
    public static string GateName(string nodeId, string set)
    {
        var name = $"{ObjectNames.ShortId(nodeId)}-{set}";
        if (name.Length <= MaxGateName)
            return name;
        var hash = Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(set)).AsSpan(0, 6));
        return $"{name[..(MaxGateName - 13)]}-{hash}";
    }

    private static FloatingVipPlan PlanSet(Snapshot snapshot, Node node, string set)
    {
        var vips = FloatingVipRules.OfSet(snapshot, set);
        var peers = FloatingVipRules.Members(snapshot, vips[0]);
        var priority = FloatingVipRules.PriorityOf(vips[0], node);
        var macvlans = vips.Where(vip => vip.Macvlan).SelectMany(Macvlans).ToList();
        IReadOnlyList<IPAddress> unicast = vips.Any(vip => vip.Unicast) ? [.. peers.Where(peer => peer.Id != node.Id).Select(peer => peer.Address)] : [];
        var members = vips.SelectMany(vip => MembersOf(vip, priority, unicast)).ToList();
        var peersMatter = vips[0].StoreLoss == StoreLoss.HoldAll;
        return new FloatingVipPlan
        {
            Set = set,
            Vips = vips,
            Priority = priority,
            Peers = [.. peers.Select(peer => peer.Id)],
            Members = members,
            Macvlans = macvlans,
            Gate = new FenceGateConfig
            {
                Name = GateName(node.Id, set),
                Interfaces = [.. vips.Select(vip => vip.Interface).Distinct()],
                Addresses = [.. members.SelectMany(member => member.Config.Addresses).Select(address => address.Address).Distinct()],
                VirtualRouterIds = [.. vips.Select(vip => (byte)vip.Vrid).Distinct()],
            },
            Unfit = Unfit(snapshot, node, vips),
            Fingerprint = string.Join('\n',
            [
                .. vips.Select(vip => JsonSerializer.Serialize(vip, OverlayNetJson.Default.FloatingVip)),
                priority.ToString(CultureInfo.InvariantCulture),
                .. peersMatter ? peers.Select(peer => peer.Id) : [],
                .. unicast.Select(address => address.ToString()),
            ]),
        };
    }

    private static string? Unfit(Snapshot snapshot, Node node, IReadOnlyList<FloatingVip> vips)
    {
        if (node.Availability == NodeAvailability.Drain)
            return "the node is drained";
        foreach (var vip in vips.Where(vip => vip.ServiceId is not null))
        {
            if (!snapshot.Services.TryGetValue(vip.ServiceId!, out var service))
                return $"the service behind {vip.Name} is gone";
            if (snapshot.NodeEndpoint(node.Id, service.NetworkId) is null)
                return $"network {snapshot.Networks.GetValueOrDefault(service.NetworkId)?.Name} of service {service.Name} is not on this node: attach a container to it";
        }
        return null;
    }

    private static IEnumerable<VrrpMember> MembersOf(FloatingVip vip, int priority, IReadOnlyList<IPAddress> unicast)
    {
        foreach (var family in vip.Addresses.Select(VirtualAddress.Parse).GroupBy(address => address.Address.AddressFamily).OrderBy(group => group.Key))
        {
            List<VirtualAddress> addresses = [.. family];
            // The first address of an IPv6 virtual router is link-local (RFC 9568 section 5.2.9): made of its MAC address when none is given.
            if (family.Key == AddressFamily.InterNetworkV6)
            {
                if (addresses.FindIndex(address => address.Address.IsIPv6LinkLocal) is var at and >= 0)
                    (addresses[0], addresses[at]) = (addresses[at], addresses[0]);
                else
                    addresses.Insert(0, new VirtualAddress(IPAddress.Parse(string.Create(CultureInfo.InvariantCulture, $"fe80::200:5eff:fe00:{0x200 + vip.Vrid:x}")), 64));
            }

            yield return new VrrpMember(vip.Interface, new VrrpConfig
            {
                VirtualRouterId = (byte)vip.Vrid,
                Version = (VrrpVersion)vip.Version,
                Priority = (byte)priority,
                AdvertisementIntervalCs = vip.AdvertMs / 10,
                Addresses = addresses,
                Preempt = vip.Preempt,
                PreemptDelay = TimeSpan.FromMilliseconds(vip.PreemptDelayMs),
                UnicastPeers = vip.Unicast ? [.. unicast.Where(address => address.AddressFamily == family.Key)] : [],
            }, vip.Macvlan ? MacvlanName(vip, family.Key) : null);
        }
    }

    private static IEnumerable<MacvlanPlan> Macvlans(FloatingVip vip) => vip.Addresses.Select(VirtualAddress.Parse)
        .Select(address => address.Address.AddressFamily).Distinct()
        .Select(family => new MacvlanPlan(MacvlanName(vip, family), vip.Interface, (family == AddressFamily.InterNetwork ? VirtualMac4 : VirtualMac6) + (ulong)vip.Vrid));

    // 15 octets fit a link name; the VIP's id tells two interfaces' equal VRIDs apart.
    private static string MacvlanName(FloatingVip vip, AddressFamily family) =>
        string.Create(CultureInfo.InvariantCulture, $"vrrp{(family == AddressFamily.InterNetwork ? 4 : 6)}-{vip.Vrid}-{vip.Id[..Math.Min(4, vip.Id.Length)]}");
}
