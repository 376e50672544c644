using System.CommandLine;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet join</c>: this node becomes a member of a cluster.</summary>
internal static class JoinCommand
{
    public static Command Create(Shell shell)
    {
        var token = new Option<string>("--token") { Description = "From 'overlaynet token show' on a manager", HelpName = "TOKEN", Required = true };
        var host = new Argument<string>("HOST") { Description = "A manager: address or name, with :PORT when it is not 7373 (IPv6 in brackets)" };
        var address = Inputs.Address("--address", "Underlay address of this node; default: the one that reaches the manager");
        var name = Inputs.Text("--name", "This node's name, one DNS label; default: the host's name", "NAME");
        var command = new CliCommand("join", "Join a cluster", "join --token ONT-… 192.0.2.1", "join --token ONT-… --address 192.0.2.2 [2001:db8::1]:7373")
        {
            token, address, name, host,
        };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post("/v1/cluster/join", new JoinClusterRequest
            {
                Token = parsed.GetValue(token)!,
                Host = parsed.GetValue(host)!,
                Address = parsed.GetValue(address) is { } given ? IPAddress.Parse(given) : null,
                NodeName = parsed.GetValue(name),
            }, OverlayNetJson.Default.JoinClusterRequest, cancellation).ConfigureAwait(false);
            var output = parsed.InvocationConfiguration.Output;
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var status = ApiClient.Parse(body, OverlayNetJson.Default.StatusReport);
            output.WriteLine($"Node {status.NodeName} ({status.NodeId}) joined cluster {status.ClusterId} as a {Text.Word(status.Role ?? NodeRole.Worker)}.");
        });
        return command;
    }
}

/// <summary><c>overlaynet leave</c>.</summary>
internal static class LeaveCommand
{
    public static Command Create(Shell shell)
    {
        var force = new Option<bool>("--force", "-f") { Description = "Also with containers attached, or as the last manager" };
        var command = new CliCommand("leave", "Leave the cluster and remove what it made on this node", "leave", "leave --force") { force };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            await api.Post(parsed.GetValue(force) ? "/v1/leave?force=true" : "/v1/leave", cancellation).ConfigureAwait(false);
            parsed.InvocationConfiguration.Output.WriteLine("Node left the cluster.");
        });
        return command;
    }
}
