using System.CommandLine;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Netavark;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet netavark</c>: what podman 5 calls for networks of driver overlaynet. Errors are netavark's: {"error": "..."}.</summary>
internal static class NetavarkCommand
{
    public static Command Create(Shell shell)
    {
        var command = new CliCommand("netavark", "The netavark plugin: called by podman 5", "netavark info");
        var info = new CliCommand("info", "Print the plugin's version and its API's");
        info.SetAction(parsed => parsed.InvocationConfiguration.Output.WriteLine(
            new JsonObject { ["version"] = typeof(NetavarkCommand).Assembly.GetName().Version!.ToString(3), ["api_version"] = NetavarkPlugin.ApiVersion }.ToJsonString()));
        command.Subcommands.Add(info);
        command.Subcommands.Add(Verb(shell, "create", "Check and complete a podman network; JSON on standard input", withNetns: false, async (api, input, _, cancellation) =>
        {
            var reference = NetavarkPlugin.NetworkOf(input);
            var network = await api.Get($"/v1/networks/{Uri.EscapeDataString(reference)}", OverlayNetJson.Default.Network, cancellation).ConfigureAwait(false);
            return NetavarkPlugin.Create(input, network);
        }));
        command.Subcommands.Add(Verb(shell, "setup", "Attach a container; JSON on standard input", withNetns: true, async (api, input, netns, cancellation) =>
        {
            var attached = ApiClient.Parse(
                await api.Post("/v1/attach", NetavarkPlugin.Attach(input, netns), OverlayNetJson.Default.AttachRequest, cancellation).ConfigureAwait(false), OverlayNetJson.Default.AttachResponse);
            return NetavarkPlugin.Status(attached);
        }));
        command.Subcommands.Add(Verb(shell, "teardown", "Detach a container; JSON on standard input", withNetns: true, async (api, input, netns, cancellation) =>
        {
            try
            {
                await api.Post("/v1/detach", new DetachRequest { Network = NetavarkPlugin.Attach(input, netns).Network, Netns = netns }, OverlayNetJson.Default.DetachRequest, cancellation).ConfigureAwait(false);
            }
            catch (CommandFailure e) when (e.ExitCode == ExitCodes.BadInput)
            {
                // Not attached any more: the reaper, or a teardown before this one.
            }
            return null;
        }));
        return command;
    }

    private static CliCommand Verb(Shell shell, string name, string description, bool withNetns, Func<ApiClient, JsonObject, string, CancellationToken, Task<JsonObject?>> act)
    {
        var netns = new Argument<string>("NETNS") { Description = "Path of the container's network namespace" };
        var command = new CliCommand(name, description);
        if (withNetns)
            command.Arguments.Add(netns);
        command.SetAction(async (parsed, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            try
            {
                var input = NetavarkPlugin.Parse(await Console.In.ReadToEndAsync(cancellation).ConfigureAwait(false));
                using var api = shell.Connect(parsed);
                if (await act(api, input, withNetns ? parsed.GetValue(netns)! : "", cancellation).ConfigureAwait(false) is { } answer)
                    output.WriteLine(answer.ToJsonString());
                return ExitCodes.Ok;
            }
            catch (Exception e) when (e is CommandFailure or DaemonUnreachable)
            {
                var remedy = e is CommandFailure { Remedy: { Length: > 0 } what } ? $"; {what}" : "";
                output.WriteLine(new JsonObject { ["error"] = $"overlaynet: {e.Message}{remedy}" }.ToJsonString());
                return ExitCodes.Failed;
            }
        });
        return command;
    }
}
