using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Run;

/// <summary>Passes the signals that end a program on to a child, so that this program outlives it and cleans up.</summary>
internal sealed partial class ForwardedSignals : IDisposable
{
    private const int SignalExitBase = 128;
    private static readonly (PosixSignal Signal, int Number)[] Forwarded =
        [(PosixSignal.SIGINT, 2), (PosixSignal.SIGTERM, 15), (PosixSignal.SIGHUP, 1), (PosixSignal.SIGQUIT, 3)];

    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly Lock _gate = new();
    private int _child;
    private int _early;

    public ForwardedSignals()
    {
        foreach (var (signal, number) in Forwarded)
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                OnSignal(number);
            }));
    }

    /// <summary>Runs a program with this one's terminal until it ends.</summary>
    /// <returns>Its exit code; 128 and the signal's number when a signal ended it, or came before it started.</returns>
    /// <exception cref="CommandFailure">The program cannot be started.</exception>
    public int RunToEnd(string program, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(program) { UseShellExecute = false };
        foreach (var argument in arguments)
            start.ArgumentList.Add(argument);
        Process process;
        lock (_gate)
        {
            if (_early != 0)
                return SignalExitBase + _early;
            try
            {
                process = Process.Start(start)!;
            }
            catch (Win32Exception e)
            {
                throw new CommandFailure(ExitCodes.Failed, $"{program} cannot be run: {e.Message}", "install iproute2");
            }
            _child = process.Id;
        }
        using (process)
        {
            process.WaitForExit();
            lock (_gate)
                _child = 0;
            return process.ExitCode;
        }
    }

    public void Dispose()
    {
        foreach (var registration in _registrations)
            registration.Dispose();
    }

    private void OnSignal(int number)
    {
        lock (_gate)
        {
            if (_child == 0)
                _early = number;
            // At a terminal the child got Ctrl-C and Ctrl-\ itself; a second one would make many programs give up at once.
            else if (number is 1 or 15 || Console.IsInputRedirected)
                _ = Kill(_child, number);
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int pid, int signal);
}
