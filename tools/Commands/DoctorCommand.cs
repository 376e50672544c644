using System.CommandLine;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Offline;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet doctor</c>: what is wrong with this node, and what to do about it.</summary>
internal static class DoctorCommand
{
    public static Command Create(Shell shell)
    {
        var state = StatusCommand.StateOption();
        var command = new CliCommand("doctor", "Check kernel, network and state of this node (exit code 1 when something is wrong)", "doctor", "doctor --json") { state };
        command.SetAction(async (parsed, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            using var api = shell.Connect(parsed);
            byte[] body;
            try
            {
                body = await api.Get("/v1/doctor", cancellation).ConfigureAwait(false);
            }
            catch (DaemonUnreachable failure)
            {
                body = JsonSerializer.SerializeToUtf8Bytes(KernelAndDisk.Look(parsed.GetValue(state)!).ToDoctor(failure.Message), OverlayNetJson.Default.DoctorReport);
            }
            var report = ApiClient.Parse(body, OverlayNetJson.Default.DoctorReport);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(output, body);
            else
                Write(output, report);
            return report.Findings.Any(finding => finding.Severity == "error") ? ExitCodes.Failed : ExitCodes.Ok;
        });
        return command;
    }

    private static void Write(TextWriter output, DoctorReport report)
    {
        FindingsView.Write(output, report.Findings);
        output.WriteLine($"node {report.Node}: {Text.Number(report.Checked.Count)} checks, {Text.Number(report.Findings.Count(f => f.Severity == "error"))} errors, {Text.Number(report.Findings.Count(f => f.Severity == "warning"))} warnings");
    }
}
