using System.Collections.Immutable;
using System.Net;

namespace OverlayNet.Vip.Vrrp;

/// <summary>Another router's newest advertisement, acceptable or not, and when it came.</summary>
public sealed record HeardRouter(VrrpAdvertisement Advertisement, TimeSpan At);

/// <summary>
/// One virtual router's whole state as a value. Times are readings of one monotonic clock that the caller chooses
/// (boot time in the daemon, simulated time in tests).
/// </summary>
public sealed record VrrpRouter
{
    public required VrrpConfig Config { get; init; }

    /// <summary>The primary address of the interface: the source of our advertisements.</summary>
    public required IPAddress LocalAddress { get; init; }

    public VrrpState State { get; init; } = VrrpState.Initialize;

    /// <summary>The configured priority with tracking applied; 0: a fault.</summary>
    public int Priority { get; init; }

    /// <summary>Whether a Startup event came without a Shutdown since.</summary>
    public bool Started { get; init; }

    /// <summary>Active_Adver_Interval in centiseconds, from the Active Router's advertisements.</summary>
    public int ActiveAdverIntervalCs { get; init; }

    public TimeSpan? AdverTimer { get; init; }
    public TimeSpan? ActiveDownTimer { get; init; }
    public TimeSpan? AnnounceTimer { get; init; }

    /// <summary>Until then nobody is taken over from.</summary>
    public TimeSpan StartupUntil { get; init; }

    /// <summary>When a lower-priority Active Router may be preempted; null when none was heard.</summary>
    public TimeSpan? PreemptAt { get; init; }

    /// <summary>Who sends the advertisements we follow; null when Active or when none was heard.</summary>
    public VrrpAdvertisement? ActiveRouter { get; init; }

    /// <summary>The routers heard of late, by source address; those silent for <see cref="HeardFor"/> are forgotten at the next packet.</summary>
    public ImmutableDictionary<IPAddress, HeardRouter> Heard { get; init; } = ImmutableDictionary<IPAddress, HeardRouter>.Empty;

    public TimeSpan LastTransitionAt { get; init; }
    public string LastTransitionReason { get; init; } = "";

    /// <summary>Alarms already raised, so that each is told once per peer and cause.</summary>
    public ImmutableHashSet<(VrrpAlarm Kind, IPAddress Peer)> Raised { get; init; } = [];

    /// <summary>When <see cref="VrrpInput.TimersDue"/> is wanted; null: never.</summary>
    public TimeSpan? NextTimer => Earliest(AdverTimer, Earliest(ActiveDownTimer, AnnounceTimer));

    public static VrrpRouter Create(VrrpConfig config, IPAddress localAddress) => new()
    {
        Config = config.Validate(),
        LocalAddress = localAddress,
        Priority = config.Priority,
        ActiveAdverIntervalCs = config.AdvertisementIntervalCs,
    };

    internal static readonly TimeSpan HeardFor = TimeSpan.FromMinutes(5);

    private static TimeSpan? Earliest(TimeSpan? a, TimeSpan? b) => a is null ? b : b is null ? a : a < b ? a : b;
}
