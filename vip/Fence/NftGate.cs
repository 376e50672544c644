using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Fence;

/// <summary>
/// The gate in nftables: ARP and IP in and out on every interface, passed on or not, local clients, neighbour discovery, protocol
/// 112 of the VRIDs, and announcements at the interfaces' egress, where packet sockets pass too. Its deadline is a time of day
/// (<c>meta time</c>): a step of the wall clock backwards holds it open for longer, which <see cref="BpfGate"/> does not do.
/// </summary>
/// <remarks>
/// An absolute deadline makes a late write harmless; a relative time-out would revive the VIP after SIGCONT. The rules
/// stay when the process ends, shut.
/// </remarks>
public sealed class NftGate : IFenceGate
{
    private const string Lease = "lease";

    // Before destinations are translated and after sources are: also what is passed on to a service's balancer has the VIP then.
    private const int BeforeConntrack = -350, AfterTranslation = 350;
    private const uint RtnLocal = 2;
    private const byte Icmp6 = 58, Vrrp = 112, NeighbourSolicitation = 135, NeighbourAdvertisement = 136;
    // Offsets in an ARP packet over Ethernet and in a neighbour discovery message.
    private const int ArpSender = 14, ArpTarget = 24, NdTarget = 8, Ip6Header = 40, Ip6NextHeader = 6;
    private const ushort EtherTypeArp = 0x0806, EtherTypeIp6 = 0x86dd;

    private readonly NfTables _nftables;
    private readonly FenceGateConfig _config;
    private readonly NfTable _arp;
    private readonly NfTable _inet;
    private readonly NfTable _netdev;

    /// <summary>Builds the gate, shut, in the calling thread's network namespace; one of that name is replaced in the same step.</summary>
    /// <exception cref="KernelException">The kernel refused: no nf_tables, or no such interface.</exception>
    public NftGate(FenceGateConfig config)
    {
        _config = config;
        (_arp, _inet, _netdev) = Tables(config.Name);
        _nftables = NfTables.Open();
        try
        {
            var batch = new NfTablesBatch();
            try
            {
                Build(ref batch);
                _nftables.Commit(ref batch);
            }
            finally
            {
                batch.Dispose();
            }
        }
        catch
        {
            _nftables.Dispose();
            throw;
        }
    }

    public string Name => "nft meta time";

    public void SetDeadline(TimeSpan bootTime)
    {
        var batch = new NfTablesBatch();
        try
        {
            foreach (var table in (ReadOnlySpan<NfTable>)[_arp, _inet, _netdev])
            {
                batch.FlushChain(table, Lease);
                if (bootTime != TimeSpan.MaxValue)
                    batch.AddRule(table, Lease, Expired(WallNanoseconds(bootTime)));
            }

            _nftables.Commit(ref batch);
        }
        finally
        {
            batch.Dispose();
        }
    }

    public void Remove() => Remove(_nftables, _config.Name);

    /// <summary>Takes away the gate that an earlier process left under a name; none is fine.</summary>
    public static void Remove(string name)
    {
        using var nftables = NfTables.Open();
        Remove(nftables, name);
    }

    public void Dispose() => _nftables.Dispose();

    private static void Remove(NfTables nftables, string name)
    {
        var batch = new NfTablesBatch();
        try
        {
            var (arp, inet, netdev) = Tables(name);
            batch.RemoveTable(arp);
            batch.RemoveTable(inet);
            batch.RemoveTable(netdev);
            nftables.Commit(ref batch);
        }
        finally
        {
            batch.Dispose();
        }
    }

    private static (NfTable Arp, NfTable Inet, NfTable Netdev) Tables(string name)
    {
        var table = $"overlaynet-vip-{name}";
        return (new(NfFamily.Arp, table), new(NfFamily.Inet, table), new(NfFamily.Netdev, table));
    }

    private void Build(ref NfTablesBatch batch)
    {
        foreach (var table in (ReadOnlySpan<NfTable>)[_arp, _inet, _netdev])
        {
            batch.RemoveTable(table);
            batch.AddTable(table, "fence of a floating VIP");
            // An empty chain would be an open gate: the expired rule comes in the same transaction.
            batch.AddChain(table, new NfChain(Lease));
            batch.AddRule(table, Lease, Expired(0));
        }

        // The ARP family numbers its hooks 0 (in) and 1 (out), linux/netfilter_arp.h.
        batch.AddChain(_arp, NfChain.Base("input", "filter", (NfHook)0, 0));
        batch.AddChain(_arp, NfChain.Base("output", "filter", (NfHook)1, 0));
        batch.AddChain(_inet, NfChain.Base("prerouting", "filter", NfHook.PreRouting, BeforeConntrack));
        batch.AddChain(_inet, NfChain.Base("output", "filter", NfHook.Output, BeforeConntrack));
        batch.AddChain(_inet, NfChain.Base("postrouting", "filter", NfHook.PostRouting, AfterTranslation));
        batch.AddChain(_netdev, NfChain.Base("egress", "filter", NfHook.NetdevEgress, 0) with { Devices = [.. _config.Interfaces.Distinct()] });

        foreach (var address in _config.Addresses)
        {
            if (address.AddressFamily == AddressFamily.InterNetwork)
                Guard4(ref batch, address);
            else
                Guard6(ref batch, address);
        }

        foreach (var vrid in _config.VirtualRouterIds)
            Jump(ref batch, _inet, "postrouting", new NfExpressions().MatchL4Protocol(Vrrp)
                .Payload(NfPayloadBase.Transport, 1, 1, 0).Compare(NfCompare.Equal, 0, [vrid]));
    }

