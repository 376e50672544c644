using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using OverlayNet.Kernel;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Run;

/// <summary>A named network namespace that lives as long as one <c>overlaynet run</c>.</summary>
/// <remarks>The name carries the pid of its owner, so that what a killed owner left is recognised.</remarks>
internal sealed partial class ScratchNamespace : IDisposable
{
    private ScratchNamespace(string name) => Name = name;

    public string Name { get; }

    public string Path => NamedNamespaces.PathOf(Name);

    /// <exception cref="KernelException">Not allowed to.</exception>
    public static ScratchNamespace Create()
    {
        var name = string.Create(CultureInfo.InvariantCulture, $"run-{Environment.ProcessId}-{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(3))}");
        NamedNamespaces.Create(name);
        var scratch = new ScratchNamespace(name);
        try
        {
            LoopbackUp(name);
            return scratch;
        }
        catch
        {
            scratch.Dispose();
            throw;
        }
    }

    /// <summary>Removes the namespaces of owners that were killed before they could, unless something still runs inside.</summary>
    public static void SweepStale()
    {
        foreach (var name in NamedNamespaces.List())
        {
            if (OwnedName().Match(name) is { Success: true } match && !Directory.Exists($"/proc/{match.Groups[1].Value}") && ProcessesInside(name).Count == 0)
                Remove(name);
        }
    }

    /// <summary>Ends what the command left running: it would keep the namespace alive.</summary>
    public void KillInside()
    {
        foreach (var pid in ProcessesInside(Name))
        {
            try
            {
                using var process = Process.GetProcessById(pid);
                process.Kill();
                process.WaitForExit(TimeSpan.FromSeconds(5));
            }
            catch (Exception e) when (e is ArgumentException or InvalidOperationException or Win32Exception)
            {
                // Ended by itself meanwhile.
            }
        }
    }

    public void Dispose() => Remove(Name);

    private static void Remove(string name)
    {
        NamedNamespaces.Delete(name);
        var configuration = $"/etc/netns/{name}";
        if (Directory.Exists(configuration))
            Directory.Delete(configuration, recursive: true);
    }

    private static List<int> ProcessesInside(string name)
    {
        using var inside = Start("ip", "netns", "pids", name);
        var output = inside.StandardOutput.ReadToEnd();
        inside.WaitForExit();
        return [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => int.Parse(line, CultureInfo.InvariantCulture))];
    }

    private static void LoopbackUp(string name)
    {
        using var ip = Start("ip", "-n", name, "link", "set", "lo", "up");
        var error = ip.StandardError.ReadToEnd();
        ip.WaitForExit();
        if (ip.ExitCode != 0)
            throw new CommandFailure(ExitCodes.Failed, $"loopback of namespace {name}: {error.Trim()}");
    }

    private static Process Start(string program, params string[] arguments)
    {
        try
        {
            return Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;
        }
        catch (Win32Exception e)
        {
            throw new CommandFailure(ExitCodes.Failed, $"{program} cannot be run: {e.Message}", "install iproute2");
        }
    }

    [GeneratedRegex("^run-([0-9]+)-[0-9a-f]{6}$")]
    private static partial Regex OwnedName();
}
