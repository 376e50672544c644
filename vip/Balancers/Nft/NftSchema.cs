using System.Globalization;
using System.Net;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Vip.Balancers.Nft;

/// <summary>A rule with a comment that ends in a hash of its expressions: how a rule read back is known to be the one meant.</summary>
internal sealed record RuleSpec(NfExpressions Expressions, string Comment)
{
    internal static RuleSpec Of(string what, NfExpressions expressions)
    {
        ulong hash = 0;
        foreach (var octet in expressions.Written)
            hash = Buckets.Mix(hash ^ octet);
        return new RuleSpec(expressions, string.Create(CultureInfo.InvariantCulture, $"{what} #{(uint)hash:x8}"));
    }
}

/// <summary>A chain and all its rules.</summary>
internal sealed record ChainSpec(NfChain Chain, IReadOnlyList<RuleSpec> Rules);

/// <summary>The maps of a table.</summary>
internal enum NftMap
{
    /// <summary>VIP → class.</summary>
    Services,

    /// <summary>VIP, protocol, port → port at the server.</summary>
    Ports,

    /// <summary>VIP, bucket or slot → server.</summary>
    Servers,

    /// <summary>Services with affinity: VIP, bucket → slot, a number that stays with a server however the buckets change.</summary>
    Slots,

    /// <summary>Servers on this node (network's namespace only).</summary>
    Local,
}

/// <summary>
/// What a table of the nft writer looks like: one for each network and family, the same in every namespace where connections begin.
/// A VIP's class is looked up in one map for all services; the class's chain chooses a bucket and translates the destination.
/// </summary>
internal sealed class NftSchema
{
    internal const string Prefix = "overlaynet-vip-", Comment = "overlaynet", Classes = "classes", Sticky = "sticky";
    private const string Output = "output", Prerouting = "prerouting", Postrouting = "postrouting";
    private const byte IcmpPortUnreachable = 3, Icmp6PortUnreachable = 4, Tcp = 6, Icmp = 1, Icmp6 = 58;
    private const uint DestinationTranslated = 1 << 5;

    // Turns are counted for all services of one bucket count together. A caller that alternates between two of them would always meet
    // the same buckets, so now and then a turn is skipped: one in four keeps a single service's shares tight and breaks such a beat soon.
    private const uint SkipOneIn = 4;
    private const int StickyElements = 65536;
    private readonly NfFamily family;
    private readonly int words;

