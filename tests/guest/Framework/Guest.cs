using System.Diagnostics;
using System.Text.Json;

namespace OverlayNet.GuestTests.Framework;

/// <summary>The guest as the host sees it: one boot that runs this assembly with a list of test cases.</summary>
internal static class Guest
{
    private const int SecondsLimit = 1500;

    /// <summary>This process runs in the guest (tools/guest/init says so).</summary>
    internal static bool IsInside => Environment.GetEnvironmentVariable("OVERLAYNET_GUEST") is { Length: > 0 };

    /// <summary>The source tree: where tools/guest-run is.</summary>
    internal static string Root { get; } = FindRoot();

    /// <summary>Boots the guest, runs the cases and returns every line they reported, and what the guest itself printed.</summary>
    internal static (IReadOnlyList<GuestResult> Results, string Log) Run(IEnumerable<string> caseIds)
    {
        var share = Directory.CreateTempSubdirectory("overlaynet-guest-share.");
        try
        {
            var list = Path.Combine(share.FullName, "cases");
            var results = Path.Combine(share.FullName, "results");
            File.WriteAllLines(list, caseIds);
            var start = new ProcessStartInfo(Path.Combine(Root, "tools", "guest-run"))
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                WorkingDirectory = share.FullName,
            };
            foreach (var argument in (string[])[
                "--timeout", SecondsLimit.ToString(), "--share", share.FullName, "--",
                Environment.ProcessPath is { } host && Path.GetFileName(host) == "dotnet" ? host : "dotnet",
                "exec", typeof(Guest).Assembly.Location, list, results])
                start.ArgumentList.Add(argument);
            var log = new System.Text.StringBuilder();
            using var process = new Process { StartInfo = start };
            void Keep(object sender, DataReceivedEventArgs line)
            {
                lock (log)
                    log.AppendLine(line.Data);
            }
            process.OutputDataReceived += Keep;
            process.ErrorDataReceived += Keep;
            process.Start();
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            process.WaitForExit();
            var text = log.ToString().TrimEnd() + $"\nguest-run exited with {process.ExitCode}";
            if (Environment.GetEnvironmentVariable("OVERLAYNET_GUEST_LOG") is { Length: > 0 } path)
                File.WriteAllText(path, text + "\n");
            return (Read(results), text);
        }
        finally
        {
            share.Delete(recursive: true);
        }
    }

    private static List<GuestResult> Read(string path)
    {
        var results = new List<GuestResult>();
        if (!File.Exists(path))
            return results;
        foreach (var line in File.ReadLines(path))
        {
            try
            {
                if (JsonSerializer.Deserialize(line, GuestJson.Default.GuestResult) is { } result)
                    results.Add(result);
            }
            catch (JsonException)
            {
                // The last line of a guest that was killed while it wrote.
            }
        }
        return results;
    }

    private static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "OverlayNet.sln")))
            folder = folder.Parent;
        return folder?.FullName ?? throw new InvalidOperationException($"no OverlayNet.sln above {AppContext.BaseDirectory}");
    }
}
