using System.Globalization;

namespace OverlayNet.RuntimeTests.Harness;

/// <summary>What runtimes started and did not wait for: shims, monitors, the cleaning up after a container's end.</summary>
public static class Processes
{
    /// <summary>Numbers of the machine's other processes whose command line holds the text.</summary>
    public static IReadOnlyList<int> Naming(string text) =>
        [.. Directory.EnumerateDirectories("/proc").Select(Number).OfType<int>().Where(process => process != Environment.ProcessId && CommandLine(process).Contains(text, StringComparison.Ordinal))];

    private static int? Number(string directory) =>
        int.TryParse(Path.GetFileName(directory), NumberStyles.None, CultureInfo.InvariantCulture, out var process) ? process : null;

    private static string CommandLine(int process)
    {
        try
        {
            return File.ReadAllText($"/proc/{process.ToString(CultureInfo.InvariantCulture)}/cmdline");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It ended meanwhile.
            return "";
        }
    }
}
