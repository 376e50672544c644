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

    /// <summary>Boots the guest, runs the cases and hands over every line they report when it comes.</summary>
    /// <returns>What the guest itself printed.</returns>
    internal static string Run(IEnumerable<string> caseIds, Action<GuestResult> report)
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
            using (var lines = new ResultLines(results))
            {
                while (!process.WaitForExit(200))
                    lines.Read(report);
                process.WaitForExit();
                lines.Read(report);
            }
            var text = log.ToString().TrimEnd() + $"\nguest-run exited with {process.ExitCode}";
            if (Environment.GetEnvironmentVariable("OVERLAYNET_GUEST_LOG") is { Length: > 0 } path)
                File.WriteAllText(path, text + "\n");
            return text;
        }
        finally
        {
            share.Delete(recursive: true);
        }
    }

    private static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "OverlayNet.sln")))
            folder = folder.Parent;
        return folder?.FullName ?? throw new InvalidOperationException($"no OverlayNet.sln above {AppContext.BaseDirectory}");
    }

    /// <summary>Follows a file that the guest appends lines to.</summary>
    private sealed class ResultLines(string path) : IDisposable
    {
        private readonly System.Text.StringBuilder line = new();
        private StreamReader? reader;

        internal void Read(Action<GuestResult> report)
        {
            if (reader is null && File.Exists(path))
                reader = new StreamReader(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
            while (reader?.Read() is >= 0 and var character)
            {
                if (character != '\n')
                {
                    line.Append((char)character);
                    continue;
                }
                if (JsonSerializer.Deserialize(line.ToString(), GuestJson.Default.GuestResult) is { } result)
                    report(result);
                line.Clear();
            }
        }

        public void Dispose() => reader?.Dispose();
    }
}
