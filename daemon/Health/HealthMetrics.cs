using System.Diagnostics.Metrics;

namespace OverlayNet.Daemon.Health;

/// <summary>Counters of health checks, in the meter "OverlayNet".</summary>
internal static class HealthMetrics
{
    private static readonly Meter Meter = new("OverlayNet");

    /// <summary>By kind and outcome.</summary>
    public static Counter<long> Checks { get; } = Meter.CreateCounter<long>("overlaynet.health.checks", "{check}", "Checks that were carried out");

    /// <summary>From a probe's begin to its result.</summary>
    public static Histogram<double> Latency { get; } = Meter.CreateHistogram<double>("overlaynet.health.latency", "s", "How long checks took");

    /// <summary>How late checks began, the measure of a prober that cannot keep up.</summary>
    public static Histogram<double> Lateness { get; } = Meter.CreateHistogram<double>("overlaynet.health.lateness", "s", "How late checks began");

    /// <summary>By the verdict that came.</summary>
    public static Counter<long> Verdicts { get; } = Meter.CreateCounter<long>("overlaynet.health.verdicts", "{verdict}", "Verdicts of this node's checks that changed");

    /// <summary>By state.</summary>
    public static Counter<long> Transitions { get; } = Meter.CreateCounter<long>("overlaynet.health.transitions", "{transition}", "Changes of endpoints' states that this manager wrote");

    /// <summary>By reason.</summary>
    public static Counter<long> Held { get; } = Meter.CreateCounter<long>("overlaynet.health.held", "{endpoint}", "Endpoints that stayed in use by protection");

    /// <summary>Endpoints taken out because clients fared badly with them.</summary>
    public static Counter<long> Ejections { get; } = Meter.CreateCounter<long>("overlaynet.health.ejections", "{endpoint}", "Endpoints that were ejected by passive signals");

    /// <summary>Reports of this node that no manager took.</summary>
    public static Counter<long> ReportsLost { get; } = Meter.CreateCounter<long>("overlaynet.health.reports.lost", "{report}", "Reports that no manager took, and were sent again");
}
