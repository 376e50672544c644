using System.Diagnostics;
using System.Globalization;

namespace OverlayNet.Bench.Dns;

/// <summary>
/// What the whole machine spends, clients included: nothing can be hidden in somebody else's context. It needs a machine
/// with nothing else to do.
/// </summary>
internal static class Machine
{
    private const string ProgramTimes = "/proc/sys/kernel/bpf_stats_enabled";

    /// <summary>Nanoseconds in which the CPUs were not idle, since some moment. In steps of 10 ms (proc_stat(5), USER_HZ).</summary>
    public static long BusyNanoseconds()
    {
        var fields = File.ReadLines("/proc/stat").First().Split(' ', StringSplitOptions.RemoveEmptyEntries);
        var idle = (long.Parse(fields[4], CultureInfo.InvariantCulture) + long.Parse(fields[5], CultureInfo.InvariantCulture)) * 10_000_000;
        return (long)(Stopwatch.GetTimestamp() * (1e9 / Stopwatch.Frequency)) * Environment.ProcessorCount - idle;
    }

    /// <summary>Has the kernel count the time of programs, until disposed.</summary>
    public static IDisposable CountPrograms()
    {
        var before = File.ReadAllText(ProgramTimes);
        File.WriteAllText(ProgramTimes, "1");
        return new Setting(before);
    }

    private sealed class Setting(string before) : IDisposable
    {
        public void Dispose() => File.WriteAllText(ProgramTimes, before);
    }
}
