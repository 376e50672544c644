using System.Collections.Immutable;

namespace OverlayNet.Vip.Fence;

/// <summary>
/// The fencing token of a VIP set: explicit values, so that they stay monotonic when the store is restored, recovered
/// or converted (which starts a new incarnation and renumbers the store's revisions).
/// </summary>
public readonly record struct LeaseVersion(long Incarnation, long Epoch) : IComparable<LeaseVersion>
{
    public int CompareTo(LeaseVersion other) =>
        Incarnation != other.Incarnation ? Incarnation.CompareTo(other.Incarnation) : Epoch.CompareTo(other.Epoch);

    public static bool operator <(LeaseVersion a, LeaseVersion b) => a.CompareTo(b) < 0;
    public static bool operator >(LeaseVersion a, LeaseVersion b) => a.CompareTo(b) > 0;
    public static bool operator <=(LeaseVersion a, LeaseVersion b) => a.CompareTo(b) <= 0;
    public static bool operator >=(LeaseVersion a, LeaseVersion b) => a.CompareTo(b) >= 0;

    public override string ToString() => $"{Incarnation}.{Epoch}";
}

/// <summary>What happens to a floating VIP when the registry's majority cannot be reached.</summary>
public enum StoreLossPolicy
{
    /// <summary>The holder goes silent at its deadline and nobody takes over.</summary>
    Release,

    /// <summary>The holder goes on for as long as every peer of the lease promises, round by round, not to acquire.</summary>
    HoldAll,

    /// <summary>Plain VRRP until the registry is back: two owners are possible, and alarmed about.</summary>
    Vrrp,
}

/// <summary>The lease of one VIP set as it stands in the registry. One lease per set, never per feature.</summary>
public sealed record LeaseRecord
{
    /// <summary>The node's id; null: released.</summary>
    public string? Holder { get; init; }

    public LeaseVersion Version { get; init; }

    /// <summary>T: how long a renewal lasts, counted by each side from its own conservative moment.</summary>
    public TimeSpan Ttl { get; init; }

    /// <summary>The holder's effective priority, for those who consider a bid.</summary>
    public int Priority { get; init; }

    public StoreLossPolicy Policy { get; init; }

    /// <summary>With <see cref="StoreLossPolicy.HoldAll"/>: the longest time the holder goes on without the registry.</summary>
    public TimeSpan MaxHold { get; init; }

    /// <summary>With <see cref="StoreLossPolicy.HoldAll"/>: whose promises the holder needs, frozen at acquisition.</summary>
    public ImmutableArray<string> Peers { get; init; } = [];

    /// <summary>When released for a bid: who goes first.</summary>
    public string? ReleasedTo { get; init; }

    /// <summary>Moved by an operator: a higher priority alone does not bid it back.</summary>
    public bool Pinned { get; init; }
}