    private void Guard4(ref NfTablesBatch batch, IPAddress address)
    {
        var octets = address.GetAddressBytes();
        Jump(ref batch, _arp, "input", new NfExpressions().Payload(NfPayloadBase.Network, ArpTarget, 4, 0).Compare(NfCompare.Equal, 0, octets));
        Jump(ref batch, _arp, "output", new NfExpressions().Payload(NfPayloadBase.Network, ArpSender, 4, 0).Compare(NfCompare.Equal, 0, octets));
        Jump(ref batch, _inet, "prerouting", Family(NfFamily.IPv4).MatchDestination(new IPNetwork(address, 32)));
        // Clients on this node itself, before a service's balancer gets them; while the address is elsewhere they go there.
        Jump(ref batch, _inet, "output", LocalDestination(NfFamily.IPv4).MatchDestination(new IPNetwork(address, 32)));
        Jump(ref batch, _inet, "postrouting", Family(NfFamily.IPv4).MatchSource(new IPNetwork(address, 32)));
        Jump(ref batch, _netdev, "egress", EtherType(EtherTypeArp).Payload(NfPayloadBase.Network, ArpSender, 4, 0).Compare(NfCompare.Equal, 0, octets));
    }

    private void Guard6(ref NfTablesBatch batch, IPAddress address)
    {
        var octets = address.GetAddressBytes();
        Jump(ref batch, _inet, "prerouting", Family(NfFamily.IPv6).MatchDestination(new IPNetwork(address, 128)));
        Jump(ref batch, _inet, "output", LocalDestination(NfFamily.IPv6).MatchDestination(new IPNetwork(address, 128)));
        Jump(ref batch, _inet, "postrouting", Family(NfFamily.IPv6).MatchSource(new IPNetwork(address, 128)));
        Jump(ref batch, _inet, "prerouting", Neighbour(NeighbourSolicitation).Payload(NfPayloadBase.Transport, NdTarget, 16, 0).Compare(NfCompare.Equal, 0, octets));
        Jump(ref batch, _inet, "postrouting", Neighbour(NeighbourAdvertisement).Payload(NfPayloadBase.Transport, NdTarget, 16, 0).Compare(NfCompare.Equal, 0, octets));
        Jump(ref batch, _netdev, "egress", EtherType(EtherTypeIp6)
            .Payload(NfPayloadBase.Network, Ip6NextHeader, 1, 0).Compare(NfCompare.Equal, 0, [Icmp6])
            .Payload(NfPayloadBase.Network, Ip6Header, 1, 0).Compare(NfCompare.Equal, 0, [NeighbourAdvertisement])
            .Payload(NfPayloadBase.Network, Ip6Header + NdTarget, 16, 0).Compare(NfCompare.Equal, 0, octets));
    }

    private static void Jump(ref NfTablesBatch batch, NfTable table, string chain, NfExpressions match) =>
        batch.AddRule(table, chain, match.Verdict(NfVerdict.Jump(Lease)));

    private static NfExpressions Family(NfFamily family) => new NfExpressions().Meta(NfMeta.NfProtocol, 0).Compare(NfCompare.Equal, 0, [(byte)family]);

    private static NfExpressions LocalDestination(NfFamily family) => Family(family)
        .Fib(NfFibFlags.Destination, NfFibResult.AddressType, 0).Compare(NfCompare.Equal, 0, BitConverter.GetBytes(RtnLocal));

    private static NfExpressions EtherType(ushort type) =>
        new NfExpressions().Meta(NfMeta.Protocol, 0).Compare(NfCompare.Equal, 0, [(byte)(type >> 8), (byte)type]);

    private static NfExpressions Neighbour(byte type) => Family(NfFamily.IPv6).MatchL4Protocol(Icmp6)
        .Payload(NfPayloadBase.Transport, 0, 1, 0).Compare(NfCompare.Equal, 0, [type]);

    // meta time is in host byte order; the comparison is of octets, so both sides are turned.
    private static NfExpressions Expired(long wallNanoseconds)
    {
        Span<byte> deadline = stackalloc byte[8];
        BinaryPrimitives.WriteInt64BigEndian(deadline, wallNanoseconds);
        return new NfExpressions().Meta(NfMeta.TimeNanoseconds, 0).HostToNetwork(0, 0, 8, 8)
            .Compare(NfCompare.GreaterOrEqual, 0, deadline).Verdict(NfVerdict.Drop);
    }

    private static long WallNanoseconds(TimeSpan bootTime)
    {
        if (bootTime <= TimeSpan.Zero)
            return 0;
        // The wall clock is read first: a pause between the readings makes the deadline earlier, never later.
        var wall = WallClock.Nanoseconds;
        return wall + (bootTime.Ticks * 100 - BootClock.Nanoseconds);
    }
}
