using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace OverlayNet.ClusterTests.Harness;

/// <summary>A program inside a namespace that goes on until it is ended; its output is kept.</summary>
public sealed class BackgroundProcess : IDisposable
{
    private static readonly TimeSpan EndTimeout = TimeSpan.FromSeconds(10);
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly Lock _gate = new();
    private bool _disposed;

    private BackgroundProcess(ProcessStartInfo start)
    {
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.Start();
        _process.StandardInput.Close();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>The program's own pid: 'ip netns exec' becomes the program.</summary>
    public int Pid => _process.Id;

    public bool Ended => _process.HasExited;

    public string Output
    {
        get
        {
            lock (_gate)
                return _output.ToString();
        }
    }

    public static BackgroundProcess In(string netns, string program, params IEnumerable<string> arguments) =>
        InHost("ip", ["netns", "exec", netns, program, .. arguments]);

    /// <summary>A program where the tests themselves run.</summary>
    public static BackgroundProcess InHost(string program, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        return new BackgroundProcess(start);
    }

    /// <summary>Waits until the output has a text.</summary>
    public BackgroundProcess Says(string text)
    {
        Wait.Until($"'{text}' from {string.Join(' ', _process.StartInfo.ArgumentList)}", () => Output.Contains(text, StringComparison.Ordinal) || (Ended && Output.Length > 0), seen: () => Output);
        return Output.Contains(text, StringComparison.Ordinal) ? this : throw new InvalidOperationException(Output);
    }

    /// <summary>Ends it as a person would (SIGINT by default) and gives all it said.</summary>
    public string End(string signal = "INT")
    {
        Commands.Run("kill", $"-{signal}", _process.Id.ToString(CultureInfo.InvariantCulture));
        if (!_process.WaitForExit(EndTimeout))
            _process.Kill(entireProcessTree: true);
        // Without a limit it also waits for the last lines.
        _process.WaitForExit();
        return Output;
    }

    /// <summary>SIGKILL to the program itself, at once; its children are left.</summary>
    public void Kill() => _process.Kill();

    /// <summary>May be called again: a test ends a process that its container would end too.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            _process.WaitForExit(EndTimeout);
        }
        _process.Dispose();
    }

    private void Keep(string? line)
    {
        if (line is null)
            return;
        lock (_gate)
            _output.Append(line).Append('\n');
    }
}
