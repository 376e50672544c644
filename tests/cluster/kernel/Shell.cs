using System.Diagnostics;
using System.Text.Json.Nodes;

namespace OverlayNet.ClusterTests.Kernel;

/// <summary>The kernel's own tools as judges of what we did.</summary>
internal static class Shell
{
    /// <summary>Runs a command line (split at spaces) and gives its output.</summary>
    /// <exception cref="InvalidOperationException">It could not be started or ended with an error.</exception>
    internal static string Run(string commandLine)
    {
        var (code, output, error) = TryRun(commandLine);
        return code == 0 ? output : throw new InvalidOperationException($"'{commandLine}' ended with {code}: {output} {error}");
    }

    /// <summary>Runs a command line that may fail.</summary>
    internal static (int Code, string Output, string Error) TryRun(string commandLine)
    {
        var parts = commandLine.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        using var process = Start(parts);
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.Result);
    }

    /// <summary>Runs a command line whose output is a JSON array; no output is an empty one.</summary>
    internal static JsonArray Json(string commandLine)
    {
        var text = Run(commandLine);
        return string.IsNullOrWhiteSpace(text) ? [] : JsonNode.Parse(text)!.AsArray();
    }

    /// <summary>Starts a command that goes on; the caller ends it.</summary>
    internal static Process Start(params string[] parts)
    {
        var start = new ProcessStartInfo(parts[0], parts[1..]) { RedirectStandardOutput = true, RedirectStandardError = true };
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new InvalidOperationException($"cannot run '{parts[0]}' ({e.Message}): install it with apt-get install iproute2 nftables tcpdump iputils-ping iptables procps", e);
        }
    }
}
