using System.Diagnostics;
using System.Runtime.InteropServices;

namespace OverlayNet.Bench;

/// <summary>What something took.</summary>
/// <param name="Wall">Milliseconds.</param>
/// <param name="Cpu">Milliseconds of this process and the children it waited for, user and system.</param>
internal readonly partial record struct Cost(double Wall, double Cpu)
{
    /// <summary>Measures an action; the kernel's work on our behalf counts as system time.</summary>
    internal static Cost Of(Action action)
    {
        var cpu = CpuMilliseconds();
        var clock = Stopwatch.StartNew();
        action();
        return new Cost(clock.Elapsed.TotalMilliseconds, CpuMilliseconds() - cpu);
    }

    /// <summary>A percentile, 0..1.</summary>
    internal static double Percentile(IEnumerable<double> values, double which)
    {
        var sorted = values.Order().ToArray();
        return sorted[Math.Min(sorted.Length - 1, (int)(which * sorted.Length))];
    }

    private static double CpuMilliseconds() => Usage(0) + Usage(-1);

    private static unsafe double Usage(int who)
    {
        // struct rusage: user and system time as two timevals, then counters we do not read.
        var usage = stackalloc long[18];
        if (GetRUsage(who, usage) != 0)
            throw new InvalidOperationException("getrusage failed");
        return (usage[0] + usage[2]) * 1e3 + (usage[1] + usage[3]) / 1e3;
    }

    [LibraryImport("libc", EntryPoint = "getrusage")]
    private static unsafe partial int GetRUsage(int who, long* usage);
}
