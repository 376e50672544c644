using System.Diagnostics;
using System.Globalization;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>What a program said and how it ended.</summary>
public sealed record CommandResult(string Command, int Code, string Output, string Error)
{
    /// <summary>Output without surrounding white space.</summary>
    public string Text => Output.Trim();

    public IReadOnlyList<string> Lines => Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    /// <exception cref="InvalidOperationException">The program failed; the message has all it said.</exception>
    public CommandResult Succeeded() => Code == 0 ? this : throw new InvalidOperationException(ToString());

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Command}: exit code {Code}\n{Output}{Error}");
}

/// <summary>Programs run to their end.</summary>
public static class Commands
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(60);

    /// <exception cref="TimeoutException">It did not end within a minute (it is killed).</exception>
    public static CommandResult Run(string program, params IEnumerable<string> arguments) => Run(Timeout, program, arguments);

    /// <exception cref="TimeoutException">It did not end in time (it is killed).</exception>
    public static CommandResult Run(TimeSpan timeout, string program, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program)
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        start.Environment["OVERLAYNET_OUT"] = Tree.Out;
        var command = $"{program} {string.Join(' ', start.ArgumentList)}";
        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        // Not until the pipes close: a child that goes on in the background would hold them.
        if (!process.WaitForExit(timeout))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{command}: did not end within {timeout.TotalSeconds:0} s");
        }
        return new CommandResult(command, process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }

    /// <summary>Inside a named namespace, with the resolv.conf that is its own.</summary>
    public static CommandResult In(string netns, string program, params IEnumerable<string> arguments) =>
        Run("ip", ["netns", "exec", netns, program, .. arguments]);
}

/// <summary>Where things are in the source tree.</summary>
public static class Tree
{
    public static string Root { get; } = FindRoot();

    /// <summary>The programs under test: those of OVERLAYNET_OUT, else the ones built along with the tests.</summary>
    public static string Out { get; } = Environment.GetEnvironmentVariable("OVERLAYNET_OUT") is { Length: > 0 } path ? path : AppContext.BaseDirectory;

    public static string ClusterScript { get; } = Path.Combine(Root, "tools", "lib", "cluster.sh");

    public static string Library(string name) => Path.Combine(Root, "tools", "lib", name);

    private static string FindRoot()
    {
        for (var directory = new DirectoryInfo(AppContext.BaseDirectory); directory is not null; directory = directory.Parent)
        {
            if (File.Exists(Path.Combine(directory.FullName, "OverlayNet.sln")))
                return directory.FullName;
        }
        throw new InvalidOperationException($"no OverlayNet.sln above {AppContext.BaseDirectory}");
    }
}
