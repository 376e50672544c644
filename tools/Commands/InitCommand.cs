using System.CommandLine;
using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet init</c>: the first node of a cluster.</summary>
internal static class InitCommand
{
    public static Command Create(Shell shell)
    {
        var address = Inputs.Address("--address", "Underlay address of this node; default: the configured one, else the one its default route leaves from");
        var name = Inputs.Text("--name", "This node's name, one DNS label; default: the host's name", "NAME");
        var dc = Inputs.Text("--dc", "Name of the data centre, one DNS label", "NAME");
        var domain = Inputs.Text("--domain", "DNS domain of the cluster; default: overlay.internal", "DOMAIN");
        var port = Inputs.Number("--port", 1, 65535, "TCP port for other nodes; default: 7373", "PORT");
        var command = new CliCommand("init", "Make this node the first one (and a manager) of a new cluster", "init --address 192.0.2.1", "init --address 192.0.2.1 --dc fra --domain corp.internal")
        {
            address, name, dc, domain, port,
        };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post("/v1/init", new InitRequest
            {
                Address = parsed.GetValue(address) is { } given ? IPAddress.Parse(given) : null,
                NodeName = parsed.GetValue(name),
                Dc = parsed.GetValue(dc),
                ClusterDomain = parsed.GetValue(domain),
                ApiPort = parsed.GetValue(port) ?? 7373,
            }, OverlayNetJson.Default.InitRequest, cancellation).ConfigureAwait(false);
            var output = parsed.InvocationConfiguration.Output;
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var status = ApiClient.Parse(body, OverlayNetJson.Default.StatusReport);
            output.WriteLine($"Cluster {status.ClusterId} initialised; node {status.NodeName} ({status.NodeId}) is its manager.");
            output.WriteLine("To add a node, run on it the command that this prints here: overlaynet token show worker");
        });
        return command;
    }
}
