using System.Net;
using System.Net.Sockets;
using System.Text;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>The packet filter rules of networks and of the host: NAT to the outside, separation, no tracking of VXLAN.</summary>
internal static class Firewall
{
    private const byte Udp = 17;
    private static readonly NfTable NetworkTable = new(NfFamily.Inet, "overlaynet-egress");

    // NF_CT_STATE_BIT of invalid and new (linux/netfilter/nf_conntrack_common.h).
    private static readonly uint NewOrInvalid = 1u | 8u;

    // IPS_DST_NAT (same header): the destination was translated, which on this way only publishing a port does.
    private static readonly uint Published = 1u << 5;

    /// <summary>The host's table of one node; several daemons may share a host's namespace.</summary>
    internal static NfTable HostTable(OverlayConfig config) => new(NfFamily.Inet, $"overlaynet-{config.NodeShortId}");

    /// <summary>In a network's namespace: what leaves takes the transit address, and nobody reaches transit addresses.</summary>
    internal static void Network(Reconciliation account, OverlayNetwork network, NetworkNamespace netns)
    {
        using var kernel = NfTables.Open(netns);
        if (network.Internal)
        {
            FirewallTable.Remove(account, network.Name, kernel, NetworkTable);
            return;
        }
        new FirewallTable(NetworkTable)
            .Chain(NfChain.Base("forward", "filter", NfHook.Forward, NfPriority.Filter),
                // Answers to what the host asked go there all the same.
                Rule("transit addresses are not for containers", e => Beginning(ToTransit(e, TransitAddresses.Range4)).Verdict(NfVerdict.Drop)),
                Rule("transit addresses are not for containers (IPv6)", e => Beginning(ToTransit(e, TransitAddresses.Range6)).Verdict(NfVerdict.Drop)))
            .Chain(NfChain.Base("postrouting", "nat", NfHook.PostRouting, NfPriority.SourceNat),
                Rule("to the outside", e => e.MatchOutputInterface(TransitReconciler.InsideName).Masquerade()),
                // The way to the subnet is the node's own link, so this is the node's own address: answers find this node.
                Rule("from the host", e => FromTransit(e, TransitAddresses.Range4, TransitReconciler.InsideName).Masquerade()),
                Rule("from the host (IPv6)", e => FromTransit(e, TransitAddresses.Range6, TransitReconciler.InsideName).Masquerade()))
            .Mend(account, network.Name, kernel);
    }

    /// <summary>In the host's namespace.</summary>
    internal static void Host(Reconciliation account, OverlayConfig config, bool egress, NetworkNamespace host, string scope)
    {
        using var kernel = NfTables.Open(host);
        if (config.Networks.Count == 0)
        {
            FirewallTable.Remove(account, scope, kernel, HostTable(config));
        }
        else
        {
            var transit = TransitReconciler.OutsidePrefix + config.NodeShortId;
            // Every packet between two hosts would otherwise pay for a look-up in a table that has no use for it.
            var noTrack = Rule($"VXLAN port {config.VxlanPort}", e => e.MatchL4Protocol(Udp).MatchDestinationPort((ushort)config.VxlanPort).NoTrack());
            new FirewallTable(HostTable(config))
                .Chain(NfChain.Base("prerouting", "filter", NfHook.PreRouting, NfPriority.Raw), noTrack)
                .Chain(NfChain.Base("output", "filter", NfHook.Output, NfPriority.Raw), noTrack)
                .Chain(NfChain.Base("forward", "filter", NfHook.Forward, NfPriority.Filter),
                    Rule("no way from network to network", e => Output(Input(e, transit), transit).Verdict(NfVerdict.Drop)),
                    Rule("only answers come back, and what goes to published ports", e => Output(e, transit).Ct(NfCt.State, 0)
                        .Bitwise(0, 0, BitConverter.GetBytes(NewOrInvalid), new byte[4]).Compare(NfCompare.NotEqual, 0, new byte[4])
                        .Ct(NfCt.Status, 0).Bitwise(0, 0, BitConverter.GetBytes(Published), new byte[4]).Compare(NfCompare.Equal, 0, new byte[4])
                        .Verdict(NfVerdict.Drop)))
                .Chain(NfChain.Base("postrouting", "nat", NfHook.PostRouting, NfPriority.SourceNat),
                    Rule("to the outside", e => FromTransit(e, TransitAddresses.Range4, transit).Masquerade()),
                    Rule("to the outside (IPv6)", e => FromTransit(e, TransitAddresses.Range6, transit).Masquerade()))
                .Mend(account, scope, kernel);
        }
        ForwardingPolicy.Mend(account, config, egress, kernel, host, scope);
    }

    /// <summary>Interfaces whose name begins so; also understood by iptables-nft, as its <c>NAME+</c>.</summary>
    internal static NfExpressions Input(NfExpressions expressions, string prefix) =>
        expressions.Meta(NfMeta.InputInterfaceName, 0).Compare(NfCompare.Equal, 0, Encoding.ASCII.GetBytes(prefix));

    /// <inheritdoc cref="Input"/>
    internal static NfExpressions Output(NfExpressions expressions, string prefix, NfCompare how = NfCompare.Equal) =>
        expressions.Meta(NfMeta.OutputInterfaceName, 0).Compare(how, 0, Encoding.ASCII.GetBytes(prefix));

    private static FirewallRule Rule(string comment, Func<NfExpressions, NfExpressions> write) => new(comment, write(new NfExpressions()));

    /// <summary>Packets that begin a flow or belong to none.</summary>
    private static NfExpressions Beginning(NfExpressions expressions) => expressions.Ct(NfCt.State, 0)
        .Bitwise(0, 0, BitConverter.GetBytes(NewOrInvalid), new byte[4]).Compare(NfCompare.NotEqual, 0, new byte[4]);

    private static NfExpressions ToTransit(NfExpressions expressions, IPNetwork range) => OfFamily(expressions, range).MatchDestination(range);

    private static NfExpressions FromTransit(NfExpressions expressions, IPNetwork range, string transit) =>
        Output(OfFamily(expressions, range).MatchSource(range), transit, NfCompare.NotEqual);

    private static NfExpressions OfFamily(NfExpressions expressions, IPNetwork range) => expressions.Meta(NfMeta.NfProtocol, 0)
        .Compare(NfCompare.Equal, 0, [range.BaseAddress.AddressFamily == AddressFamily.InterNetworkV6 ? (byte)NfFamily.IPv6 : (byte)NfFamily.IPv4]);
}
