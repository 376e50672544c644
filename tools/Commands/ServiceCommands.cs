using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet service</c>.</summary>
internal static class ServiceCommands
{
    public const string ListPath = "/v1/services";
    private static readonly string[] Schedulers = ["rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq"];

    public static Command Create(Shell shell) => new CliCommand("service", "Names with a virtual IP in front of endpoints", "service create --network app --port 80 web", "service backends web")
    {
        Make(shell),
        Update(shell),
        List(shell),
        Objects.Inspect(shell, "service", ListPath, "service inspect web", Network(shell)),
        Objects.Remove(shell, "service", ListPath, "Remove services", "service rm web", Network(shell), force: "Also with endpoints, which stay attached without a service"),
        Backends(shell),
        CollectGarbage(shell),
    };

    private static CliCommand CollectGarbage(Shell shell)
    {
        var service = new Argument<string?>("SERVICE") { Description = "Only this service's endpoints; default: everything", Arity = ArgumentArity.ZeroOrOne };
        var network = Network(shell);
        var after = Inputs.Number("--after", 0, 366 * 86400, "Seconds that an endpoint has been unreachable; default: an hour", "SECONDS");
        var dry = new Option<bool>("--dry-run") { Description = "Say which, remove none" };
        var command = new CliCommand("gc", "Remove what is left of nodes that have been silent for long: endpoints that no other node reaches", "service gc --dry-run", "service gc --after 600 web") { network, after, dry, service };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post("/v1/services/gc" + Text.Query(
                ("service", parsed.GetValue(service)), ("network", parsed.GetValue(network)), ("after", parsed.GetValue(after) is { } seconds ? Text.Number(seconds) : null), ("dry-run", parsed.GetValue(dry) ? "true" : null)), cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
                return;
            }
            foreach (var endpoint in ApiClient.Parse(body, OverlayNetJson.Default.ListEndpoint))
                parsed.InvocationConfiguration.Output.WriteLine(endpoint.Name);
        });
        return command;
    }

    private static Option<string?> Network(Shell shell) =>
        Objects.ReferenceOption("--network", "Network, where the service's name alone is ambiguous", NetworkCommands.ListPath, shell);

    private static CliCommand Make(Shell shell)
    {
        var name = new Argument<string>("NAME") { Description = "One DNS label, unique in its network" };
        var network = Objects.ReferenceOption("--network", "Network the service is on", NetworkCommands.ListPath, shell);
        network.Required = true;
        var settings = new Settings();
        var vip = Inputs.Address("--vip", "Virtual IPv4 address; default: the next free one", System.Net.Sockets.AddressFamily.InterNetwork);
        var vip6 = Inputs.Address("--vip6", "Virtual IPv6 address; default: the next free one", System.Net.Sockets.AddressFamily.InterNetworkV6);
        var publish = Inputs.Word("--publish-mode", "Where published ports answer", "ingress", "host");
        var command = new CliCommand(
            "create", "Make a service",
            "service create --network app --port 80 --health http:/healthz web", "service create --network app --port 8080:80/tcp --port dns=53/udp --alias www web", "service create --network app --endpoint-mode dnsrr db")
        {
            network, vip, vip6, publish,
        };
        settings.AddTo(command);
        command.Arguments.Add(name);
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post(ListPath, new ServiceCreateRequest
            {
                Name = parsed.GetValue(name)!,
                Network = parsed.GetValue(network)!,
                Ports = Given(parsed, settings.Ports),
                EndpointMode = Word<EndpointMode>(parsed.GetValue(settings.Mode)) ?? EndpointMode.Vip,
                Vip = parsed.GetValue(vip),
                Vip6 = parsed.GetValue(vip6),
                Aliases = Given(parsed, settings.Aliases),
                Scheduler = parsed.GetValue(settings.Scheduler)?.ToLowerInvariant(),
                AffinitySeconds = parsed.GetValue(settings.Affinity) ?? 0,
                Balancer = Word<BalancerKind>(parsed.GetValue(settings.Balancer)) ?? BalancerKind.Auto,
                PublishMode = Word<PublishMode>(parsed.GetValue(publish)) ?? PublishMode.Ingress,
                PublishPolicy = Word<PublishPolicy>(parsed.GetValue(settings.Policy)) ?? PublishPolicy.Cluster,
                DrainSeconds = parsed.GetValue(settings.Drain),
                SlowStartSeconds = parsed.GetValue(settings.SlowStart) ?? 0,
                Health = settings.Health.Words(parsed),
                LostAfter = parsed.GetValue(settings.LostAfter),
                OnReturn = Word<OnReturn>(parsed.GetValue(settings.OnReturn)),
                StopOnClientAfter = parsed.GetValue(settings.StopOnClientAfter),
                PublishNotReady = parsed.GetValue(settings.NotReady),
                Labels = Inputs.LabelsOf(parsed.GetValue(settings.Labels)),
            }, OverlayNetJson.Default.ServiceCreateRequest, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                parsed.InvocationConfiguration.Output.WriteLine(ApiClient.Parse(body, OverlayNetJson.Default.Service).Id);
        });
        return command;
    }

    private static CliCommand Update(Shell shell)
    {
        var reference = Objects.Reference("SERVICE", "service", ListPath, shell);
        var network = Network(shell);
        var settings = new Settings();
        var command = new CliCommand("update", "Change a service; what is not named stays as it is", "service update --port 80 --port 443 web", "service update --scheduler lc --drain 60 web") { network };
        settings.AddTo(command);
        command.Arguments.Add(reference);
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Patch(Objects.PathOf(ListPath, parsed.GetValue(reference)!, parsed, network), new ServiceUpdateRequest
            {
                Ports = Given(parsed, settings.Ports),
                EndpointMode = Word<EndpointMode>(parsed.GetValue(settings.Mode)),
                Aliases = Given(parsed, settings.Aliases),
                Scheduler = parsed.GetValue(settings.Scheduler)?.ToLowerInvariant(),
                AffinitySeconds = parsed.GetValue(settings.Affinity),
                Balancer = Word<BalancerKind>(parsed.GetValue(settings.Balancer)),
                PublishPolicy = Word<PublishPolicy>(parsed.GetValue(settings.Policy)),
                DrainSeconds = parsed.GetValue(settings.Drain),
                SlowStartSeconds = parsed.GetValue(settings.SlowStart),
                Health = settings.Health.Words(parsed),
                LostAfter = parsed.GetValue(settings.LostAfter),
                OnReturn = Word<OnReturn>(parsed.GetValue(settings.OnReturn)),
                StopOnClientAfter = parsed.GetValue(settings.StopOnClientAfter),
                PublishNotReady = parsed.GetValue(settings.NotReady),
                Labels = Inputs.LabelsOf(parsed.GetValue(settings.Labels)),
            }, OverlayNetJson.Default.ServiceUpdateRequest, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                parsed.InvocationConfiguration.Output.WriteLine(ApiClient.Parse(body, OverlayNetJson.Default.Service).Id);
        });
        return command;
    }

    private static CliCommand List(Shell shell)
    {
        var network = Objects.ReferenceOption("--network", "Only services of this network", NetworkCommands.ListPath, shell);
        var command = new CliCommand("ls", "List the services", "service ls", "service ls --network app --json") { network };
        command.Aliases.Add("list");
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var body = await api.Get(ListPath + Text.Query(("network", parsed.GetValue(network))), cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var networks = (await api.Get(NetworkCommands.ListPath, OverlayNetJson.Default.ListNetwork, cancellation).ConfigureAwait(false)).ToDictionary(n => n.Id, n => n.Name);
            var endpoints = (await api.Get(EndpointCommands.ListPath, OverlayNetJson.Default.ListEndpoint, cancellation).ConfigureAwait(false)).ToLookup(e => e.ServiceId);
            var table = new Table("ID", "NAME", "NETWORK", "MODE", "VIP", "PORTS", "BACKENDS", "SCHEDULER");
            foreach (var service in ApiClient.Parse(body, OverlayNetJson.Default.ListService).OrderBy(service => service.Name, StringComparer.Ordinal))
            {
                var members = endpoints[service.Id].ToList();
                table.Add(
                    Text.ShortId(service.Id), service.Name, networks.GetValueOrDefault(service.NetworkId, service.NetworkId), Text.Word(service.EndpointMode), Text.Or(Text.Join(service.Vip4, service.Vip6)),
                    Text.Or(string.Join(", ", service.Ports.Select(Text.Port)), "all"),
                    $"{members.Count(e => e.State is EndpointState.Healthy or EndpointState.Recovering)}/{members.Count}", service.Scheduler);
            }
            table.Write(output);
        });
        return command;
    }

    private static CliCommand Backends(Shell shell)
    {
        var reference = Objects.Reference("SERVICE", "service", ListPath, shell);
        var network = Network(shell);
        var command = new CliCommand("backends", "Show the real servers: state, weight, share, what the checks say, and what is held by protection", "service backends web", "service backends --json web") { network, reference };
        shell.Read(command, parsed => $"{ListPath}/{Text.Escape(parsed.GetValue(reference)!)}/backends{Text.Query(("network", parsed.GetValue(network)))}", (parsed, body) => BackendsView.Write(parsed.InvocationConfiguration.Output, ApiClient.Parse(body, OverlayNetJson.Default.ListBackendReport)));
        return command;
    }


    private static List<string>? Given(ParseResult parsed, Option<string[]> option) => parsed.GetValue(option) is { Length: > 0 } values ? [.. values] : null;

    private static T? Word<T>(string? word) where T : struct, Enum => word is null ? null : Enum.Parse<T>(word, ignoreCase: true);

    /// <summary>What both create and update take.</summary>
    private sealed class Settings
    {
        public Option<string[]> Ports { get; } = Inputs.Ports("Port at the VIP; PUB where it differs from the endpoint's. Default: every port");
        public Option<string?> Mode { get; } = Inputs.Word("--endpoint-mode", "What the name resolves to", "vip", "dnsrr");
        public Option<string[]> Aliases { get; } = Inputs.Texts("--alias", "Further name with the same answers, any number", "NAME");
        public Option<string?> Scheduler { get; } = Inputs.Word("--scheduler", "How connections are spread", Schedulers);
        public Option<int?> Affinity { get; } = Inputs.Number("--affinity", 0, 86400, "Keep a client on one backend for this many seconds", "SECONDS");
        public Option<string?> Balancer { get; } = Inputs.Word("--balancer", "What carries the VIP", "auto", "ipvs", "nft", "ebpf");
        public Option<int?> Drain { get; } = Inputs.Number("--drain", 0, 86400, "How long a drained endpoint's live flows may go on, in seconds", "SECONDS");
        public Option<int?> SlowStart { get; } = Inputs.Number("--slow-start", 0, 86400, "How long an endpoint that has become healthy takes to reach its full weight, in seconds", "SECONDS");
        public Option<string?> Policy { get; } = Inputs.Word("--publish-policy", "Which endpoints published ports lead to: all, or only the ingress node's own", "cluster", "local");
        public HealthOptions Health { get; } = new("Check of its endpoints");
        public Option<string?> LostAfter { get; } = Inputs.Text("--lost-after", "An endpoint on a silent node that nobody has reached for so long is lost, such as 10m; 0: never", "DURATION");
        public Option<string?> OnReturn { get; } = Inputs.Word("--on-return", "What of a lost endpoint: it is removed for a replacement, or taken back when its node returns", "replace", "reconcile");
        public Option<string?> StopOnClientAfter { get; } = Inputs.Text("--stop-on-client-after", "A node that no manager has answered for so long stops the service on itself, such as 5m; 0: never", "DURATION");
        public Option<bool?> NotReady { get; } = new("--publish-not-ready") { Description = "tasks.NAME also lists endpoints that are starting or fail their checks" };
        public Option<string[]> Labels { get; } = Inputs.Labels();

        public void AddTo(Command command)
        {
            foreach (var option in new Option[] { Ports, Mode, Aliases, Scheduler, Affinity, Balancer, Drain, SlowStart, Policy, LostAfter, OnReturn, StopOnClientAfter, NotReady, Labels })
                command.Options.Add(option);
            Health.AddTo(command);
        }
    }
}
