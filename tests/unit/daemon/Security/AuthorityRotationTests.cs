using FsCheck;
using FsCheck.Fluent;
using OverlayNet.Daemon.Security;

namespace OverlayNet.UnitTests.Daemon.Security;

/// <summary>The two-phase rule by simulation: whoever is late, nobody ever shows a certificate that another node would not take.</summary>
public sealed class AuthorityRotationTests
{
    [Fact]
    public void AtNoMomentOfARotationDoTwoNodesDistrustEachOther()
    {
        var property = Prop.ForAll(Gen.Choose(0, int.MaxValue - 1).ToArbitrary(), seed =>
        {
            var random = new Random(seed);
            var (phase, trust, signer) = (AuthorityPhase.Stable, "old", "old");
            var nodes = Enumerable.Range(0, 5).Select(i => (Name: $"n{i}", Trust: "old", Issuer: "old")).ToArray();
            var said = nodes.Select(n => (n.Name, Said: (NodeTrust?)new NodeTrust(n.Trust, n.Issuer))).ToArray();
            for (var step = 0; step < 400; step++)
            {
                var i = random.Next(nodes.Length);
                switch (random.Next(6))
                {
                    case 0 when phase == AuthorityPhase.Stable && signer == "old":
                        (phase, trust) = (AuthorityPhase.Trusting, "both");
                        break;
                    // A node hears of the set to trust, renews, or reports, each when it gets round to it.
                    case 1:
                        nodes[i].Trust = trust;
                        break;
                    case 2 when nodes[i].Trust == trust:
                        nodes[i].Issuer = signer;
                        break;
                    case 3:
                        said[i] = (nodes[i].Name, random.Next(5) == 0 ? null : new NodeTrust(nodes[i].Trust, nodes[i].Issuer));
                        break;
                    default:
                        if (phase == AuthorityPhase.Stable || AuthorityRotation.WaitsFor(phase, trust, signer, said).Count > 0)
                            break;
                        (phase, trust, signer) = phase == AuthorityPhase.Trusting ? (AuthorityPhase.Renewing, "both", "new") : (AuthorityPhase.Stable, "new", "new");
                        break;
                }
                foreach (var a in nodes)
                {
                    foreach (var b in nodes)
                    {
                        if (a.Trust != "both" && a.Trust != b.Issuer)
                            return false;
                    }
                }
            }
            return true;
        });
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(500).WithReplay(new Replay(new Rnd(20261126, 9), null)), property);
    }

    [Fact]
    public void ItIsSaidWhoIsWaitedFor()
    {
        (string, NodeTrust?)[] nodes = [("a", new NodeTrust("both", "old")), ("b", null), ("c", new NodeTrust("old", "old"))];
        Assert.Equal(["b", "c"], AuthorityRotation.WaitsFor(AuthorityPhase.Trusting, "both", "old", nodes));
        Assert.Equal(["a", "b", "c"], AuthorityRotation.WaitsFor(AuthorityPhase.Renewing, "both", "new", nodes));
        Assert.Empty(AuthorityRotation.WaitsFor(AuthorityPhase.Stable, "both", "new", nodes));
    }
}
