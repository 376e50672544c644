using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet detach</c>.</summary>
internal static class DetachCommand
{
    public static Command Create(Shell shell)
    {
        var network = Objects.ReferenceOption("--network", "Network to detach from", NetworkCommands.ListPath, shell);
        var netns = AttachCommand.NamespaceOption("Network namespace to detach: a name below /run/netns, or a path");
        var endpoint = new Argument<string?>("ENDPOINT") { Description = "Name or id, instead of --network and --netns", Arity = ArgumentArity.ZeroOrOne };
        var command = new CliCommand("detach", "Take a network namespace of this node off a network", "detach --network app --netns web1", "detach web1") { network, netns, endpoint };
        command.Validators.Add(result =>
        {
            var byPlace = result.GetResult(network) is not null && result.GetResult(netns) is not null;
            var partly = result.GetResult(network) is not null || result.GetResult(netns) is not null;
            var byName = result.GetResult(endpoint) is { Tokens.Count: > 0 };
            if (byName == byPlace || (byName && partly))
                result.AddError(Inputs.Complaint("say what to detach, in one way", "give --network and --netns, or an endpoint's name or id"));
        });
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            await api.Post("/v1/detach", new DetachRequest
            {
                Network = parsed.GetValue(network),
                Netns = parsed.GetValue(netns) is { } given ? AttachCommand.PathOf(given) : null,
                Endpoint = parsed.GetValue(endpoint),
            }, OverlayNetJson.Default.DetachRequest, cancellation).ConfigureAwait(false);
            parsed.InvocationConfiguration.Output.WriteLine(parsed.GetValue(endpoint) ?? parsed.GetValue(netns));
        });
        return command;
    }
}