    internal NftSchema(NfFamily family, int vni)
    {
        this.family = family;
        Table = new NfTable(family, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{vni}"));
        AddressLength = family == NfFamily.IPv4 ? 4 : 16;
        words = AddressLength / 4;
    }

    internal NfTable Table { get; }

    internal int AddressLength { get; }

    internal static string NameOf(NftMap map) => map switch
    {
        NftMap.Services => "services",
        NftMap.Ports => "ports",
        NftMap.Servers => "servers",
        NftMap.Slots => "slots",
        _ => "local",
    };

    internal int KeyLength(NftMap map) => map switch
    {
        NftMap.Ports => AddressLength + 8,
        NftMap.Servers or NftMap.Slots => AddressLength + 4,
        _ => AddressLength,
    };

    internal int DataLength(NftMap map) => map switch
    {
        NftMap.Services or NftMap.Slots => 4,
        NftMap.Ports => 2,
        NftMap.Servers => AddressLength,
        _ => 0,
    };

    private uint AddressType => family == NfFamily.IPv4 ? NfType.IPv4Address : NfType.IPv6Address;

    internal IEnumerable<NfSet> Sets(bool networkNamespace)
    {
        yield return NfSet.Map(NameOf(NftMap.Services), AddressType, AddressLength, NfType.Mark, 4) with { HostByteOrderData = true };
        yield return NfSet.VerdictMap(Classes, NfType.Mark, 4) with { HostByteOrderKey = true };
        yield return NfSet.Map(NameOf(NftMap.Ports), NfType.Concatenate(AddressType, NfType.InetProtocol, NfType.InetService), KeyLength(NftMap.Ports), NfType.InetService, 2);
        yield return NfSet.Map(NameOf(NftMap.Servers), NfType.Concatenate(AddressType, NfType.Mark), KeyLength(NftMap.Servers), AddressType, AddressLength);
        yield return NfSet.Map(NameOf(NftMap.Slots), NfType.Concatenate(AddressType, NfType.Mark), KeyLength(NftMap.Slots), NfType.Mark, 4) with { HostByteOrderData = true };
        yield return NfSet.Map(Sticky, NfType.Concatenate(AddressType, AddressType), 2 * AddressLength, NfType.Mark, 4) with
        {
            HostByteOrderData = true,
            Flags = NfSetFlags.Map | NfSetFlags.Timeout | NfSetFlags.Dynamic,
            Size = StickyElements,
        };
        if (networkNamespace)
            yield return new NfSet(NameOf(NftMap.Local)) { KeyType = AddressType, KeyLength = AddressLength };
    }

    /// <summary>Where packets come in, and in the network's namespace the source of what leaves it.</summary>
    /// <param name="nodeAddress">The node's own address in the network; null: not the network's namespace.</param>
    internal IEnumerable<ChainSpec> BaseChains(IPAddress? nodeAddress, IPNetwork? subnet)
    {
        var dispatch = RuleSpec.Of("a VIP's class", DestinationAddress(new NfExpressions(), 0)
            .Map(NameOf(NftMap.Services), 0, words).CtSet(NfCt.Mark, words).Ct(NfCt.Mark, 0).VerdictMap(Classes, 0));
        yield return new ChainSpec(NfChain.Base(Output, "nat", NfHook.Output, NfPriority.DestinationNat), [dispatch]);
        yield return new ChainSpec(NfChain.Base(Prerouting, "nat", NfHook.PreRouting, NfPriority.DestinationNat), [dispatch]);
        if (nodeAddress is null || subnet is not { } inside)
            yield break;
        // A server on another node would answer through its own node's gateway: it must see this node's address. One on this node
        // answers through us and may see the client.
        var source = new NfExpressions()
            .Ct(NfCt.Status, 0).Bitwise(0, 0, BitConverter.GetBytes(DestinationTranslated), [0, 0, 0, 0]).Compare(NfCompare.NotEqual, 0, [0, 0, 0, 0])
            .MatchSource(inside, inverted: true);
        DestinationAddress(source, 0).Lookup(NameOf(NftMap.Local), 0, inverted: true)
            .Immediate(0, nodeAddress.GetAddressBytes()).SourceNat(family, 0);
        yield return new ChainSpec(NfChain.Base(Postrouting, "nat", NfHook.PostRouting, NfPriority.SourceNat), [RuleSpec.Of("to servers on other nodes as this node", source)]);
    }

    internal ChainSpec TurnChain(int buckets) => new(new NfChain(ServiceClass.TurnChainOf(buckets)),
        [RuleSpec.Of("next turn", new NfExpressions().Number(0, (uint)buckets, random: false).CtSet(NfCt.Mark, 0))]);

    internal ChainSpec ClassChain(ServiceClass service)
    {
        var rules = new List<RuleSpec>();
        if (service.Buckets > 0)
        {
            var sticky = service.AffinitySeconds > 0;
            // The server may have gone since: then the slot is in no map, the rule does not match, and the choice is made anew.
            if (sticky)
                rules.Add(RuleSpec.Of("a known client's server", Translate(service, Remember(StickyKey(new NfExpressions()).Map(Sticky, 0, 8).CtSet(NfCt.Mark, 8), service))));
            rules.AddRange(Choose(service));
            if (sticky)
            {
                rules.Add(RuleSpec.Of("the bucket's slot", DestinationAddress(new NfExpressions(), 0)
                    .Ct(NfCt.Mark, words).Map(NameOf(NftMap.Slots), 0, 8).CtSet(NfCt.Mark, 8)));
                // An update leaves the data of an element that exists.
                rules.Add(RuleSpec.Of("forget the last server", StickyKey(new NfExpressions()).Ct(NfCt.Mark, 8).Dynset(NfDynset.Delete, Sticky, 0, 8)));
            }
            rules.Add(RuleSpec.Of("the bucket's server", Translate(service, sticky ? Remember(new NfExpressions(), service) : new NfExpressions())));
            if (service.Ported)
                rules.Add(RuleSpec.Of("ping", Server(new NfExpressions().MatchL4Protocol(family == NfFamily.IPv4 ? Icmp : Icmp6)).DestinationNat(family, 8)));
        }
        if (service.Buckets == 0 || service.Ported)
        {
            rules.Add(RuleSpec.Of("refuse", new NfExpressions().MatchL4Protocol(Tcp).Reject(NfReject.TcpReset)));
            rules.Add(RuleSpec.Of("refuse", new NfExpressions().Reject(NfReject.IcmpUnreachable, family == NfFamily.IPv4 ? IcmpPortUnreachable : Icmp6PortUnreachable)));
        }
        return new ChainSpec(new NfChain(service.Chain), rules);
    }

    /// <summary>Leaves the bucket in the connection's mark, which only the first packet needs.</summary>
    private IEnumerable<RuleSpec> Choose(ServiceClass service)
    {
        if (service.Hashed)
        {
            yield return RuleSpec.Of("bucket by client", SourceAddress(new NfExpressions(), 0)
                .Hash(0, AddressLength, words, (uint)service.Buckets, seed: 0x6f76).CtSet(NfCt.Mark, words));
        }
        else if (service.TurnChain is { } turn)
        {
            var jump = NfVerdict.Jump(turn);
            yield return RuleSpec.Of("bucket by turn", new NfExpressions().Verdict(jump));
            yield return RuleSpec.Of("skip one now and then", new NfExpressions()
                .Number(0, SkipOneIn, random: true).Compare(NfCompare.Equal, 0, [0, 0, 0, 0]).Verdict(jump));
        }
        else
        {
            yield return RuleSpec.Of("the only bucket", new NfExpressions().Immediate(0, [0, 0, 0, 0]).CtSet(NfCt.Mark, 0));
        }
    }

    // Registers 8-11 hold the server's address (or 8 a number), 12 its port; 0-7 are for keys.
    private NfExpressions Server(NfExpressions expressions) =>
        DestinationAddress(expressions, 0).Ct(NfCt.Mark, words).Map(NameOf(NftMap.Servers), 0, 8);

    private NfExpressions StickyKey(NfExpressions expressions) => DestinationAddress(SourceAddress(expressions, 0), words);

    private NfExpressions Remember(NfExpressions expressions, ServiceClass service) =>
        StickyKey(expressions).Ct(NfCt.Mark, 8).Dynset(NfDynset.Update, Sticky, 0, 8, TimeSpan.FromSeconds(service.AffinitySeconds));

    private NfExpressions Translate(ServiceClass service, NfExpressions expressions)
    {
        Server(expressions);
        if (!service.Ported)
            return expressions.DestinationNat(family, 8);
        return DestinationAddress(expressions, 0).Meta(NfMeta.L4Protocol, words).Payload(NfPayloadBase.Transport, 2, 2, words + 1)
            .Map(NameOf(NftMap.Ports), 0, 12).DestinationNat(family, 8, 12);
    }

    private NfExpressions SourceAddress(NfExpressions expressions, int register) =>
        expressions.Payload(NfPayloadBase.Network, family == NfFamily.IPv4 ? 12 : 8, AddressLength, register);

    private NfExpressions DestinationAddress(NfExpressions expressions, int register) =>
        expressions.Payload(NfPayloadBase.Network, family == NfFamily.IPv4 ? 16 : 24, AddressLength, register);
}
