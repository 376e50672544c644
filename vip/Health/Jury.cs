namespace OverlayNet.Vip.Health;

/// <summary>Who says what of one endpoint.</summary>
/// <param name="Owner">The verdict of the endpoint's own node; Unknown when that node is silent.</param>
/// <param name="OwnerOutcome">Its last result.</param>
/// <param name="OwnerTrusted">False: it distrusts itself, or is silent.</param>
/// <param name="PeersAsked">Other nodes that were asked.</param>
/// <param name="PeersPassing">Of those, how many reached it.</param>
/// <param name="PeersFailing">Of those, how many did not.</param>
/// <param name="PeersOverdue">Those that have not answered had their time.</param>
public readonly record struct Ballot(
    Verdict Owner, ProbeOutcome OwnerOutcome, bool OwnerTrusted, int PeersAsked, int PeersPassing, int PeersFailing, bool PeersOverdue);

/// <summary>What follows from a <see cref="Ballot"/>.</summary>
public enum Ruling
{
    /// <summary>Nothing speaks against the endpoint, or nobody who is believed.</summary>
    Keep,

    /// <summary>Others have been asked and may still answer.</summary>
    Wait,

    /// <summary>Some reach it and some do not: it stays, and people are told.</summary>
    OneSided,

    /// <summary>It does not serve.</summary>
    Withdraw,
}

/// <summary>Combines verdicts. An answer proves something by itself; silence is believed when more probers hear it than hear an answer.</summary>
public static class Jury
{
    /// <param name="confirm">A single prober's word is not enough even for what it proved (too many would go at once).</param>
    public static Ruling Judge(Ballot ballot, bool confirm)
    {
        var ownerFails = ballot is { OwnerTrusted: true, Owner: Verdict.Failing };
        // A distrusted owner that fails says nothing; whoever reaches the endpoint is a witness in any case.
        if (!ownerFails && ballot.OwnerTrusted)
            return Ruling.Keep;
        if (ownerFails && ballot.OwnerOutcome != ProbeOutcome.NoAnswer && !confirm)
            return Ruling.Withdraw;
        var answered = ballot.PeersPassing + ballot.PeersFailing;
        var fails = ballot.PeersFailing + (ownerFails ? 1 : 0);
        var passes = ballot.PeersPassing + (!ballot.OwnerTrusted && ballot.Owner == Verdict.Passing ? 1 : 0);
        if (ballot.PeersAsked > answered && !ballot.PeersOverdue)
            return Ruling.Wait;
        if (fails > passes)
            return Ruling.Withdraw;
        return fails > 0 || (ballot.Owner == Verdict.Failing && passes > 0) ? Ruling.OneSided : Ruling.Keep;
    }
}
