using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using OverlayNet.Kernel.Bpf;

namespace OverlayNet.Bench.Dns;

/// <summary>A server under test, pinned to one CPU, whose CPU time is read from the kernel's scheduler accounting.</summary>
internal sealed partial class ServerProcess : IDisposable
{
    private readonly Process _process;
    private BpfProgram[]? _programs;

    private ServerProcess(string name, int port, Process process)
    {
        Name = name;
        Port = port;
        _process = process;
    }

    public string Name { get; }

    public int Port { get; }

    /// <param name="name">For the table.</param>
    /// <param name="port">Where it listens on 127.0.0.1.</param>
    /// <param name="cpu">CPU it is pinned to.</param>
    /// <param name="command">Program and arguments; it stays in the foreground.</param>
    public static ServerProcess Start(string name, int port, int cpu, params string[] command)
    {
        var start = new ProcessStartInfo("taskset")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var argument in (string[])["-c", cpu.ToString(CultureInfo.InvariantCulture), .. command])
            start.ArgumentList.Add(argument);
        var process = Process.Start(start) ?? throw new InvalidOperationException($"{name} did not start");
        process.OutputDataReceived += (_, _) => { };
        process.ErrorDataReceived += (_, _) => { };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return new ServerProcess(name, port, process);
    }

    /// <summary>Nanoseconds on CPU of all threads of the process and its children, and of its programs in the kernel.</summary>
    public long CpuNanoseconds() => Family().Sum(CpuOf) + ProgramNanoseconds();

    /// <summary>The same without its children: dockerd's containers are not its resolver.</summary>
    public long OwnCpuNanoseconds() => CpuOf(_process.Id) + ProgramNanoseconds();

    /// <summary>Resident bytes of the process and its children.</summary>
    public long ResidentBytes() => Family().Sum(pid =>
    {
        var line = File.ReadLines($"/proc/{pid}/status").FirstOrDefault(l => l.StartsWith("VmRSS:", StringComparison.Ordinal));
        return line is null ? 0 : long.Parse(line.AsSpan(6, line.Length - 9), CultureInfo.InvariantCulture) * 1024;
    });

    public bool HasExited => _process.HasExited;

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
        foreach (var program in _programs ?? [])
            program.Dispose();
    }

    /// <summary>
    /// The programs run in their clients' context: their time is the kernel's own count (kernel.bpf_stats_enabled), and is
    /// the server's. Programs are looked for once, when the server is up.
    /// </summary>
    private long ProgramNanoseconds()
    {
        const string field = "prog_id:";
        _programs ??=
        [
            .. Directory.GetFiles($"/proc/{_process.Id}/fdinfo")
                .SelectMany(path => File.ReadLines(path).Where(line => line.StartsWith(field, StringComparison.Ordinal)))
                .Select(line => uint.Parse(line.AsSpan(field.Length).Trim(), CultureInfo.InvariantCulture))
                .Distinct() // of program and link
                .Select(BpfProgram.Open),
        ];
        return _programs.Sum(program => (long)program.RunTimeNs);
    }

    private List<int> Family()
    {
        var all = new List<int> { _process.Id };
        for (var i = 0; i < all.Count; i++)
        {
            foreach (var task in Directory.GetDirectories($"/proc/{all[i]}/task"))
            {
                var children = File.ReadAllText(Path.Combine(task, "children")).Split(' ', StringSplitOptions.RemoveEmptyEntries);
                all.AddRange(children.Select(c => int.Parse(c, CultureInfo.InvariantCulture)));
            }
        }

        return all;
    }

    /// <summary>
    /// The process' CPU clock: nanoseconds of all its threads, of those that have ended too (a thread pool's come and
    /// go). clock_getcpuclockid(3): the complement of the pid above the three bits that say "scheduler's accounting".
    /// </summary>
    private static long CpuOf(int pid) =>
        ClockGetTime((~pid << 3) | 2, out var time) == 0 ? time.Seconds * 1_000_000_000 + time.Nanoseconds : 0;

    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int ClockGetTime(int clock, out TimeSpec time);
}
