using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet endpoint</c>.</summary>
internal static class EndpointCommands
{
    public const string ListPath = "/v1/endpoints";

    public static Command Create(Shell shell) => new CliCommand("endpoint", "Attachments of containers to networks", "endpoint ls --service web", "endpoint drain web1")
    {
        List(shell),
        Objects.Inspect(shell, "endpoint", ListPath, "endpoint inspect web1", Network(shell)),
        DrainCommand.Create(shell, Network(shell)),
        State(shell, "activate", EndpointState.Healthy, "Send drained endpoints new connections again"),
        SetWeight(shell),
        SetHealth(shell),
        Check(shell),
        EndpointOtelCommands.Connections(shell, Network(shell)),
        EndpointOtelCommands.Otel(shell, Network(shell)),
        Objects.Remove(shell, "endpoint", ListPath, "Remove endpoints and what they have in the kernel", "endpoint rm web1", Network(shell)),
    };

    private static Option<string?> Network(Shell shell) =>
        Objects.ReferenceOption("--network", "Network, where the endpoint's name alone is ambiguous", NetworkCommands.ListPath, shell);

    private static CliCommand List(Shell shell)
    {
        var network = Objects.ReferenceOption("--network", "Only endpoints of this network", NetworkCommands.ListPath, shell);
        var service = Objects.ReferenceOption("--service", "Only endpoints of this service", ServiceCommands.ListPath, shell);
        var node = Objects.ReferenceOption("--node", "Only endpoints on this node", "/v1/nodes", shell);
        var all = new Option<bool>("--all", "-a") { Description = "Also the nodes' own endpoints" };
        var command = new CliCommand("ls", "List the endpoints", "endpoint ls", "endpoint ls --service web --json") { network, service, node, all };
        command.Aliases.Add("list");
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var query = Text.Query(("network", parsed.GetValue(network)), ("service", parsed.GetValue(service)), ("node", parsed.GetValue(node)));
            var body = await api.Get(ListPath + query, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var nodes = (await api.Get("/v1/nodes", OverlayNetJson.Default.ListNode, cancellation).ConfigureAwait(false)).ToDictionary(n => n.Id, n => n.Name);
            var networks = (await api.Get(NetworkCommands.ListPath, OverlayNetJson.Default.ListNetwork, cancellation).ConfigureAwait(false)).ToDictionary(n => n.Id, n => n.Name);
            var services = (await api.Get(ServiceCommands.ListPath, OverlayNetJson.Default.ListService, cancellation).ConfigureAwait(false)).ToDictionary(s => s.Id, s => s.Name);
            var table = new Table("ID", "NAME", "NETWORK", "SERVICE", "NODE", "ADDRESS", "MAC", "STATE", "WEIGHT");
            foreach (var endpoint in ApiClient.Parse(body, OverlayNetJson.Default.ListEndpoint)
                         .Where(e => e.Kind == EndpointKind.Container || parsed.GetValue(all))
                         .OrderBy(e => e.Name, StringComparer.Ordinal))
            {
                table.Add(
                    Text.ShortId(endpoint.Id), endpoint.Name, networks.GetValueOrDefault(endpoint.NetworkId, endpoint.NetworkId),
                    endpoint.ServiceId is null ? "-" : services.GetValueOrDefault(endpoint.ServiceId, endpoint.ServiceId), nodes.GetValueOrDefault(endpoint.NodeId, endpoint.NodeId),
                    Text.Or(Text.Join(endpoint.Address4, endpoint.Address6)), endpoint.Mac, Text.Word(endpoint.State), Text.Number(endpoint.Weight));
            }
            table.Write(output);
        });
        return command;
    }

    private static CliCommand State(Shell shell, string verb, EndpointState state, string description)
    {
        var references = Objects.References("ENDPOINT", "endpoint", ListPath, shell);
        var network = Network(shell);
        var command = new CliCommand(verb, description, $"endpoint {verb} web1") { network, references };
        shell.Action(command, (parsed, api, cancellation) => Objects.Each(parsed, parsed.GetValue(references)!, reference =>
            api.Patch(Objects.PathOf(ListPath, reference, parsed, network), new EndpointUpdateRequest { State = state }, OverlayNetJson.Default.EndpointUpdateRequest, cancellation)));
        return command;
    }

    private static CliCommand Check(Shell shell)
    {
        var status = new Argument<string>("STATUS") { Description = "What the application says of itself: pass, warn or fail" };
        status.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: not ("pass" or "warn" or "fail") } token])
                result.AddError(Inputs.Complaint($"STATUS '{token.Value}' is unknown", "say pass, warn or fail"));
        });
        var reference = Objects.Reference("ENDPOINT", "endpoint", ListPath, shell);
        var note = Inputs.Text("--note", "Why, for people", "TEXT");
        var command = new CliCommand("check", "Say how an endpoint of this node is, where its service has a ttl check", "endpoint check pass web1", "endpoint check fail web1 --note 'queue is full'") { note, status, reference };
        shell.Action(command, (parsed, api, cancellation) => api.Post(
            $"{ListPath}/{Text.Escape(parsed.GetValue(reference)!)}/check", new CheckWord { Status = parsed.GetValue(status)!, Note = parsed.GetValue(note) }, OverlayNetJson.Default.CheckWord, cancellation));
        return command;
    }

    private static CliCommand SetHealth(Shell shell)
    {
        var reference = Objects.Reference("ENDPOINT", "endpoint", ListPath, shell);
        var network = Network(shell);
        var health = new HealthOptions("Check of its own, or none for its service's again");
        var command = new CliCommand(
            "set-health", "Check an endpoint otherwise than its service's others", "endpoint set-health --health http:8080/ready web1", "endpoint set-health --health-interval 1s web1", "endpoint set-health --health none web1")
        {
            network, reference,
        };
        health.AddTo(command);
        command.Validators.Add(result =>
        {
            if (!health.IsGiven(result))
                result.AddError(Inputs.Complaint("say which check", "give --health or one of the --health- options"));
        });
        shell.Action(command, (parsed, api, cancellation) => Objects.Each(parsed, [parsed.GetValue(reference)!], name =>
            api.Patch(Objects.PathOf(ListPath, name, parsed, network), new EndpointUpdateRequest { Health = health.Words(parsed) }, OverlayNetJson.Default.EndpointUpdateRequest, cancellation)));
        return command;
    }

    private static CliCommand SetWeight(Shell shell)
    {
        var reference = Objects.Reference("ENDPOINT", "endpoint", ListPath, shell);
        var network = Network(shell);
        var weight = Inputs.NumberArgument("WEIGHT", 0, 65535, "Share of new connections relative to the service's other endpoints");
        var command = new CliCommand("set-weight", "Change an endpoint's share of new connections", "endpoint set-weight web1 3") { network, reference, weight };
        shell.Action(command, (parsed, api, cancellation) => Objects.Each(parsed, [parsed.GetValue(reference)!], name =>
            api.Patch(Objects.PathOf(ListPath, name, parsed, network), new EndpointUpdateRequest { Weight = parsed.GetValue(weight) }, OverlayNetJson.Default.EndpointUpdateRequest, cancellation)));
        return command;
    }
}
