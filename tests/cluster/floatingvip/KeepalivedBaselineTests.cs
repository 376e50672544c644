using System.Globalization;
using System.Net;
using OverlayNet.ClusterTests.Vrrp;
using Xunit.Abstractions;

namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>
/// What the fence is for: the judge that sees one owner in the fault matrix sees two with a pair of keepalived, for as long as the fault lasts.
/// </summary>
public sealed class KeepalivedBaselineTests(ITestOutputHelper output)
{
    private const string Vip = "10.77.0.100";

    public enum Fault
    {
        FrozenMaster,
        Partition,
    }

    [Theory]
    [InlineData(Fault.FrozenMaster)]
    [InlineData(Fault.Partition)]
    public void A_pair_of_keepalived_has_two_owners_that_both_answer(Fault fault)
    {
        using var lan = new VrrpLan(3);
        lan[1].StartKeepalived(Config(150));
        lan[2].StartKeepalived(Config(100));
        using var judge = new UnderlayJudge(lan.Switch.Name, lan[3].Namespace.Name, IPAddress.Parse(Vip), IPAddress.Parse("10.77.0.3"));
        lan.Await("the higher priority owns alone", () => judge.Owner() == "p1" && judge.Since(UnderlayJudge.Now - 0.5).All(seen => seen.Port == "p1"));

        var begin = UnderlayJudge.Now;
        if (fault == Fault.FrozenMaster)
            lan[1].Run("kill", "-STOP", lan[1].KeepalivedVrrpPid.ToString(CultureInfo.InvariantCulture));
        else
            lan.Switch.Run("nft", "add table netdev fault; add chain netdev fault in { type filter hook ingress device p1 priority 0; }; add rule netdev fault in meta l4proto 112 drop");
        lan.Await("the other took over", () => judge.Since(begin).Any(seen => seen.Port == "p2"), 20);
        var took = judge.Since(begin).First(seen => seen.Port == "p2").At;
        lan.Await("both answered for two seconds", () => UnderlayJudge.Now > took + 2);
        var dual = Dual(judge.Since(took));
        if (fault == Fault.FrozenMaster)
            lan[1].Run("kill", "-CONT", lan[1].KeepalivedVrrpPid.ToString(CultureInfo.InvariantCulture));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{fault}: of the {2000:0} ms after the take-over, both answered within {dual * 1000:0} ms"));
        Assert.True(dual > 1, $"{dual:0.000} s with two owners");
    }

    // The time in steps of 50 ms in which both were seen.
    private static double Dual(IReadOnlyList<Sighting> sightings) =>
        sightings.GroupBy(seen => (long)(seen.At * 20)).Count(step => step.Select(seen => seen.Port).Distinct().Count() > 1) / 20.0;

    private static string Config(int priority) => $$"""
        vrrp_instance V {
          state BACKUP
          interface eth0
          version 3
          virtual_router_id 51
          priority {{priority}}
          advert_int 0.1
          virtual_ipaddress {
            {{Vip}}/24 dev eth0
          }
        }
        """;
}
