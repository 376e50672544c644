using System.CommandLine;
using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet vip</c>: floating VIPs.</summary>
internal static class VipCommands
{
    public const string ListPath = "/v1/vips";
    private static readonly TimeSpan MovePatience = TimeSpan.FromSeconds(15), MoveLook = TimeSpan.FromMilliseconds(100);

    public static Command Create(Shell shell) => new CliCommand(
        "vip", "Addresses that move between nodes, with never two owners",
        "vip create --address 192.0.2.100/24 --vrid 51 --interface eth0 front", "vip explain front", "vip move front node2")
    {
        Make(shell),
        List(shell),
        Explain(shell),
        Move(shell),
        Objects.Remove(shell, "vip", ListPath, "Remove floating VIPs; their holders give them up", "vip rm front"),
    };

    private static CliCommand Make(Shell shell)
    {
        var name = new Argument<string>("NAME") { Description = "One DNS label" };
        var addresses = Inputs.Texts("--address", "Address with the prefix of the segment, of either family, any number", "ADDRESS/PREFIX");
        addresses.Required = true;
        var vrid = Inputs.Number("--vrid", 0, 255, "Virtual router's number, 1 to 255; nobody else on the segment may use it", "VRID");
        vrid.Required = true;
        var networkInterface = Inputs.Text("--interface", "Interface on every node that may hold it", "NAME");
        networkInterface.Required = true;
        var mode = Inputs.Word("--mode", "Who decides; fenced is the default", "fenced", "vrrp");
        var priorities = Inputs.Texts("--priority", "For all nodes (100), or for one; naming nodes leaves the others out. Any number", "[NODE=]N");
        var nodeLabels = Inputs.Texts("--node-label", "Only nodes with this label take part, any number", "KEY=VALUE");
        var advert = Inputs.Number("--advert", 10, 255000, "Interval of advertisements in milliseconds, a multiple of 10; default 1000", "MS");
        var version = Inputs.Number("--vrrp-version", 2, 3, "Version of VRRP; default 3", "N");
        var unicast = new Option<bool>("--unicast") { Description = "Advertise to the other nodes' addresses instead of the multicast group (IPv4)" };
        var profile = Inputs.Word("--profile", "How fast a crash is noticed: within 4.5 s, or within 1 s at a price", "default", "fast");
        var storeLoss = Inputs.Word("--store-loss", "What a holder does without the registry", "release", "hold-all", "vrrp");
        var noPreempt = new Option<bool>("--no-preempt") { Description = "A higher priority that comes back does not take the VIP" };
        var preemptDelay = Inputs.Number("--preempt-delay", 0, 3_600_000, "How long a higher priority waits before it takes the VIP, in milliseconds", "MS");
        var group = Inputs.Text("--sync-group", "VIPs of one group move together", "NAME");
        var tracks = Inputs.Texts("--track", "interface:NAME, process:NAME, script:PATH or route:PREFIX, then ,weight=N ,interval=MS ,rise=N ,fall=N; without a weight down means not fit. Any number", "KIND:TARGET");
        var notify = Inputs.Text("--notify", "Program run at every change with NAME STATE PRIORITY EPOCH", "PATH");
        var macvlan = new Option<bool>("--macvlan") { Description = "Give the addresses the virtual router's own MAC address" };
        var service = Objects.ReferenceOption("--service", "Service whose balancer answers the ports", ServiceCommands.ListPath, shell);
        var network = Objects.ReferenceOption("--network", "The service's network, where its name alone is ambiguous", NetworkCommands.ListPath, shell);
        var ports = Inputs.Ports("Port at the VIP; [PORT:]PORT-OF-THE-SERVICE, with --service");
        var labels = Inputs.Labels();
        var command = new CliCommand(
            "create", "Make a floating VIP",
            "vip create --address 192.0.2.100/24 --vrid 51 --interface eth0 front",
            "vip create --address 192.0.2.100/24 --address 2001:db8::100/64 --vrid 51 --interface eth0 --priority node1=150 --priority node2=100 front",
            "vip create --address 192.0.2.100/24 --vrid 52 --interface eth0 --service web --port 80 --profile fast web",
            "vip create --address 192.0.2.101/24 --vrid 53 --interface eth0 --mode vrrp --priority node1=150 --priority node2=100 --advert 100 plain")
        {
            addresses, vrid, networkInterface, mode, priorities, nodeLabels, advert, version, unicast, profile, storeLoss, noPreempt, preemptDelay, group, tracks, notify, macvlan, service, network, ports, labels,
        };
        command.Arguments.Add(name);
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var body = await api.Post(ListPath, new VipCreateRequest
            {
                Name = parsed.GetValue(name)!,
                Addresses = [.. parsed.GetValue(addresses)!],
                Vrid = parsed.GetValue(vrid) ?? 0,
                Interface = parsed.GetValue(networkInterface)!,
                Mode = Word<FloatingVipMode>(parsed.GetValue(mode)),
                Priorities = [.. parsed.GetValue(priorities) ?? []],
                NodeLabels = Inputs.LabelsOf(parsed.GetValue(nodeLabels)),
                AdvertMs = parsed.GetValue(advert) ?? 1000,
                Version = parsed.GetValue(version) ?? 3,
                Unicast = parsed.GetValue(unicast),
                Profile = Word<FenceProfile>(parsed.GetValue(profile)),
                StoreLoss = Word<StoreLoss>(parsed.GetValue(storeLoss)),
                Preempt = !parsed.GetValue(noPreempt),
                PreemptDelayMs = parsed.GetValue(preemptDelay) ?? 0,
                SyncGroup = parsed.GetValue(group),
                Tracks = [.. parsed.GetValue(tracks) ?? []],
                Notify = parsed.GetValue(notify),
                Macvlan = parsed.GetValue(macvlan),
                Service = parsed.GetValue(service),
                Network = parsed.GetValue(network),
                Ports = [.. parsed.GetValue(ports) ?? []],
                Labels = Inputs.LabelsOf(parsed.GetValue(labels)),
            }, OverlayNetJson.Default.VipCreateRequest, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                parsed.InvocationConfiguration.Output.WriteLine(ApiClient.Parse(body, OverlayNetJson.Default.FloatingVip).Id);
        });
        return command;
    }

    private static CliCommand List(Shell shell)
    {
        var command = new CliCommand("ls", "List the floating VIPs and who holds them", "vip ls", "vip ls --json");
        command.Aliases.Add("list");
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var body = await api.Get(ListPath, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            var nodes = (await api.Get("/v1/nodes", OverlayNetJson.Default.ListNode, cancellation).ConfigureAwait(false)).ToDictionary(node => node.Id, node => node.Name);
            var holders = (await api.Get("/v1/vip-holders", OverlayNetJson.Default.ListVipHolder, cancellation).ConfigureAwait(false)).ToDictionary(holder => holder.Set);
            var table = new Table("ID", "NAME", "ADDRESSES", "VRID", "INTERFACE", "MODE", "HOLDER", "EPOCH");
            foreach (var vip in ApiClient.Parse(body, OverlayNetJson.Default.ListFloatingVip))
            {
                var holder = holders.GetValueOrDefault(vip.LeaseSet);
                table.Add(
                    Text.ShortId(vip.Id), vip.Name, string.Join(", ", vip.Addresses), Text.Number(vip.Vrid), vip.Interface, Text.Word(vip.Mode),
                    vip.Mode == FloatingVipMode.Vrrp ? "by VRRP" : holder?.NodeId is { } id ? nodes.GetValueOrDefault(id, id) : "nobody",
                    holder is null ? "-" : Epoch(holder.Incarnation, holder.Epoch));
            }
            table.Write(output);
        });
        return command;
    }

    private static CliCommand Explain(Shell shell)
    {
        var reference = Objects.Reference("VIP", "floating VIP", ListPath, shell);
        reference.Arity = ArgumentArity.ZeroOrOne;
        var command = new CliCommand("explain", "Why this node holds a floating VIP, or does not", "vip explain front", "vip explain --json") { reference };
        shell.Read(command, parsed => $"/v1/vip-explain{Text.Query(("vip", parsed.GetValue(reference)))}", (parsed, body) =>
        {
            foreach (var vip in ApiClient.Parse(body, OverlayNetJson.Default.ListVipExplanation))
                Write(parsed.InvocationConfiguration.Output, vip);
        });
        return command;
    }

    private static CliCommand Move(Shell shell)
    {
        var reference = Objects.Reference("VIP", "floating VIP", ListPath, shell);
        var node = Objects.Reference("NODE", "node", "/v1/nodes", shell);
        var command = new CliCommand("move", "Hand a floating VIP to a node, which keeps it whatever the priorities say", "vip move front node2") { reference, node };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var target = await api.Get($"/v1/nodes/{Text.Escape(parsed.GetValue(node)!)}", OverlayNetJson.Default.Node, cancellation).ConfigureAwait(false);
            var body = await api.Post($"{ListPath}/{Text.Escape(parsed.GetValue(reference)!)}/move", new VipMoveRequest { Node = target.Id }, OverlayNetJson.Default.VipMoveRequest, cancellation).ConfigureAwait(false);
            var vip = ApiClient.Parse(body, OverlayNetJson.Default.FloatingVip);
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            patience.CancelAfter(MovePatience);
            while (true)
            {
                var holder = (await api.Get("/v1/vip-holders", OverlayNetJson.Default.ListVipHolder, cancellation).ConfigureAwait(false)).FirstOrDefault(holder => holder.Set == vip.LeaseSet);
                if (holder?.NodeId == target.Id)
                {
                    parsed.InvocationConfiguration.Output.WriteLine($"{vip.Name} is on {target.Name}, epoch {Epoch(holder.Incarnation, holder.Epoch)}");
                    return;
                }
                if (patience.IsCancellationRequested)
                    throw new CommandFailure(ExitCodes.Failed, $"{vip.Name}: {target.Name} has not taken it within {MovePatience.TotalSeconds:0} s", $"see 'overlaynet vip explain {vip.Name}' on {target.Name} and on the holder");
                await Task.Delay(MoveLook, cancellation).ConfigureAwait(false);
            }
        });
        return command;
    }

    private static void Write(TextWriter output, VipExplanation vip)
    {
        void Line(string label, string text) => output.WriteLine($"{label,-12}{text}");
        output.WriteLine($"{vip.Name} ({string.Join(", ", vip.Addresses)}), VRID {Text.Number(vip.Vrid)} on {vip.Interface}");
        Line("node", $"{vip.Node}: {vip.State}{(vip.SecondsInState is { } seconds ? $" for {Text.Seconds(seconds)}" : "")}");
        Line("because", vip.Reason);
        Line("holder", vip.Holder is null ? "nobody" : vip.Mode == FloatingVipMode.Vrrp ? vip.Holder : $"{vip.Holder}, epoch {Epoch(vip.Incarnation, vip.Epoch)}");
        if (vip.Mode == FloatingVipMode.Fenced)
        {
            Line("lease", vip.LeaseLeftMs is { } lease ? $"{Milliseconds(lease)} left" : "nobody's");
            Line("gate", vip.GateLeftMs is { } gate ? $"open for {Milliseconds(gate)} ({vip.Gate})" : $"shut{(vip.Gate.Length > 0 ? $" ({vip.Gate})" : "")}");
            Line("policy", $"profile {Text.Word(vip.Profile)}; without the registry {(vip.StoreLoss == StoreLoss.HoldAll ? "hold-all" : Text.Word(vip.StoreLoss))}");
        }
        Line("priority", $"{Text.Number(vip.Priority)}: {Text.Or(vip.PriorityReason)}");
        if (vip.SyncGroup is { } group)
            Line("sync group", group);
        if (vip.Service is { } service)
            Line("service", service);
        foreach (var peer in vip.Peers)
            Line("heard", $"{peer.Address}{(peer.Node is { } name ? $" ({name})" : "")}: priority {Text.Number(peer.Priority)}, every {Text.Number(peer.AdvertMs)} ms, {Text.Seconds(peer.SecondsAgo)} ago");
        foreach (var alarm in vip.Alarms)
            Line("alarm", alarm);
        output.WriteLine();
    }

    private static string Epoch(long incarnation, long epoch) => string.Create(CultureInfo.InvariantCulture, $"{incarnation}.{epoch}");

    private static string Milliseconds(double value) => string.Create(CultureInfo.InvariantCulture, $"{value:0} ms");

    private static T Word<T>(string? word) where T : struct, Enum => word is null ? default : Enum.Parse<T>(word.Replace("-", "", StringComparison.Ordinal), ignoreCase: true);
}
