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
        Role(shell, "promote", "Make workers managers: they get a share in the registry"),
        Role(shell, "demote", "Make managers workers, as far as a majority is left"),
        Objects.Remove(shell, "node", "/v1/nodes", "Remove a node that will not come back, and its endpoints", "node rm node3", force: "Also while its daemon runs or it has endpoints"),
    };

    private static CliCommand List(Shell shell)
    {
        var command = new CliCommand("ls", "List the nodes, and what the managers can still lose", "node ls", "node ls --json", "node ls --managers --json");
        command.Aliases.Add("list");
        var only = new Option<bool>("--managers") { Description = "The managers alone: their members of the store, their lag, the quorum" };
        command.Add(only);
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var nodes = await api.Get("/v1/nodes", cancellation).ConfigureAwait(false);
            var list = ApiClient.Parse(nodes, OverlayNetJson.Default.ListNode);
            byte[]? managers = null;
            try
            {
                if (parsed.GetValue(only) || (!shell.WantsJson(parsed) && list.Any(node => node.Role == NodeRole.Manager)))
                    managers = await api.Get("/v1/managers", cancellation).ConfigureAwait(false);
            }
            catch (CommandFailure) when (!parsed.GetValue(only))
            {
                // It comes from a manager; without one the list of nodes is still worth having.
            }
            if (shell.WantsJson(parsed))
                Shell.WriteJson(output, parsed.GetValue(only) ? managers! : nodes);
            else
                Print(output, parsed.InvocationConfiguration.Error, list, managers is null ? null : ApiClient.Parse(managers, ManagersJson.Default.ManagersReport), parsed.GetValue(only));
        });
        return command;
    }

    private static void Print(TextWriter output, TextWriter error, List<Node> nodes, ManagersReport? managers, bool onlyManagers)
    {
        if (!onlyManagers)
        {
            var table = new Table("ID", "NAME", "STATE", "AVAILABILITY", "ROLE", "ADDRESS", "DC", "VERSION");
            foreach (var node in nodes.OrderBy(node => node.Name, StringComparer.Ordinal))
                table.Add(Text.ShortId(node.Id), node.Name, Text.Word(node.State), Text.Word(node.Availability), Text.Word(node.Role), node.Address.ToString(), node.Dc, Text.Or(node.Version));
            table.Write(output);
        }
        if (managers is null)
        {
            if (nodes.Any(node => node.Role == NodeRole.Manager))
                error.WriteLine("overlaynet: no word of the managers; names and VIPs go on from the last snapshot");
            return;
        }
        if (!onlyManagers)
            output.WriteLine();
        var list = new Table("MANAGER", "REACHABLE", "STORE", "REVISION", "LAG", "HEARD", "TROUBLE");
        foreach (var manager in managers.Managers)
        {
            list.Add(manager.Name, manager.Reachable ? "yes" : "NO", manager.Leader ? "leader" : manager.Member, Text.Number(manager.Revision), Text.Number(manager.Lag),
                manager.SecondsSinceHeard is { } seconds ? $"{Text.Seconds(seconds)} ago" : "never", Text.Or(manager.Trouble));
        }
        list.Write(output);
        output.WriteLine($"Registry ({managers.Store}): {managers.Summary}.");
    }

    private static CliCommand Role(Shell shell, string verb, string description)
    {
        var references = Objects.References("NODE", "node", "/v1/nodes", shell);
        var command = new CliCommand(verb, description, $"node {verb} node2") { references };
        shell.Action(command, (parsed, api, cancellation) => Objects.Each(parsed, parsed.GetValue(references)!, reference =>
            api.Post($"/v1/nodes/{Text.Escape(reference)}/{verb}", cancellation)));
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
