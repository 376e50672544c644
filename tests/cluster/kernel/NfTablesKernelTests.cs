using System.Net;
using System.Text.Json;
using OverlayNet.ClusterTests.Vip;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.ClusterTests.Kernel;

/// <summary>What we write by raw netlink, read back by the nft program and by ourselves.</summary>
public sealed class NfTablesKernelTests : IDisposable
{
    private static readonly NfTable Table = new(NfFamily.IPv4, "overlaynet-test");
    private readonly TestNamespace netns = new("nft");
    private readonly NfTables nft;

    public NfTablesKernelTests()
    {
        using var open = netns.Open();
        nft = NfTables.Open(open);
    }

    public void Dispose()
    {
        nft.Dispose();
        netns.Dispose();
    }

    [Fact]
    public void Nft_lists_what_we_wrote_as_a_person_would_have_written_it()
    {
        var batch = new NfTablesBatch();
        batch.AddTable(Table, "owner: test");
        batch.AddSet(Table, NfSet.Map("services", NfType.IPv4Address, 4, NfType.Mark, 4) with { Comment = "by VIP", HostByteOrderData = true });
        batch.AddSet(Table, NfSet.VerdictMap("classes", NfType.Mark, 4) with { HostByteOrderKey = true });
        batch.AddSet(Table, NfSet.Map("backends", NfType.Concatenate(NfType.IPv4Address, NfType.Mark), 8, NfType.IPv4Address, 4));
        batch.AddSet(Table, new NfSet("ranges") { KeyType = NfType.IPv4Address, KeyLength = 4, Flags = NfSetFlags.Interval });
        batch.AddChain(Table, new NfChain("c5"));
        batch.AddChain(Table, NfChain.Base("output", "nat", NfHook.Output, NfPriority.DestinationNat));
        batch.AddChain(Table, NfChain.Base("post", "nat", NfHook.PostRouting, NfPriority.SourceNat));
        batch.AddChain(Table, NfChain.Base("raw", "filter", NfHook.PreRouting, NfPriority.Raw, NfVerdictCode.Accept));
        batch.AddRule(Table, "output", new NfExpressions().Payload(NfPayloadBase.Network, 16, 4, 0).Map("services", 0, 1).CtSet(NfCt.Mark, 1).Ct(NfCt.Mark, 0).VerdictMap("classes", 0), "to the chain of its class");
        batch.AddRule(Table, "c5", new NfExpressions().Number(0, 5, random: false).CtSet(NfCt.Mark, 0));
        batch.AddRule(Table, "c5", new NfExpressions()
            .Payload(NfPayloadBase.Network, 16, 4, 0).Ct(NfCt.Mark, 1).Map("backends", 0, 4).DestinationNat(NfFamily.IPv4, 4));
        batch.AddRule(Table, "c5", new NfExpressions().MatchL4Protocol(6).Reject(NfReject.TcpReset));
        batch.AddRule(Table, "c5", new NfExpressions().Counter().Reject(NfReject.IcmpUnreachable, 3));
        batch.AddRule(Table, "raw", new NfExpressions().MatchL4Protocol(17).MatchDestinationPort(4789).NoTrack());
        batch.AddRule(Table, "post", new NfExpressions().MatchSource(IPNetwork.Parse("10.0.0.0/20")).MatchOutputInterface("eth0", inverted: true).Masquerade(), "egress");
        batch.AddElement(Table, "services", [10, 0, 0, 2], [5, 0, 0, 0]);
        batch.AddVerdict(Table, "classes", [5, 0, 0, 0], NfVerdict.Goto("c5"));
        batch.AddElement(Table, "backends", [10, 0, 0, 2, 0, 0, 0, 0], [10, 0, 0, 9]);
        batch.AddElement(Table, "ranges", [10, 1, 0, 0]);
        batch.AddElement(Table, "ranges", [10, 2, 0, 0], flags: NfElementFlags.IntervalEnd);
        nft.Commit(ref batch);

        var listing = netns.Run("nft", "list", "ruleset");
        foreach (var expected in new[]
        {
            "comment \"owner: test\"", "type ipv4_addr : mark", "type mark : verdict", "type ipv4_addr . mark : ipv4_addr", "10.0.0.2 : 0x00000005",
            "goto c5", "type nat hook output priority -100; policy accept;", "type nat hook postrouting priority srcnat", "type filter hook prerouting priority raw",
            "numgen inc mod 5", "reject with tcp reset", "counter packets 0 bytes 0 reject", "udp dport 4789 notrack",
            "ip saddr 10.0.0.0/20 oifname != \"eth0\" masquerade comment \"egress\"", "10.1.0.0/16",
        })
            Assert.Contains(expected, listing, StringComparison.Ordinal);
        using var json = JsonDocument.Parse(netns.Run("nft", "-j", "list", "ruleset"));
        Assert.Equal(7, json.RootElement.GetProperty("nftables").EnumerateArray().Count(entry => entry.TryGetProperty("rule", out _)));
    }

