using System.Diagnostics;
using System.Text.Json.Nodes;
using OverlayNet.ClusterTests.Harness;

namespace OverlayNet.RuntimeTests.Cni;

/// <summary>What the plugin printed and how it ended.</summary>
public sealed record CniAnswer(int ExitCode, string Output)
{
    public JsonNode Json => JsonNode.Parse(Output)!;

    /// <summary>The error's code; 0: it went well.</summary>
    public int Code => ExitCode == 0 ? 0 : (int)Json["code"]!;

    public string Message => (string)Json["msg"]!;

    public JsonNode Succeeded() => ExitCode == 0 ? (Output.Length == 0 ? new JsonObject() : Json) : throw new InvalidOperationException(Output);
}

/// <summary>Calls the plugin as a runtime does: CNI_* in the environment, the configuration on standard input.</summary>
public static class CniPlugin
{
    /// <summary>Directory of the plugin under test, whose file is called as its type.</summary>
    public static string Directory { get; } = Find();

    public static CniAnswer Call(string command, string config, string? container = null, string? netns = null, string? ifName = null, string? args = null)
    {
        var start = new ProcessStartInfo(Path.Combine(Directory, "overlaynet")) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true };
        start.Environment["CNI_COMMAND"] = command;
        start.Environment["CNI_PATH"] = Directory;
        foreach (var (name, value) in new[] { ("CNI_CONTAINERID", container), ("CNI_NETNS", netns), ("CNI_IFNAME", ifName), ("CNI_ARGS", args) })
        {
            if (value is not null)
                start.Environment[name] = value;
        }
        using var process = Process.Start(start)!;
        process.StandardInput.Write(config);
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return new CniAnswer(process.ExitCode, output);
    }

    private static string Find()
    {
        var built = Path.Combine(Tree.Out, "cni");
        if (File.Exists(Path.Combine(built, "overlaynet")))
            return built;
        // Programs that came without tools/build: the same code in the command line tool.
        var directory = Path.Combine(Path.GetTempPath(), $"overlaynet-test-cni-{Environment.ProcessId}");
        System.IO.Directory.CreateDirectory(directory);
        var path = Path.Combine(directory, "overlaynet");
        File.WriteAllText(path, $"#!/bin/sh\nexec {Path.Combine(Tree.Out, "overlaynet")} cni\n");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        AppDomain.CurrentDomain.ProcessExit += (_, _) => System.IO.Directory.Delete(directory, recursive: true);
        return directory;
    }
}
