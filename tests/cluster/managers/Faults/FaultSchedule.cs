using System.Globalization;

namespace OverlayNet.ClusterTests.Managers.Faults;

public enum FaultKind
{
    KillEtcd,
    KillDaemon,
    KillBoth,
    FreezeEtcd,
    FreezeDaemon,
    FreezeBoth,

    /// <summary>Nothing comes in or goes out.</summary>
    CutOff,

    /// <summary>What is said arrives, the answers do not.</summary>
    CutIn,
    CutOut,
    DiskFull,

    /// <summary>No room, and etcd has to start anew in it.</summary>
    DiskFullAndKill,

    /// <summary>Every write to the disk hangs, also the leader's log.</summary>
    FrozenDisk,

    /// <summary>The daemon's wall clock jumps.</summary>
    ClockStep,
}

/// <param name="OnLeader">At whoever leads when it strikes; otherwise at <paramref name="Manager"/>.</param>
/// <param name="Length">How long it lasts, in milliseconds.</param>
/// <param name="Pause">Before the next, in milliseconds; negative: the next strikes before this one is over.</param>
public sealed record Fault(FaultKind Kind, bool OnLeader, int Manager, int Length, int Pause)
{
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Kind} {(OnLeader ? "leader" : $"manager {Manager + 1}")} {Length} ms{(Pause < 0 ? " (overlapping)" : "")}");
}

/// <summary>What is done to a cluster of managers, and when: everything follows from the seed.</summary>
public static class FaultSchedule
{
    public static IReadOnlyList<Fault> Of(int seed, int managers = 3)
    {
        var random = new Random(seed);
        var kinds = Enum.GetValues<FaultKind>();
        return [.. Enumerable.Range(0, 4).Select(_ => new Fault(
            kinds[random.Next(kinds.Length)], random.Next(5) < 3, random.Next(managers), random.Next(800, 4000), random.Next(5) == 0 ? -1 : random.Next(300, 1500)))];
    }
}
