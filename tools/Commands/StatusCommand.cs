using System.CommandLine;
using System.Text.Json;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Offline;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet status</c>: this node and what it knows of the others, also when its daemon is dead.</summary>
internal static class StatusCommand
{
    public static Command Create(Shell shell)
    {
        var state = StateOption();
        var command = new CliCommand("status", "Show this node's state; works on kernel and disk alone when the daemon is dead (then exit code 1)", "status", "status --json", "status --state /var/lib/overlaynet") { state };
        command.SetAction(async (parsed, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            using var api = shell.Connect(parsed);
            byte[] body;
            var code = ExitCodes.Ok;
            try
            {
                body = await api.Get("/v1/status", cancellation).ConfigureAwait(false);
            }
            catch (DaemonUnreachable failure)
            {
                body = JsonSerializer.SerializeToUtf8Bytes(KernelAndDisk.Look(parsed.GetValue(state)!).ToStatus(failure.Message), OverlayNetJson.Default.StatusReport);
                code = ExitCodes.Failed;
            }
            if (shell.WantsJson(parsed))
                Shell.WriteJson(output, body);
            else
                StatusView.Write(output, ApiClient.Parse(body, OverlayNetJson.Default.StatusReport));
            return code;
        });
        return command;
    }

    public static Option<string> StateOption() => new("--state")
    {
        Description = $"The daemon's state directory, read when it does not answer (also {KernelAndDisk.StateVariable})",
        HelpName = "DIR",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable(KernelAndDisk.StateVariable) is { Length: > 0 } path ? path : KernelAndDisk.DefaultState,
    };
}
