using System.Net;
using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Tools.Diagnosis.Firewall;

namespace OverlayNet.UnitTests.Tools.Diagnosis;

/// <summary>Which rule stops a packet, by the listing that nft 1.0.6 gives.</summary>
public sealed class RulesetWalkTests
{
    private static readonly FilteredPacket Vxlan = new(IPAddress.Parse("192.0.2.2"), IPAddress.Parse("192.0.2.1"), FilteredPacket.Udp, 49152, 4789, "eth0");

    [Theory]
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":4789}},{"counter":{"packets":0,"bytes":0}},{"drop":null}""", "udp dport 4789 counter drop")]
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":{"set":[53,{"range":[4000,5000]}]}}},{"reject":null}""", "udp dport { 53, 4000-5000 } reject")]
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"192.0.2.0","len":24}}}},{"drop":null}""", "ip saddr 192.0.2.0/24 drop")]
    [InlineData("""{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}},{"drop":null}""", "tcp dport != 22 drop")]
    [InlineData("""{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"udp"}},{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth*"}},{"drop":null}""", "meta l4proto udp meta iifname eth* drop")]
    [InlineData("""{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["new","untracked"]}},{"xt":{"type":"target","name":"REJECT"}}""", "ct state new,untracked target REJECT")]
    public void A_rule_that_surely_matches_is_named(string expressions, string text)
    {
        var refusal = RulesetWalk.Stops(Rules("accept", expressions), Vxlan, "prerouting", "input");

        Assert.NotNull(refusal);
        Assert.Equal($"chain input of table inet guard, handle 7: {text}", refusal.ToString());
        Assert.StartsWith("nft delete rule inet guard input handle 7", refusal.Remedy("udp dport 4789"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}},{"drop":null}""")]
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":4789}},{"drop":null}""")]
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"ip6","field":"saddr"}},"right":"2001:db8::1"}},{"drop":null}""")]
    [InlineData("""{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}},{"drop":null}""")]
    // What cannot be decided from the packet is never blamed.
    [InlineData("""{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"@banned"}},{"drop":null}""")]
    [InlineData("""{"limit":{"rate":10,"per":"second"}},{"drop":null}""")]
    [InlineData("""{"xt":{"type":"match","name":"recent"}},{"drop":null}""")]
    public void Another_rule_is_not(string expressions) => Assert.Null(RulesetWalk.Stops(Rules("accept", expressions), Vxlan, "prerouting", "input"));

    [Fact]
    public void A_policy_is_named_unless_a_rule_may_accept()
    {
        Assert.Equal("chain input of table inet guard: policy drop", RulesetWalk.Stops(Rules("drop", """{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}},{"accept":null}"""), Vxlan, "input")?.ToString());
        Assert.Null(RulesetWalk.Stops(Rules("drop", """{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"@peers"}},{"accept":null}"""), Vxlan, "input"));
        Assert.Null(RulesetWalk.Stops(Rules("drop", """{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":4789}},{"accept":null}"""), Vxlan, "input"));
    }

    [Fact]
    public void Jumps_are_followed_and_return()
    {
        var rules = Ruleset.Parse("""
            {"nftables":[{"metainfo":{}},{"table":{"family":"inet","name":"guard","handle":1}},
            {"chain":{"family":"inet","table":"guard","name":"input","handle":1,"type":"filter","hook":"input","prio":0,"policy":"accept"}},
            {"chain":{"family":"inet","table":"guard","name":"tunnels","handle":2}},
            {"rule":{"family":"inet","table":"guard","chain":"input","handle":3,"expr":[{"jump":{"target":"tunnels"}}]}},
            {"rule":{"family":"inet","table":"guard","chain":"tunnels","handle":4,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":8472}},{"accept":null}]}},
            {"rule":{"family":"inet","table":"guard","chain":"tunnels","handle":5,"expr":[{"return":null}]}},
            {"rule":{"family":"inet","table":"guard","chain":"input","handle":6,"expr":[{"drop":null}]}}]}
            """);

        Assert.Equal(6, RulesetWalk.Stops(rules, Vxlan, "input")?.Handle);
        Assert.Null(RulesetWalk.Stops(rules, Vxlan with { DestinationPort = 8472 }, "input"));
        Assert.Null(RulesetWalk.Stops(rules, Vxlan, "output"));
    }

    /// <summary>Whatever the port, the rule for one port stops that port and no other.</summary>
    [Fact]
    public void A_port_is_stopped_by_its_own_rule_only() => Check.QuickThrowOnFailure(Prop.ForAll(
        ArbMap.Default.ArbFor<ushort>(), ArbMap.Default.ArbFor<ushort>(),
        (one, other) => RulesetWalk.Stops(
            Rules("accept", """{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":PORT}},{"drop":null}""".Replace("PORT", one.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal)),
            Vxlan with { DestinationPort = other }, "input") is not null == (one == other)));

    private static Ruleset Rules(string policy, string expressions) => Ruleset.Parse($$$"""
        {"nftables":[{"metainfo":{"json_schema_version":1}},{"table":{"family":"inet","name":"guard","handle":1}},
        {"chain":{"family":"inet","table":"guard","name":"input","handle":1,"type":"filter","hook":"input","prio":0,"policy":"{{{policy}}}"}},
        {"rule":{"family":"inet","table":"guard","chain":"input","handle":7,"expr":[{{{expressions}}}]}}]}
        """);
}
