using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet node</c>.</summary>
internal static class NodeCommands
{
    public static Command Create(Shell shell) => new CliCommand("node", "The cluster's machines", "node ls", "node drain node2")
    {
        List(shell),
        Objects.Inspect(shell, "node", "/v1/nodes", "node inspect node1"),
        Availability(shell, "drain", NodeAvailability.Drain, "Take no new work on a node and drain what runs there"),
        Availability(shell, "pause", NodeAvailability.Pause, "Take no new work on a node; what runs there goes on"),
        Availability(shell, "activate", NodeAvailability.Active, "Take work on a node again"),
        Objects.Remove(shell, "node", "/v1/nodes", "Remove a node that will not come back, and its endpoints", "node rm node3", force: "Also while its daemon runs or it has endpoints"),
    };

    private static CliCommand List(Shell shell)
    {
        var command = new CliCommand("ls", "List the nodes", "node ls", "node ls --json");
        command.Aliases.Add("list");
        shell.Read(command, _ => "/v1/nodes", (parsed, body) =>
        {
            var table = new Table("ID", "NAME", "STATE", "AVAILABILITY", "ROLE", "ADDRESS", "DC", "VERSION");
            foreach (var node in ApiClient.Parse(body, OverlayNetJson.Default.ListNode).OrderBy(node => node.Name, StringComparer.Ordinal))
                table.Add(Text.ShortId(node.Id), node.Name, Text.Word(node.State), Text.Word(node.Availability), Text.Word(node.Role), node.Address.ToString(), node.Dc, Text.Or(node.Version));
            table.Write(parsed.InvocationConfiguration.Output);
        });
        return command;
    }

    private static CliCommand Availability(Shell shell, string verb, NodeAvailability availability, string description)
    {
        var references = Objects.References("NODE", "node", "/v1/nodes", shell);
        var command = new CliCommand(verb, description, $"node {verb} node2") { references };
        shell.Action(command, (parsed, api, cancellation) => Objects.Each(parsed, parsed.GetValue(references)!, reference =>
            api.Patch($"/v1/nodes/{Text.Escape(reference)}", new NodeUpdateRequest { Availability = availability }, OverlayNetJson.Default.NodeUpdateRequest, cancellation)));
        return command;
    }
}
