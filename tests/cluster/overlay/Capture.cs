using System.Diagnostics;
using OverlayNet.ClusterTests.Kernel;

namespace OverlayNet.ClusterTests.Overlay;

/// <summary>tcpdump on one link, from when it listens to when it is asked.</summary>
internal sealed class Capture : IDisposable
{
    private readonly Process process;
    private readonly List<string> lines = [];
    private readonly string netns;
    private readonly string link;

    internal Capture(string netns, string link, string filter)
    {
        this.netns = netns;
        this.link = link;
        process = Shell.Start(["ip", "netns", "exec", netns, "tcpdump", "-n", "-l", "--immediate-mode", "-i", link, .. filter.Split(' ')]);
        using var listening = new ManualResetEventSlim();
        process.OutputDataReceived += (_, line) =>
        {
            lock (lines)
            {
                if (line.Data is not null)
                    lines.Add(line.Data);
            }
        };
        process.ErrorDataReceived += (_, line) =>
        {
            if (line.Data?.StartsWith("listening on", StringComparison.Ordinal) == true)
                listening.Set();
        };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        if (!listening.Wait(TimeSpan.FromSeconds(20)))
            throw new TimeoutException($"tcpdump does not listen on {link} of {netns}");
    }

    /// <summary>All packets so far, one or more lines each.</summary>
    internal IReadOnlyList<string> Lines
    {
        get
        {
            lock (lines)
                return [.. lines];
        }
    }

    /// <summary>Waits until a line holds some text.</summary>
    internal void WaitFor(string text)
    {
        var clock = Stopwatch.StartNew();
        while (!Lines.Any(line => line.Contains(text, StringComparison.Ordinal)))
        {
            if (clock.Elapsed > TimeSpan.FromSeconds(20))
                throw new TimeoutException($"no packet with '{text}' on {link} of {netns}: {string.Join('\n', Lines)}");
            Thread.Sleep(10);
        }
    }

    public void Dispose()
    {
        process.Kill();
        process.WaitForExit();
        process.Dispose();
    }
}
