using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Health;

/// <summary>What is known of checks, for people.</summary>
public interface IHealthViews
{
    /// <summary>What each node that probes an endpoint found last, its own node first.</summary>
    IReadOnlyList<ProberView> Probers(string endpointId);

    /// <summary>Why an endpoint stays in use although a check fails; null: it does not.</summary>
    string? Held(string endpointId);
}

internal static class HealthViews
{
    public static ProberView Of(string node, CheckStanding standing, DateTimeOffset now) => new()
    {
        Node = node,
        Passing = standing.Passing,
        Outcome = Word(standing.Outcome),
        Reason = standing.Reason,
        LatencyMs = standing.LatencyMs,
        Watched = standing.Watched,
        SecondsAgo = Math.Round(Math.Max(0, (now.ToUnixTimeMilliseconds() - standing.AtUnixMs) / 1000.0), 1),
    };

    private static string Word(CheckOutcome outcome) => outcome switch
    {
        CheckOutcome.NoAnswer => "no-answer",
        CheckOutcome.BadAnswer => "bad-answer",
        _ => outcome.ToString().ToLowerInvariant(),
    };
}
