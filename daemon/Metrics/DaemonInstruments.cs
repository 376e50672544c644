using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using OverlayNet.Daemon.Health;
using OverlayNet.Dns;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Metrics;

/// <summary>Instruments of the agent and the registry, in the meter "OverlayNet"; times in seconds.</summary>
internal static class DaemonInstruments
{
    public const string MeterName = "OverlayNet";
    private static readonly Meter Meter = new(MeterName);

    /// <summary>By scope: whole (everything compared with the kernel) or change.</summary>
    public static Histogram<double> Apply { get; } = Seconds("overlaynet.apply.duration", "How long an application of a revision to the kernel took", 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10);

    /// <summary>By part.</summary>
    public static Counter<long> Changes { get; } = Meter.CreateCounter<long>("overlaynet.apply.changes", "{change}", "Differences between the desired state and the kernel that were brought about");

    /// <summary>By part.</summary>
    public static Counter<long> Mends { get; } = Meter.CreateCounter<long>("overlaynet.apply.mends", "{change}", "Those of the differences that somebody else had made");

    /// <summary>By part.</summary>
    public static Counter<long> Errors { get; } = Meter.CreateCounter<long>("overlaynet.apply.errors", "{error}", "What the kernel refused while a revision was applied");

    public static Histogram<double> HeartbeatLateness { get; } = Seconds("overlaynet.heartbeat.lateness", "How late the heartbeat's thread woke up", 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5);

    public static Counter<long> HeartbeatsLost { get; } = Meter.CreateCounter<long>("overlaynet.heartbeat.lost", "{heartbeat}", "Heartbeats that no manager took");

    public static Counter<long> RegistryRetries { get; } = Meter.CreateCounter<long>("overlaynet.registry.request.retries", "{request}", "Requests that one manager did not answer, so that another was asked, or the same again");

    /// <summary>By event.</summary>
    public static Counter<long> StreamEvents { get; } = Meter.CreateCounter<long>("overlaynet.registry.stream.events", "{event}", "The agent's stream from a manager: lost, relisted (a whole snapshot came)");

    /// <summary>By VIP and state.</summary>
    public static Counter<long> VipTransitions { get; } = Meter.CreateCounter<long>("overlaynet.vip.transitions", "{transition}", "Changes of a floating VIP's state on this node (VRRP or fence)");

    /// <summary>By VIP.</summary>
    public static Counter<long> VipAlarms { get; } = Meter.CreateCounter<long>("overlaynet.vip.alarms", "{alarm}", "Alarms of a floating VIP on this node");

    /// <summary>By result: committed, guard_failed, unknown, other_incarnation, error.</summary>
    public static Histogram<double> StoreCommit { get; } = Seconds("overlaynet.store.commit.duration", "How long the store took to commit a transaction of this manager", 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15);

    /// <summary>Makes the instruments known, and those with known labels begin at 0: an increase from nothing is not seen by rate().</summary>
    public static void Begin()
    {
        RuntimeHelpers.RunClassConstructor(typeof(HealthMetrics).TypeHandle);
        RuntimeHelpers.RunClassConstructor(typeof(DnsInstruments).TypeHandle);
        RuntimeHelpers.RunClassConstructor(typeof(NetlinkMetrics).TypeHandle);
        foreach (var counter in (Counter<long>[])[HeartbeatsLost, RegistryRetries, NetlinkMetrics.Overruns, HealthMetrics.Held, HealthMetrics.ReportsLost])
            counter.Add(0);
        foreach (var counter in (Counter<long>[])[Changes, Mends, Errors])
        {
            foreach (var part in (string[])["overlay", "vip", "dns"])
                counter.Add(0, Tag("part", part));
        }
        foreach (var state in (string[])["lost", "relisted"])
            StreamEvents.Add(0, Tag("event", state));
    }

    public static KeyValuePair<string, object?> Tag(string name, string value) => new(name, value);

    private static Histogram<double> Seconds(string name, string description, params double[] bounds) =>
        Meter.CreateHistogram(name, "s", description, advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = bounds });
}
