using System.CommandLine;
using System.Text.Json.Nodes;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Cni;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet cni</c>: the CNI plugin's entry, and a configuration to begin with.</summary>
internal static class CniCommand
{
    public static Command Create(Shell shell)
    {
        var command = new CliCommand("cni", "The CNI plugin: called by container runtimes, with CNI_COMMAND and the rest in the environment", "cni config --network app > /etc/cni/net.d/50-app.conflist");
        command.SetAction(_ =>
        {
            using var input = Console.OpenStandardInput();
            using var output = Console.OpenStandardOutput();
            return CniPlugin.Run(Environment.GetEnvironmentVariable, input, output);
        });
        command.Subcommands.Add(Config(shell));
        return command;
    }

    private static CliCommand Config(Shell shell)
    {
        var network = Objects.ReferenceOption("--network", "Network that containers join", NetworkCommands.ListPath, shell);
        network.Required = true;
        var service = Objects.ReferenceOption("--service", "Service that they are backends of", ServiceCommands.ListPath, shell);
        var name = Inputs.Text("--name", "Name of the configuration, which runtimes list; default: the network's", "NAME");
        var portmap = new Option<bool>("--portmap") { Description = "Publish ports by the portmap plugin" };
        var command = new CliCommand("config", "Print a network configuration list for /etc/cni/net.d", "cni config --network app --service web --name app-web") { network, service, name, portmap };
        command.SetAction(parsed =>
        {
            var plugin = new JsonObject { ["type"] = "overlaynet", ["network"] = parsed.GetValue(network) };
            if (parsed.GetValue(service) is { } given)
                plugin["service"] = given;
            // Only what differs from the default: the file is for people, too.
            if (parsed.GetValue(shell.Socket) is { } socket && socket != Shell.DefaultSocket)
                plugin["socket"] = socket;
            plugin["capabilities"] = new JsonObject { ["aliases"] = true, ["ips"] = true, ["mac"] = true };
            var plugins = new JsonArray(plugin);
            if (parsed.GetValue(portmap))
                plugins.Add((JsonNode)new JsonObject { ["type"] = "portmap", ["capabilities"] = new JsonObject { ["portMappings"] = true } });
            var list = new JsonObject { ["cniVersion"] = "0.4.0", ["name"] = parsed.GetValue(name) ?? parsed.GetValue(network), ["plugins"] = plugins };
            parsed.InvocationConfiguration.Output.WriteLine(list.ToJsonString(new System.Text.Json.JsonSerializerOptions { WriteIndented = true }));
        });
        return command;
    }
}
