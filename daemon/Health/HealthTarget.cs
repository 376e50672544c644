using OverlayNet.Contracts;
using OverlayNet.Daemon.Health.Probers;
using OverlayNet.Vip.Health;

namespace OverlayNet.Daemon.Health;

/// <summary>What a prober knows of one endpoint; only the scheduler changes it, under its lock.</summary>
internal sealed class HealthTarget(PlannedCheck plan)
{
    public PlannedCheck Plan { get; set; } = plan;

    /// <summary>Counts checks, for the schedule's jitter; also tells an outdated place in the queue.</summary>
    public long Round { get; set; }

    public long DueAt { get; set; }
    public bool Running { get; set; }

    /// <summary>Look again as soon as the running check is over: a process has ended.</summary>
    public bool Again { get; set; }

    /// <summary>When a process of the endpoint ended, if no check that began later has succeeded; null otherwise.</summary>
    public long? EndedAt { get; set; }
    public RiseFall Standing { get; set; }
    public ProbeResult? Last { get; set; }
    public double LatencyMs { get; set; }
    public long AtUnixMs { get; set; }

    public int InARow => Math.Max(Standing.Passes, Standing.Fails);

    public CheckStanding? ToContract(bool watched) => Last is null ? null : new CheckStanding
    {
        EndpointId = Plan.EndpointId,
        Passing = Standing.Verdict switch { Verdict.Passing => true, Verdict.Failing => false, _ => null },
        Outcome = Last.Outcome,
        InARow = InARow,
        Reason = Last.Reason,
        LatencyMs = Math.Round(LatencyMs, 2),
        AtUnixMs = AtUnixMs,
        Watched = watched,
    };
}
