namespace OverlayNet.Vip.Health;

/// <summary>An endpoint's place as far as health decides it.</summary>
public enum HealthPhase
{
    Starting,
    Healthy,
    Recovering,
    Unhealthy,
    Unreachable,
}

/// <summary>An endpoint's phase, since when, and what share of its weight it has while recovering.</summary>
/// <param name="Eighths">2-7 while recovering, otherwise 0.</param>
public readonly record struct HealthStatus(HealthPhase Phase, long SinceUnixMs, int Eighths)
{
    /// <summary>Takes new connections.</summary>
    public bool Serves => Phase is HealthPhase.Healthy or HealthPhase.Recovering;
}

/// <summary>The times that rule an endpoint's way, in milliseconds.</summary>
public readonly record struct HealthTimes(long HoldMs, long RampMs);

/// <summary>
/// From phase and ruling to the next phase. Going takes a ruling; coming back takes passing checks, and begins at a quarter of
/// the weight. Two changes are at least the hold time apart, so a flapping endpoint stays where it is. Pure.
/// </summary>
public static class HealthMachine
{
    private const int First = 2, Full = 8;

    /// <param name="ruling">Of the jury.</param>
    /// <param name="passing">The endpoint's own node (or, while that is silent, a peer) sees it pass.</param>
    /// <param name="nodeSilent">Its node is not heard of: it is unreachable rather than unhealthy.</param>
    /// <param name="certain">The listening process has ended: not held back by the hold time.</param>
    /// <param name="nowUnixMs">A clock that stepped back changes nothing.</param>
    public static HealthStatus Next(
        HealthStatus status, Ruling ruling, bool passing, bool nodeSilent, bool certain, HealthTimes times, long nowUnixMs)
    {
        var elapsed = Math.Max(0, nowUnixMs - status.SinceUnixMs);
        switch (status.Phase)
        {
            case HealthPhase.Starting:
                return passing && !nodeSilent ? new HealthStatus(HealthPhase.Healthy, nowUnixMs, 0) : status;
            case HealthPhase.Healthy or HealthPhase.Recovering when ruling == Ruling.Withdraw:
                return elapsed >= times.HoldMs || certain || nodeSilent
                    ? new HealthStatus(nodeSilent ? HealthPhase.Unreachable : HealthPhase.Unhealthy, nowUnixMs, 0)
                    : status;
            case HealthPhase.Recovering when passing:
                var eighths = Math.Max(status.Eighths, Ramp(elapsed, times.RampMs));
                // Healthy since the ramp began: whoever asks how long it has been back must not begin another ramp.
                return eighths >= Full
                    ? status with { Phase = HealthPhase.Healthy, Eighths = 0 }
                    : status with { Eighths = eighths };
            case HealthPhase.Unhealthy or HealthPhase.Unreachable when passing && !nodeSilent:
                return elapsed >= times.HoldMs
                    ? new HealthStatus(HealthPhase.Recovering, nowUnixMs, First)
                    : status;
            default:
                return status;
        }
    }

    /// <summary>Eighths of the weight after so long: two at first, all of them when the window is over, never fewer than before.</summary>
    public static int Ramp(long elapsedMs, long windowMs) => windowMs <= 0 || elapsedMs >= windowMs
        ? Full
        : First + (int)((Full - First) * Math.Max(0, elapsedMs) / windowMs);
}
