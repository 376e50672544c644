using System.Diagnostics;

namespace OverlayNet.GuestTests;

/// <summary>Runs the tools that judge us.</summary>
internal static class Shell
{
    /// <summary>Runs a program to its end and gives its standard output.</summary>
    /// <exception cref="InvalidOperationException">It is not installed, or its exit code is not 0.</exception>
    internal static string Run(string program, params string[] arguments) => Run(program, null, arguments);

    internal static string Run(string program, string? input, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw new InvalidOperationException($"{program} is missing: apt-get install ipvsadm iproute2 nftables socat");
        }
        using (process)
        {
            var errors = process.StandardError.ReadToEndAsync();
            process.StandardInput.Write(input);
            process.StandardInput.Close();
            var output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0
                ? output
                : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: exit code {process.ExitCode}: {errors.Result}{output}");
        }
    }
}
