using System.CommandLine;
using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Tools.Api;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Commands;

/// <summary><c>overlaynet network</c>.</summary>
internal static class NetworkCommands
{
    public const string ListPath = "/v1/networks";

    public static Command Create(Shell shell) => new CliCommand("network", "Overlay networks", "network create --subnet 10.10.0.0/24 app", "network ls")
    {
        Make(shell),
        List(shell),
        Objects.Inspect(shell, "network", ListPath, "network inspect app"),
        Objects.Remove(shell, "network", ListPath, "Remove networks that nothing is attached to", "network rm app"),
        Prune(shell),
    };

    private static CliCommand Make(Shell shell)
    {
        var name = new Argument<string>("NAME") { Description = "One DNS label, unique in the cluster" };
        var subnet = Inputs.Prefixes("--subnet", "Subnet; once a family. Default: the next free /24 of 10.96.0.0/12");
        var subnet6 = Inputs.Prefix("--subnet6", "IPv6 subnet", System.Net.Sockets.AddressFamily.InterNetworkV6);
        var range = Inputs.Prefix("--ip-range", "Part of the IPv4 subnet that addresses are handed out from", System.Net.Sockets.AddressFamily.InterNetwork);
        var gateway = Inputs.Address("--gateway", "IPv4 address of the gateway and resolver; default: the first of the subnet", System.Net.Sockets.AddressFamily.InterNetwork);
        var gateway6 = Inputs.Address("--gateway6", "IPv6 address of the gateway and resolver; default: the first of the subnet", System.Net.Sockets.AddressFamily.InterNetworkV6);
        var vni = Inputs.Number("--vni", 1, 16777215, "VXLAN network identifier; default: the next free one from 4096 on", "VNI");
        var mtu = Inputs.Number("--mtu", 576, 65485, "MTU inside the network, in bytes; default: the underlay's less VXLAN's overhead", "BYTES");
        var isInternal = new Option<bool>("--internal") { Description = "No way to the outside: no default route, no egress NAT" };
        var encrypted = new Option<bool>("--encrypted") { Description = "Refused by daemons that cannot encrypt: nothing is ever sent in the clear under this flag" };
        var overlap = new Option<bool>("--allow-overlap") { Description = "Allow a subnet that overlaps another network's (never the hosts' routes)" };
        var labels = Inputs.Labels();
        var command = new CliCommand("create", "Make an overlay network", "network create app", "network create --subnet 10.10.0.0/24 --subnet6 fd00:10::/64 app", "network create --internal --mtu 1400 backend")
        {
            subnet, subnet6, range, gateway, gateway6, vni, mtu, isInternal, encrypted, overlap, labels, name,
        };
        command.Validators.Add(result =>
        {
            var given = result.GetResult(subnet)?.Tokens.Select(token => token.Value).Concat(result.GetResult(subnet6)?.Tokens.Select(token => token.Value) ?? []).ToList() ?? [];
            foreach (var family in given.GroupBy(prefix => prefix.Contains(':')).Where(family => family.Count() > 1))
                result.AddError(Inputs.Complaint($"--subnet is given twice for one family: {string.Join(" and ", family)}", "a network has at most one IPv4 and one IPv6 subnet; make a second network"));
        });
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var subnets = parsed.GetValue(subnet) ?? [];
            var body = await api.Post(ListPath, new NetworkCreateRequest
            {
                Name = parsed.GetValue(name)!,
                Subnet = subnets.FirstOrDefault(prefix => !prefix.Contains(':')),
                Subnet6 = parsed.GetValue(subnet6) ?? subnets.FirstOrDefault(prefix => prefix.Contains(':')),
                IpRange = parsed.GetValue(range),
                Gateway = parsed.GetValue(gateway),
                Gateway6 = parsed.GetValue(gateway6),
                Vni = parsed.GetValue(vni),
                Mtu = parsed.GetValue(mtu) ?? 0,
                Internal = parsed.GetValue(isInternal),
                Encrypted = parsed.GetValue(encrypted),
                AllowOverlap = parsed.GetValue(overlap),
                Labels = Inputs.LabelsOf(parsed.GetValue(labels)),
            }, OverlayNetJson.Default.NetworkCreateRequest, cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
                Shell.WriteJson(parsed.InvocationConfiguration.Output, body);
            else
                parsed.InvocationConfiguration.Output.WriteLine(ApiClient.Parse(body, OverlayNetJson.Default.Network).Id);
        });
        return command;
    }

    private static CliCommand List(Shell shell)
    {
        var quiet = new Option<bool>("--quiet", "-q") { Description = "Print ids only" };
        var command = new CliCommand("ls", "List the networks", "network ls", "network ls --json") { quiet };
        command.Aliases.Add("list");
        shell.Read(command, _ => ListPath, (parsed, body) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            var networks = ApiClient.Parse(body, OverlayNetJson.Default.ListNetwork).OrderBy(network => network.Name, StringComparer.Ordinal);
            if (parsed.GetValue(quiet))
            {
                foreach (var network in networks)
                    output.WriteLine(network.Id);
                return;
            }
            var table = new Table("NETWORK ID", "NAME", "VNI", "SUBNETS", "GATEWAYS", "MTU", "INTERNAL", "AGE");
            foreach (var network in networks)
            {
                table.Add(
                    Text.ShortId(network.Id), network.Name, Text.Number(network.Vni), Text.Or(Text.Join(network.Subnet4, network.Subnet6)), Text.Or(Text.Join(network.Gateway4, network.Gateway6)),
                    network.Mtu == 0 ? "auto" : Text.Number(network.Mtu), network.Internal.ToString(CultureInfo.InvariantCulture).ToLowerInvariant(), Text.Age(network.CreatedAtUnixMs, DateTimeOffset.UtcNow));
            }
            table.Write(output);
        });
        return command;
    }

    private static CliCommand Prune(Shell shell)
    {
        var force = new Option<bool>("--force", "-f") { Description = "Do not ask" };
        var command = new CliCommand("prune", "Remove every network without endpoints and services", "network prune --force") { force };
        shell.Action(command, async (parsed, api, cancellation) =>
        {
            var output = parsed.InvocationConfiguration.Output;
            if (!parsed.GetValue(force) && !Confirmed(output))
                return;
            var body = await api.Post($"{ListPath}/prune", cancellation).ConfigureAwait(false);
            if (shell.WantsJson(parsed))
            {
                Shell.WriteJson(output, body);
                return;
            }
            foreach (var network in ApiClient.Parse(body, OverlayNetJson.Default.ListNetwork))
                output.WriteLine(network.Name);
        });
        return command;
    }

    private static bool Confirmed(TextWriter output)
    {
        output.Write("This removes every network without endpoints and services. Go on? [y/N] ");
        return Console.In.ReadLine()?.Trim().ToLowerInvariant() is "y" or "yes";
    }
}
