using System.CommandLine;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet attach</c>: a network namespace becomes a network's endpoint.</summary>
internal static class AttachCommand
{
    public static Command Create(Shell shell)
    {
        var options = new AttachOptions(shell);
        var netns = NamespaceOption("Network namespace to attach: a name below /run/netns, or a path");
        var pid = Inputs.Number("--pid", 1, int.MaxValue, "Attach the namespace of this process instead", "PID");
        var resolv = new Option<bool>("--resolv-conf") { Description = "Write /etc/netns/NAME/resolv.conf, so that 'ip netns exec NAME' asks the network's resolver" };
        var command = new CliCommand(
            "attach", "Attach a network namespace of this node to a network",
            "attach --network app --service web --netns web1", "attach --network app --netns /proc/4242/ns/net --ip 10.10.0.50 --alias db")
        {
            netns, pid, resolv,
        };
        options.AddTo(command);
        command.Validators.Add(result =>
        {
            if (result.GetResult(netns) is null == result.GetResult(pid) is null)
                result.AddError(Inputs.Complaint("say which namespace, once", "give --netns NAME|PATH or --pid PID"));
        });
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var path = parsed.GetValue(pid) is { } id ? $"/proc/{Text.Number(id)}/ns/net" : PathOf(parsed.GetValue(netns)!);
            var body = await api.Post("/v1/attach", options.Request(parsed, path, parsed.GetValue(resolv)), OverlayNetJson.Default.AttachRequest, cancellation).ConfigureAwait(false);
            var output = parsed.InvocationConfiguration.Output;
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var answer = ApiClient.Parse(body, OverlayNetJson.Default.AttachResponse);
            output.WriteLine($"{answer.Endpoint.Name} ({Text.ShortId(answer.Endpoint.Id)}) is on network {answer.Network.Name}: {Text.Join(answer.Endpoint.Address4, answer.Endpoint.Address6)}; resolver {Text.Join([.. answer.Dns])}; MTU {Text.Number(answer.Mtu)}");
        });
        return command;
    }

    public static Option<string?> NamespaceOption(string description)
    {
        var option = Inputs.Text("--netns", description, "NAME|PATH");
        option.CompletionSources.Add(_ => Directory.Exists(NamedNamespaces.Directory) ? Directory.EnumerateFiles(NamedNamespaces.Directory).Select(path => Path.GetFileName(path)) : []);
        return option;
    }

    /// <summary>A bare name is one that <c>ip netns</c> made.</summary>
    public static string PathOf(string netns) => netns.Contains('/') ? Path.GetFullPath(netns) : NamedNamespaces.PathOf(netns);
}

/// <summary>What attach and run have in common.</summary>
internal sealed class AttachOptions
{
    private readonly Option<string?> _network, _service, _name, _ip, _ip6, _mac, _interface;
    private readonly Option<string[]> _aliases, _labels;
    private readonly Option<int?> _weight;
    private readonly HealthOptions _health = new("Check of its own, in place of its service's");

    public AttachOptions(Shell shell)
    {
        _network = Objects.ReferenceOption("--network", "Network to attach to", NetworkCommands.ListPath, shell);
        _network.Required = true;
        _service = Objects.ReferenceOption("--service", "Service to be a backend of", ServiceCommands.ListPath, shell);
        _name = Inputs.Text("--name", "Name of the endpoint; default: the namespace's", "NAME");
        _ip = Inputs.Address("--ip", "IPv4 address; default: the next free one", System.Net.Sockets.AddressFamily.InterNetwork);
        _ip6 = Inputs.Address("--ip6", "IPv6 address; default: the next free one", System.Net.Sockets.AddressFamily.InterNetworkV6);
        _mac = Inputs.Text("--mac", "MAC address; default: one that follows from the address", "MAC");
        _aliases = Inputs.Texts("--alias", "Further name of the endpoint, any number", "NAME");
        _weight = Inputs.Number("--weight", 0, 65535, "Share of new connections; 0: none. Default: 1", "WEIGHT");
        _interface = Inputs.Text("--interface", "Name of the interface inside the namespace; default: eth0", "NAME");
        _labels = Inputs.Labels();
    }

    public void AddTo(Command command)
    {
        foreach (var option in new Option[] { _network, _service, _name, _ip, _ip6, _mac, _aliases, _weight, _interface, _labels })
            command.Options.Add(option);
        _health.AddTo(command);
    }

    public AttachRequest Request(ParseResult parsed, string netnsPath, bool writeResolvConf) => new()
    {
        Network = parsed.GetValue(_network)!,
        Service = parsed.GetValue(_service),
        Netns = netnsPath,
        Name = parsed.GetValue(_name),
        Ip = parsed.GetValue(_ip),
        Ip6 = parsed.GetValue(_ip6),
        Mac = parsed.GetValue(_mac),
        Aliases = parsed.GetValue(_aliases) is { Length: > 0 } aliases ? [.. aliases] : null,
        Weight = parsed.GetValue(_weight),
        Health = _health.Words(parsed),
        Interface = parsed.GetValue(_interface),
        WriteResolvConf = writeResolvConf,
        Labels = Inputs.LabelsOf(parsed.GetValue(_labels)),
    };
}
