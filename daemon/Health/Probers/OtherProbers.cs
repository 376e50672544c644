using System.ComponentModel;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using OverlayNet.Contracts;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Health.Probers;

/// <summary>A datagram and its answer.</summary>
internal static class UdpProber
{
    /// <inheritdoc cref="StreamProbers.Run"/>
    public static async Task<ProbeResult?> Run(PlannedCheck plan, Socket socket, CancellationToken cancellation)
    {
        // Connected, so that an ICMP error comes back as one.
        await socket.ConnectAsync(new IPEndPoint(plan.Address, plan.Port), cancellation).ConfigureAwait(false);
        await socket.SendAsync(HealthSpecs.Bytes(plan.Check.Send), cancellation).ConfigureAwait(false);
        var buffer = new byte[2048];
        try
        {
            var length = await socket.ReceiveAsync(buffer, cancellation).ConfigureAwait(false);
            return plan.Check.Expect is not { } expect || buffer.AsSpan(0, length).IndexOf(HealthSpecs.Bytes(expect)) >= 0
                ? ProbeResult.Pass
                : ProbeResult.Bad($"the answer of {length} bytes does not contain '{expect}'");
        }
        catch (OperationCanceledException) when (plan.Check.Expect is null)
        {
            return ProbeResult.Pass;
        }
    }
}

/// <summary>A program inside the endpoint's network namespace, with the node's files.</summary>
internal static class ExecProber
{
    private const int MostOutput = 200;

    public static async Task<ProbeResult?> Run(PlannedCheck plan, CancellationToken cancellation)
    {
        Process process;
        try
        {
            using var netns = NetworkNamespace.Open(plan.TaskNetns);
            // A child is born into the namespace of the thread that makes it.
            process = netns.Run(() => Process.Start(new ProcessStartInfo("/bin/sh", ["-c", plan.Check.Command!])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!);
        }
        catch (Exception e) when (e is KernelException or Win32Exception)
        {
            return ProbeResult.Bad($"it could not be run: {e.Message}");
        }
        using (process)
        {
            process.StandardInput.Close();
            try
            {
                var output = process.StandardOutput.ReadToEndAsync(cancellation);
                var error = process.StandardError.ReadToEndAsync(cancellation);
                await process.WaitForExitAsync(cancellation).ConfigureAwait(false);
                var said = (await error.ConfigureAwait(false) + await output.ConfigureAwait(false)).Trim();
                return process.ExitCode == 0 ? ProbeResult.Pass
                    : ProbeResult.Bad($"exit code {process.ExitCode}{(said.Length > 0 ? $": {said[..Math.Min(said.Length, MostOutput)]}" : "")}");
            }
            catch (OperationCanceledException)
            {
                process.Kill(entireProcessTree: true);
                // The program is on this node: that it hangs is no matter of paths.
                return ProbeResult.Bad($"it did not end within {plan.Check.TimeoutMs} ms");
            }
        }
    }
}
