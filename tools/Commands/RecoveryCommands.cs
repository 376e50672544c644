using System.CommandLine;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet backup</c>, <c>restore</c> and <c>recover</c>: each says what it did, step by step.</summary>
internal static class RecoveryCommands
{
    public static Command Backup(Shell shell)
    {
        var file = new Option<string>("--output", "-o") { Description = "Where to write it; default: among the manager's own backups in its state directory", HelpName = "FILE" };
        var command = new CliCommand("backup", "Write the registry to a file and try it out, with or without a majority of managers", "backup", "backup --output /root/registry.backup") { file };
        shell.Action(command, async (parsed, api, cancellation) =>
            Print(shell, parsed, await api.Post($"/v1/backup{Text.Query(("file", parsed.GetValue(file) is { } path ? Path.GetFullPath(path) : null))}", cancellation).ConfigureAwait(false)));
        return command;
    }

    public static Command Restore(Shell shell)
    {
        var file = new Argument<string>("FILE") { Description = "A file that 'overlaynet backup' wrote" };
        var force = new Option<bool>("--force", "-f") { Description = "Also in the place of a registry that works: what was written since the backup is lost" };
        var address = Inputs.Address("--address", "On a machine that is no member: its underlay address; default: that of the node of its name in the backup");
        var name = Inputs.Text("--name", "On a machine that is no member: its name, one DNS label; default: the host's name", "NAME");
        var command = new CliCommand("restore", "Put a backup in the place of the registry; on a new machine, make it the cluster's first manager", "restore registry.backup", "restore --name node1 --address 192.0.2.1 registry.backup") { file, force, address, name };
        shell.Action(command, async (parsed, api, cancellation) =>
            Print(shell, parsed, await api.Post("/v1/restore", new RestoreRequest
            {
                File = Path.GetFullPath(parsed.GetValue(file)!),
                Force = parsed.GetValue(force),
                Address = parsed.GetValue(address) is { } given ? IPAddress.Parse(given) : null,
                NodeName = parsed.GetValue(name),
            }, ManagersJson.Default.RestoreRequest, cancellation).ConfigureAwait(false)));
        return command;
    }

    public static Command Recover(Shell shell)
    {
        var destroyed = new Option<string[]>("--destroyed") { Description = "A manager that is off for good; needed for each that does not answer", HelpName = "NODE", AllowMultipleArgumentsPerToken = true };
        var command = new CliCommand("recover", "Make a working cluster out of this manager, when a majority of them is destroyed", "recover", "recover --destroyed node2 node3") { destroyed };
        shell.Action(command, async (parsed, api, cancellation) =>
            Print(shell, parsed, await api.Post("/v1/recover", new RecoverRequest { Destroyed = parsed.GetValue(destroyed) ?? [] }, ManagersJson.Default.RecoverRequest, cancellation).ConfigureAwait(false)));
        return command;
    }

    private static void Print(Shell shell, ParseResult parsed, byte[] body)
    {
        var output = parsed.InvocationConfiguration.Output;
        if (shell.WantsJson(parsed))
        {
            Shell.WriteJson(output, body);
            return;
        }
        var report = ApiClient.Parse(body, ManagersJson.Default.StepsReport);
        foreach (var (step, number) in report.Steps.Select((step, index) => (step, index + 1)))
            output.WriteLine($"{Text.Number(number)}. {step}");
        output.WriteLine($"Registry: incarnation {Text.Number(report.Incarnation)}, revision {Text.Number(report.Revision)}.");
    }
}
