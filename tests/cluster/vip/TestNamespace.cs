using System.Diagnostics;
using OverlayNet.Kernel;

namespace OverlayNet.ClusterTests.Vip;

/// <summary>A network namespace for a test, named so that what a killed run left is recognised and swept.</summary>
public sealed class TestNamespace : IDisposable
{
    private const string Prefix = "onvip-";
    private static int counter;

    static TestNamespace()
    {
        foreach (var name in NamedNamespaces.List().Where(name => name.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            // onvip-<pid>-<n>-<role>: another run's is left alone while that run lives.
            if (!int.TryParse(name.Split('-')[1], out var pid) || !Directory.Exists($"/proc/{pid}"))
                NamedNamespaces.Delete(name);
        }
    }

    public TestNamespace(string role)
    {
        Name = $"{Prefix}{Environment.ProcessId}-{Interlocked.Increment(ref counter)}-{role}";
        NamedNamespaces.Create(Name);
        Run("ip", "link", "set", "lo", "up");
    }

    public string Name { get; }
    public string Path => NamedNamespaces.PathOf(Name);

    public NetworkNamespace Open() => NamedNamespaces.OpenPinned(Name);

    /// <summary>Runs a program inside and gives its output; a failure is an exception with its words.</summary>
    public string Run(string program, params string[] arguments)
    {
        var (code, output) = TryRun(program, arguments);
        return code == 0 ? output : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)} in {Name}: exit code {code}: {output}");
    }

    public (int Code, string Output) TryRun(string program, params string[] arguments) =>
        Execute("nsenter", [$"--net={Path}", "--", program, .. arguments]);

    public static (int Code, string Output) Execute(string program, string[] arguments, string? input = null)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments)
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
        return (process.ExitCode, output + error.Result);
    }

    public void Dispose() => NamedNamespaces.Delete(Name);
}
