namespace OverlayNet.Vip.Health;

/// <summary>What a prober believes of a target.</summary>
public enum Verdict
{
    /// <summary>Too few results yet: nothing follows from it.</summary>
    Unknown,
    Passing,
    Failing,
}

/// <summary>What one probe found.</summary>
public enum ProbeOutcome
{
    Pass,
    Warn,

    /// <summary>Nothing came back: target, prober or the path between may be at fault.</summary>
    NoAnswer,
    Refused,
    BadAnswer,

    /// <summary>The listening process ended and nobody took its place: final, no further failures are waited for.</summary>
    Gone,
}

/// <summary>Rise and fall: so many results of one kind in a row before a verdict changes. Immutable.</summary>
/// <param name="Passes">Successes in a row; 0 after a failure.</param>
/// <param name="Fails">Failures in a row; 0 after a success.</param>
public readonly record struct RiseFall(Verdict Verdict, int Passes, int Fails)
{
    /// <summary>The first failures have come and may become a verdict: time to ask others.</summary>
    public bool Suspect => Fails > 0 && Verdict != Verdict.Failing;

    public static bool IsSuccess(ProbeOutcome outcome) => outcome is ProbeOutcome.Pass or ProbeOutcome.Warn;

    /// <param name="failures">Failures in a row that make it failing, at least 1.</param>
    /// <param name="successes">Successes in a row that make it passing, at least 1.</param>
    public RiseFall Next(ProbeOutcome outcome, int failures, int successes)
    {
        if (IsSuccess(outcome))
        {
            var passes = Passes + 1;
            return new RiseFall(passes >= successes ? Verdict.Passing : Verdict, passes, 0);
        }
        var fails = outcome == ProbeOutcome.Gone ? Math.Max(Fails + 1, failures) : Fails + 1;
        return new RiseFall(fails >= failures ? Verdict.Failing : Verdict, 0, fails);
    }
}