    [Fact]
    public void What_was_written_reads_back()
    {
        var set = NfSet.Map("m", NfType.Concatenate(NfType.IPv4Address, NfType.InetService), 8, NfType.IPv4Address, 4) with { Size = 100, Comment = "c" };
        var batch = new NfTablesBatch();
        batch.AddTable(Table, "owner");
        batch.AddSet(Table, set);
        batch.AddSet(Table, new NfSet("t") { KeyType = NfType.IPv4Address, KeyLength = 4, Flags = NfSetFlags.Timeout | NfSetFlags.Dynamic, Timeout = TimeSpan.FromSeconds(30) });
        batch.AddSet(Table, NfSet.VerdictMap("v", NfType.InetProtocol, 1));
        batch.AddChain(Table, NfChain.Base("in", "filter", NfHook.Input, -5, NfVerdictCode.Drop) with { Comment = "gate" });
        batch.AddChain(Table, new NfChain("out"));
        batch.AddRule(Table, "in", new NfExpressions().Verdict(NfVerdict.Jump("out")), "first");
        batch.AddElement(Table, "m", [10, 0, 0, 1, 0, 80, 0, 0], [10, 0, 0, 7]);
        batch.AddElement(Table, "t", [10, 0, 0, 3]);
        batch.AddVerdict(Table, "v", [6], NfVerdict.Goto("out"));
        nft.Commit(ref batch);

        Assert.Equal("owner", Assert.Single(nft.Tables()).Comment);
        var chains = nft.Chains(Table);
        Assert.Equal(["in", "out"], chains.Select(chain => chain.Chain.Name).Order());
        var input = chains.Single(chain => chain.Chain.Name == "in").Chain;
        Assert.Equal(("filter", NfHook.Input, -5, NfVerdictCode.Drop, "gate"), (input.Type, input.Hook!.Value, input.Priority, input.Policy, input.Comment));
        Assert.Equal("first", Assert.Single(nft.Rules(Table)).Comment);
        var read = nft.Sets(Table).Single(info => info.Set.Name == "m").Set;
        Assert.Equal(set with { Fields = read.Fields }, read);
        var element = Assert.Single(nft.Elements(Table, "m"));
        Assert.Equal([10, 0, 0, 1, 0, 80, 0, 0], element.Key);
        Assert.Equal([10, 0, 0, 7], element.Data!);
        Assert.InRange(Assert.Single(nft.Elements(Table, "t")).Expires!.Value, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30));
        Assert.Equal(NfVerdict.Goto("out"), Assert.Single(nft.Elements(Table, "v")).Verdict);
    }

    [Fact]
    public void A_batch_is_all_or_nothing_and_the_error_names_the_object()
    {
        var batch = new NfTablesBatch();
        batch.AddTable(Table);
        batch.AddChain(Table, new NfChain("fine"));
        batch.AddElement(Table, "missing", [1, 2, 3, 4]);
        NetlinkException? refusal = null;
        try
        {
            nft.Commit(ref batch);
        }
        catch (NetlinkException e)
        {
            refusal = e;
        }
        Assert.NotNull(refusal);
        Assert.True(refusal.NotFound);
        Assert.Contains("set missing of nftables table ip overlaynet-test", refusal.Message, StringComparison.Ordinal);
        Assert.Empty(nft.Tables());
    }

    [Fact]
    public void A_commit_for_an_old_generation_changes_nothing()
    {
        var generation = nft.Generation();
        var batch = new NfTablesBatch();
        batch.AddTable(Table);
        Assert.True(nft.TryCommit(ref batch, generation));
        Assert.Equal(NfTables.NextGeneration(generation), nft.Generation());
        var late = new NfTablesBatch();
        late.DeleteTable(Table);
        Assert.False(nft.TryCommit(ref late, generation));
        Assert.Single(nft.Tables());
        Assert.True(nft.TryCommit(ref late, nft.Generation()));
        Assert.Empty(nft.Tables());
    }

    [Fact]
    public void A_hundred_thousand_elements_go_in_one_transaction_and_come_back()
    {
        const int count = 100_000;
        var batch = new NfTablesBatch();
        batch.AddTable(Table);
        batch.AddSet(Table, NfSet.Map("big", NfType.IPv4Address, 4, NfType.IPv4Address, 4));
        for (var i = 0; i < count; i++)
            batch.AddElement(Table, "big", [10, (byte)(i >> 16), (byte)(i >> 8), (byte)i], [11, (byte)(i >> 16), (byte)(i >> 8), (byte)i]);
        nft.Commit(ref batch);
        batch.Dispose();
        // The hash grows in the background after the commit; until then a walk may miss some.
        List<NfElementInfo> elements = [];
        Assert.True(SpinWait.SpinUntil(() => (elements = nft.Elements(Table, "big")).DistinctBy(element => BitConverter.ToUInt32(element.Key)).Count() == count, 10_000));
        Assert.All(elements, element => Assert.Equal(11, element.Data![0]));
        var delete = new NfTablesBatch();
        for (var i = 0; i < count; i += 2)
            delete.DeleteElement(Table, "big", [10, (byte)(i >> 16), (byte)(i >> 8), (byte)i]);
        nft.Commit(ref delete);
        Assert.True(SpinWait.SpinUntil(() => nft.Elements(Table, "big").DistinctBy(element => BitConverter.ToUInt32(element.Key)).Count() == count / 2, 10_000));
    }

    [Fact]
    public void Netdev_chains_rules_by_handle_intervals_with_concatenation_and_deletion()
    {
        netns.Run("ip", "link", "add", "d0", "type", "bridge");
        netns.Run("ip", "link", "add", "d1", "type", "bridge");
        var table = new NfTable(NfFamily.Netdev, "overlaynet-dev");
        var batch = new NfTablesBatch();
        batch.RemoveTable(table);
        batch.AddTable(table);
        batch.AddChain(table, NfChain.Base("in", "filter", NfHook.NetdevIngress, 0) with { Devices = ["d0", "d1"] });
        batch.AddChain(table, NfChain.Base("out", "filter", NfHook.NetdevEgress, 0) with { Devices = ["d0"] });
        batch.AddSet(table, NfSet.Map("pairs", NfType.Concatenate(NfType.IPv4Address, NfType.InetService), 8, NfType.EtherAddress, 6) with
        {
            Flags = NfSetFlags.Map | NfSetFlags.Interval | NfSetFlags.Concatenation,
            Fields = [4, 2],
        });
        batch.AddElement(table, "pairs", [10, 0, 0, 0, 0, 80, 0, 0], [2, 0, 0, 0, 0, 1], keyEnd: [10, 0, 0, 255, 0, 90, 0, 0]);
        batch.AddRule(table, "in", new NfExpressions()
            .MatchL4Protocol(6).Payload(NfPayloadBase.Network, 16, 4, 0).Payload(NfPayloadBase.Transport, 2, 2, 1).Map("pairs", 0, 2)
            .PayloadSet(NfPayloadBase.LinkLayer, 0, 6, 2, null, pseudoHeader: false));
        batch.AddRule(table, "in", new NfExpressions().Immediate(0, BitConverter.GetBytes(1)).Forward(0));
        batch.AddRule(table, "out", new NfExpressions()
            .Meta(NfMeta.TimeNanoseconds, 0).HostToNetwork(0, 2, 8, 8).Compare(NfCompare.GreaterOrEqual, 2, [0, 0, 0, 0, 0, 0, 0, 1]).Verdict(NfVerdict.Drop), "expired");
        nft.Commit(ref batch);
        var listing = netns.Run("nft", "list", "ruleset");
        Assert.Contains("10.0.0.0/24 . 80-90 : 02:00:00:00:00:01", listing, StringComparison.Ordinal);
        Assert.Contains(". tcp dport map @pairs", listing, StringComparison.Ordinal);
        Assert.Equal(["d0", "d1"], nft.Chains(table).Single(chain => chain.Chain.Name == "in").Chain.Devices.Order());

        var expired = nft.Rules(table).Single(rule => rule.Comment == "expired");
        var delete = new NfTablesBatch();
        delete.DeleteRule(table, "out", expired.Handle);
        delete.FlushChain(table, "in");
        delete.DeleteElement(table, "pairs", [10, 0, 0, 0, 0, 80, 0, 0], keyEnd: [10, 0, 0, 255, 0, 90, 0, 0]);
        delete.DeleteSet(table, "pairs");
        delete.DeleteChain(table, "out");
        nft.Commit(ref delete);
        Assert.Empty(nft.Rules(table));
        Assert.Empty(nft.Sets(table));
        Assert.Equal("in", Assert.Single(nft.Chains(table)).Chain.Name);
    }

    [Fact]
    public void A_rule_of_ours_sits_in_front_in_a_table_of_iptables()
    {
        netns.Run("iptables-nft", "-P", "FORWARD", "DROP");
        netns.Run("iptables-nft", "-N", "DOCKER-USER");
        netns.Run("iptables-nft", "-A", "DOCKER-USER", "-j", "RETURN");
        var filter = new NfTable(NfFamily.IPv4, "filter");
        var batch = new NfTablesBatch();
        batch.AddRule(filter, "DOCKER-USER", new NfExpressions().MatchInputInterface("on-test").Counter().Verdict(NfVerdict.Accept), "overlaynet", first: true);
        nft.Commit(ref batch);
        Assert.Equal("overlaynet", nft.Rules(filter, "DOCKER-USER")[0].Comment);
        Assert.Contains("-A DOCKER-USER -i on-test", netns.Run("iptables-nft", "-S", "DOCKER-USER"), StringComparison.Ordinal);
    }
}
