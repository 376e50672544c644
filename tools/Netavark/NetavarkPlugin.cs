using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;
using OverlayNet.Tools.Cli;

namespace OverlayNet.Tools.Netavark;

/// <summary>Between netavark's plugin API 1.0.0 (podman 5) and the daemon's: pure translation.</summary>
internal static class NetavarkPlugin
{
    public const string ApiVersion = "1.0.0";
    private const string NetworkOption = "network", ServiceOption = "service";
    private const string ContainerLabel = "overlaynet.netavark.container";
    private static readonly string[] KnownOptions = [NetworkOption, ServiceOption];

    /// <exception cref="CommandFailure">It is no JSON object.</exception>
    public static JsonObject Parse(string input)
    {
        try
        {
            return JsonNode.Parse(input) as JsonObject ?? throw new CommandFailure(ExitCodes.BadInput, "standard input is not a JSON object");
        }
        catch (JsonException e)
        {
            throw new CommandFailure(ExitCodes.BadInput, $"standard input is not JSON: {e.Message}");
        }
    }

    /// <summary>The overlay network that a podman network stands for: its option, else its name.</summary>
    public static string NetworkOf(JsonObject network) =>
        Option(network, NetworkOption) ?? Text(network, "name") ?? throw new CommandFailure(ExitCodes.BadInput, "the network has no name");

    /// <summary>The podman network, completed by what the overlay network is. podman hands out no addresses itself.</summary>
    /// <exception cref="CommandFailure">An option that is unknown, or a subnet that is another than the overlay network's.</exception>
    public static JsonObject Create(JsonObject podman, Network overlay)
    {
        foreach (var (name, value) in podman["options"] as JsonObject ?? [])
        {
            if (!KnownOptions.Contains(name))
                throw new CommandFailure(ExitCodes.BadInput, $"option '{name}={value}' is unknown; known are {string.Join(", ", KnownOptions)}");
        }
        IPNetwork?[] subnets = [overlay.Subnet4, overlay.Subnet6];
        foreach (var entry in podman["subnets"] as JsonArray ?? [])
        {
            var wanted = Text(entry, "subnet") ?? "";
            if (subnets.All(subnet => subnet?.ToString() != wanted))
                throw new CommandFailure(ExitCodes.BadInput, $"subnet '{wanted}': overlay network {overlay.Name} has {string.Join(" and ", subnets.Where(subnet => subnet is not null))}; leave --subnet out");
        }
        var result = (JsonObject)podman.DeepClone();
        result["subnets"] = new JsonArray([.. Families(overlay).Select(family => (JsonNode)WithoutNull(new JsonObject { ["subnet"] = family.Subnet.ToString(), ["gateway"] = family.Gateway?.ToString() }))]);
        result["internal"] = overlay.Internal;
        result["ipv6_enabled"] = overlay.Subnet6 is not null;
        // Names are the overlay's own resolver's.
        result["dns_enabled"] = false;
        // Addresses come from the cluster's registry.
        result["ipam_options"] = new JsonObject { ["driver"] = "none" };
        return result;
    }

    public static AttachRequest Attach(JsonObject call, string netns)
    {
        var (network, options) = (Section(call, "network"), Section(call, "network_options"));
        var addresses = Strings(options["static_ips"]);
        var containerId = Text(call, "container_id") ?? throw new CommandFailure(ExitCodes.BadInput, "container_id is missing");
        return new AttachRequest
        {
            Network = NetworkOf(network),
            Service = Option(network, ServiceOption),
            Netns = netns,
            Name = Label(Text(call, "container_name") ?? containerId[..Math.Min(12, containerId.Length)]),
            Ip = addresses.FirstOrDefault(address => !address.Contains(':')),
            Ip6 = addresses.FirstOrDefault(address => address.Contains(':')),
            Mac = Text(options, "static_mac"),
            Aliases = Strings(options["aliases"]) is { Count: > 0 } aliases ? aliases : null,
            Interface = Text(options, "interface_name"),
            Labels = new Dictionary<string, string> { [ContainerLabel] = containerId },
        };
    }

    /// <summary>What podman shows of the attachment and writes into resolv.conf.</summary>
    public static JsonObject Status(AttachResponse attached) => new()
    {
        ["dns_search_domains"] = new JsonArray($"{attached.Network.Name}.{attached.ClusterDomain}"),
        ["dns_server_ips"] = new JsonArray([.. attached.Dns.Select(address => (JsonNode)JsonValue.Create(address.ToString())!)]),
        ["interfaces"] = new JsonObject
        {
            [attached.Endpoint.Interface] = new JsonObject
            {
                ["mac_address"] = attached.Endpoint.Mac,
                ["subnets"] = new JsonArray([.. Addresses(attached).Select(entry => (JsonNode)WithoutNull(new JsonObject
                {
                    ["ipnet"] = $"{entry.Address}/{entry.Family.Subnet.PrefixLength}",
                    ["gateway"] = entry.Family.Gateway?.ToString(),
                }))]),
            },
        },
    };

    private static IEnumerable<(IPAddress Address, (IPNetwork Subnet, IPAddress? Gateway) Family)> Addresses(AttachResponse attached)
    {
        foreach (var family in Families(attached.Network))
        {
            if ((family.Subnet.BaseAddress.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork ? attached.Endpoint.Address4 : attached.Endpoint.Address6) is { } address)
                yield return (address, family);
        }
    }

    private static IEnumerable<(IPNetwork Subnet, IPAddress? Gateway)> Families(Network network)
    {
        if (network.Subnet4 is { } subnet4)
            yield return (subnet4, network.Gateway4);
        if (network.Subnet6 is { } subnet6)
            yield return (subnet6, network.Gateway6);
    }

    private static JsonObject Section(JsonObject parent, string name) =>
        parent[name] as JsonObject ?? throw new CommandFailure(ExitCodes.BadInput, $"{name} is missing");

    private static string? Option(JsonObject network, string name) => network["options"] is JsonObject options ? Text(options, name) : null;

    private static string? Text(JsonNode? parent, string name) =>
        parent is JsonObject section && section[name] is JsonValue value && value.TryGetValue<string>(out var text) && text.Length > 0 ? text : null;

    private static List<string> Strings(JsonNode? list) => list is JsonArray array ? [.. array.Select(entry => (string?)entry).OfType<string>()] : [];

    private static JsonObject WithoutNull(JsonObject section)
    {
        foreach (var name in section.Where(pair => pair.Value is null).Select(pair => pair.Key).ToList())
            section.Remove(name);
        return section;
    }

    /// <summary>podman's names may have capitals, dots and underscores; a DNS label may not.</summary>
    private static string Label(string name)
    {
        var label = string.Concat(name.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-')).Trim('-');
        return label.Length > 63 ? label[..63].TrimEnd('-') : label;
    }
}
