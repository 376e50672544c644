using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Run;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet run</c>: a command in an attached namespace of its own, gone with it.</summary>
internal static class RunCommand
{
    public static Command Create(Shell shell)
    {
        var options = new AttachOptions(shell);
        var program = new Argument<string[]>("CMD") { Description = "Program and its arguments, after --", Arity = ArgumentArity.OneOrMore };
        var command = new CliCommand(
            "run", "Run a command in a namespace of its own on a network; both end together",
            "run --network app -- curl -s http://web/", "run --network app --service web --name web4 -- python3 -m http.server 80")
        {
            program,
        };
        options.AddTo(command);
        command.SetAction(async (parsed, cancellation) =>
        {
            using var signals = new ForwardedSignals();
            ScratchNamespace.SweepStale();
            using var scratch = ScratchNamespace.Create();
            using var api = shell.Connect(parsed);
            var attached = ApiClient.Parse(
                await api.Post("/v1/attach", options.Request(parsed, scratch.Path, writeResolvConf: true), OverlayNetJson.Default.AttachRequest, cancellation).ConfigureAwait(false),
                OverlayNetJson.Default.AttachResponse);
            try
            {
                // 'ip netns exec' also mounts the namespace's resolv.conf, and becomes the command: its pid is the command's.
                return signals.RunToEnd("ip", ["netns", "exec", scratch.Name, .. parsed.GetValue(program)!]);
            }
            finally
            {
                scratch.KillInside();
                await Detach(api, attached.Endpoint.Id, parsed.InvocationConfiguration.Error).ConfigureAwait(false);
            }
        });
        return command;
    }

    private static async Task Detach(ApiClient api, string endpoint, TextWriter error)
    {
        try
        {
            await api.Post("/v1/detach", new DetachRequest { Endpoint = endpoint }, OverlayNetJson.Default.DetachRequest, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is CommandFailure or DaemonUnreachable)
        {
            // The namespace goes anyway, and the daemon withdraws an endpoint whose namespace is gone.
            error.WriteLine($"overlaynet: endpoint {endpoint} not detached: {e.Message}");
        }
    }
}
