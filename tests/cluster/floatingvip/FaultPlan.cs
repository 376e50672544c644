namespace OverlayNet.ClusterTests.FloatingVip;

/// <summary>Which traffic of the victim is lost at the switch.</summary>
public enum LostPath
{
    None,

    /// <summary>VRRP, ARP, neighbour discovery and everything to and from the VIP.</summary>
    Data,

    /// <summary>Between the victim and the manager.</summary>
    Store,
    Both,
}

/// <summary>Seen from the victim.</summary>
public enum LostDirection
{
    Out,
    In,
    BothWays,
}

/// <summary>What happens to a process or interface.</summary>
public enum ProcessFault
{
    None,
    Frozen,
    Killed,
    Starved,
    InterfaceDown,
    ManagerFrozen,
    ManagerKilled,
}

/// <summary>One cell of the fault matrix with its times, from a seed.</summary>
public sealed record FaultPlan(int Seed, LostPath Path, LostDirection Direction, ProcessFault Process, bool VictimHolds, int BeforeMs, int HoldMs, int SecondAfterMs)
{
    /// <summary>The same seed gives the same plan.</summary>
    public static FaultPlan Of(int seed)
    {
        var random = new Random(seed);
        var path = (LostPath)random.Next(4);
        var process = (ProcessFault)random.Next(7);
        // A run without any fault shows nothing.
        if (path == LostPath.None && process == ProcessFault.None)
            path = LostPath.Both;
        return new FaultPlan(seed, path, (LostDirection)random.Next(3), process, random.Next(3) > 0, random.Next(0, 160), random.Next(300, 1800), random.Next(0, 400));
    }

    public override string ToString() =>
        $"seed {Seed}: {(Path == LostPath.None ? "" : $"{Path} lost ({Direction}) ")}{(Process == ProcessFault.None ? "" : $"{Process} ")}at the {(VictimHolds ? "holder" : "candidate")} for {HoldMs} ms";
}

/// <summary>What came of one run.</summary>
/// <param name="Violation">Null: every invariant held.</param>
/// <param name="Moves">Changes of the holder from one node to another.</param>
/// <param name="SilentMs">The longest time without an owner, while the fault lasted and after.</param>
/// <param name="RecoveredMs">From the end of the fault until an owner answered for good.</param>
public sealed record FaultRun(FaultPlan Plan, string? Violation, int Moves, double SilentMs, double RecoveredMs);
