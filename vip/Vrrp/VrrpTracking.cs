using System.Collections.Immutable;

namespace OverlayNet.Vip.Vrrp;

/// <summary>What a tracked object is; how it is observed is the edge's business.</summary>
public enum VrrpTrackKind
{
    Interface,
    Process,
    Script,
    Route,
}

/// <summary>
/// One tracked object, with keepalived's meaning of weight: 0, down is a fault; positive, added while up; negative,
/// subtracted while down.
/// </summary>
public sealed record VrrpTrack
{
    public required string Name { get; init; }
    public VrrpTrackKind Kind { get; init; }
    public int Weight { get; init; }

    /// <summary>Consecutive good observations before it counts as up.</summary>
    public int Rise { get; init; } = 1;

    /// <summary>Consecutive bad observations before it counts as down.</summary>
    public int Fall { get; init; } = 1;

    public bool Up { get; init; } = true;

    /// <summary>Observations in a row that contradict <see cref="Up"/>.</summary>
    public int Against { get; init; }

    /// <summary>Takes one observation in.</summary>
    public VrrpTrack Observe(bool good)
    {
        if (good == Up)
            return this with { Against = 0 };
        var against = Against + 1;
        return against >= (Up ? Fall : Rise) ? this with { Up = !Up, Against = 0 } : this with { Against = against };
    }
}

/// <summary>The tracked objects of a virtual router and the priority that follows from them.</summary>
public static class VrrpTracking
{
    /// <summary>
    /// The effective priority: 0 for a fault, else 1 to 254. An owner's 255 bends to faults only, never to weights.
    /// </summary>
    public static (int Priority, string Reason) EffectivePriority(byte configured, ImmutableArray<VrrpTrack> tracks)
    {
        var fault = tracks.FirstOrDefault(t => t is { Up: false, Weight: 0 });
        if (fault is not null)
            return (0, $"{fault.Kind.ToString().ToLowerInvariant()} {fault.Name} is down");
        if (configured == VrrpPacket.OwnerPriority)
            return (configured, "priority of the owner");
        var delta = tracks.Sum(t => t.Weight > 0 && t.Up ? t.Weight : t.Weight < 0 && !t.Up ? t.Weight : 0);
        var down = tracks.Where(t => !t.Up).Select(t => t.Name).ToArray();
        return (Math.Clamp(configured + delta, 1, 254), down.Length == 0 ? "all tracked objects are up" : $"down: {string.Join(", ", down)}");
    }
}
