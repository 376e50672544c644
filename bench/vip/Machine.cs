using System.Diagnostics;
using System.Globalization;
using System.Net;
using OverlayNet.Kernel;

namespace OverlayNet.Bench.Vip;

/// <summary>Namespaces and processes of a run, all gone at its end.</summary>
internal sealed class Machine : IDisposable
{
    private const string Prefix = "onbench-";
    private readonly string tag = $"{Prefix}{Environment.ProcessId}-";
    private readonly List<Process> processes = [];

    internal Machine()
    {
        foreach (var name in NamedNamespaces.List().Where(name => name.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            if (!int.TryParse(name.Split('-')[1], out var process) || !Directory.Exists($"/proc/{process}"))
                NamedNamespaces.Delete(name);
        }
    }

    internal string Create(string name)
    {
        NamedNamespaces.Create(tag + name);
        Run($"ip -n {tag}{name} link set lo up");
        return tag + name;
    }

    internal static string Run(string commandLine, string? input = null)
    {
        var parts = commandLine.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        using var process = Process.Start(new ProcessStartInfo(parts[0], parts[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = input is not null,
        })!;
        if (input is not null)
        {
            process.StandardInput.Write(input);
            process.StandardInput.Close();
        }
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"'{commandLine}' ended with {process.ExitCode}: {error.Result}");
    }

    /// <summary>Runs a command in a namespace.</summary>
    internal static string In(string netns, string commandLine, string? input = null) => Run($"nsenter --net={NamedNamespaces.PathOf(netns)} -- {commandLine}", input);

    internal static string Load => Path.Combine(AppContext.BaseDirectory, "load");

    /// <summary>Starts an echo server and waits until it listens.</summary>
    internal int Serve(string netns, IPAddress address, int port)
    {
        var process = Process.Start(new ProcessStartInfo("nsenter", [$"--net={NamedNamespaces.PathOf(netns)}", "--", Load, "server", address.ToString(), port.ToString(CultureInfo.InvariantCulture)])
        {
            RedirectStandardOutput = true,
        })!;
        processes.Add(process);
        if (process.StandardOutput.ReadLine() != "ready")
            throw new InvalidOperationException($"the server at {address} did not start");
        return process.Id;
    }

    /// <summary>Nanoseconds that a process has been on a CPU (proc/PID/schedstat); softirq work done in its context is in it.</summary>
    internal static long CpuOf(int process) =>
        long.Parse(File.ReadAllText($"/proc/{process}/schedstat").Split(' ')[0], CultureInfo.InvariantCulture);

    public void Dispose()
    {
        foreach (var process in processes)
        {
            process.Kill();
            process.WaitForExit();
            process.Dispose();
        }
        foreach (var name in NamedNamespaces.List().Where(name => name.StartsWith(tag, StringComparison.Ordinal)))
            NamedNamespaces.Delete(name);
    }
}
