using System.Text.Json;

namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>The network configuration together with what CNI_ARGS says, checked as far as one can without the registry.</summary>
public sealed record CniConfig
{
    public required string CniVersion { get; init; }

    /// <summary>The configuration's name: with container id and interface it names an attachment.</summary>
    public required string Name { get; init; }

    /// <summary>The overlay network, name or id.</summary>
    public required string Network { get; init; }
    public string? Service { get; init; }
    public int? Weight { get; init; }
    public IReadOnlyList<string> Aliases { get; init; } = [];

    /// <summary>What the runtime calls the container (K8S_POD_NAME; podman gives its container's name there).</summary>
    public string? ContainerName { get; init; }
    public string? Address4 { get; init; }
    public string? Address6 { get; init; }
    public string? Mac { get; init; }
    public IReadOnlyDictionary<string, string> Labels { get; init; } = new Dictionary<string, string>();

    /// <summary>The result of the plugin before this one in the chain, or at CHECK the one of ADD.</summary>
    public JsonElement? PreviousResult { get; init; }

    /// <summary>GC: what is in use; null: the runtime did not say.</summary>
    public IReadOnlyList<(string ContainerId, string IfName)>? ValidAttachments { get; init; }

    /// <exception cref="CniException">Code 1, 6 or 7.</exception>
    public static CniConfig Parse(JsonElement config, string? arguments)
    {
        if (config.ValueKind != JsonValueKind.Object)
            throw new CniException(CniErrorCode.Decode, "the network configuration is not a JSON object");
        var version = Text(config, "cniVersion") ?? "0.1.0";
        CniVersions.Require(version);
        var name = Text(config, "name") is { Length: > 0 } given ? given : throw Invalid("name", null, "a network configuration needs one", "add \"name\": \"...\"");
        if (config.TryGetProperty("ipam", out var ipam) && ipam.ValueKind == JsonValueKind.Object && ipam.EnumerateObject().Any())
            throw Invalid("ipam", ipam.GetRawText(), "addresses come from the cluster's registry", "leave \"ipam\" out");
        var runtime = Section(config, "runtimeConfig");
        var conventional = Section(Section(config, "args"), "cni");
        var environment = CniArguments.Parse(arguments);
        var labels = LabelsOf(conventional);
        var ips = Strings(runtime, "ips") is { Count: > 0 } capability ? capability
            : Strings(conventional, "ips") is { Count: > 0 } convention ? convention
            : environment.TryGetValue("IP", out var listed) ? listed.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries) : [];
        var addresses = ips.Select(ip => ip.Split('/')[0]).ToList();
        return new CniConfig
        {
            CniVersion = version,
            Name = name,
            Network = Text(config, "network") is { Length: > 0 } network ? network : name,
            Service = FirstOf(environment.GetValueOrDefault("OVERLAYNET_SERVICE"), labels.GetValueOrDefault("overlaynet.service"), Text(config, "service")),
            Weight = Number(config, "weight"),
            Aliases = [.. Strings(config, "aliases").Concat(RuntimeAliases(runtime, name)).Distinct()],
            ContainerName = FirstOf(environment.GetValueOrDefault("OVERLAYNET_NAME"), environment.GetValueOrDefault("K8S_POD_NAME")),
            Address4 = addresses.FirstOrDefault(address => !address.Contains(':')),
            Address6 = addresses.FirstOrDefault(address => address.Contains(':')),
            Mac = FirstOf(Text(runtime, "mac"), Text(conventional, "mac"), environment.GetValueOrDefault("MAC")),
            Labels = labels,
            PreviousResult = config.TryGetProperty("prevResult", out var previous) && previous.ValueKind == JsonValueKind.Object ? previous : null,
            ValidAttachments = Attachments(config),
        };
    }

    /// <summary>podman sends an object of lists by network name, others a plain list.</summary>
    private static IEnumerable<string> RuntimeAliases(JsonElement runtime, string name)
    {
        if (runtime.ValueKind != JsonValueKind.Object || !runtime.TryGetProperty("aliases", out var aliases))
            return [];
        return aliases.ValueKind == JsonValueKind.Object ? Strings(aliases, name) : Strings(runtime, "aliases");
    }

    /// <summary>The convention for args: <c>"labels": [{"key": "app", "value": "web"}]</c>; an object of strings is taken too.</summary>
    private static Dictionary<string, string> LabelsOf(JsonElement section)
    {
        var labels = new Dictionary<string, string>();
        if (section.ValueKind != JsonValueKind.Object || !section.TryGetProperty("labels", out var listed))
            return labels;
        if (listed.ValueKind == JsonValueKind.Array)
        {
            foreach (var entry in listed.EnumerateArray())
                labels[Text(entry, "key") ?? throw Invalid("args.cni.labels", entry.GetRawText(), "an entry needs a key", "write {\"key\": \"...\", \"value\": \"...\"}")] = Text(entry, "value") ?? "";
        }
        else if (listed.ValueKind == JsonValueKind.Object)
        {
            foreach (var entry in listed.EnumerateObject())
                labels[entry.Name] = entry.Value.ValueKind == JsonValueKind.String ? entry.Value.GetString()! : entry.Value.GetRawText();
        }
        return labels;
    }

    private static List<(string, string)>? Attachments(JsonElement config)
    {
        if (!config.TryGetProperty("cni.dev/valid-attachments", out var listed) && !config.TryGetProperty("cni.dev/attachments", out listed))
            return null;
        if (listed.ValueKind != JsonValueKind.Array)
            throw Invalid("cni.dev/valid-attachments", listed.GetRawText(), "it is not a list", "write [{\"containerID\": \"...\", \"ifname\": \"...\"}]");
        return [.. listed.EnumerateArray().Select(entry => (
            Text(entry, "containerID") ?? throw Invalid("cni.dev/valid-attachments", entry.GetRawText(), "an entry needs containerID", "write {\"containerID\": \"...\", \"ifname\": \"...\"}"),
            Text(entry, "ifname") ?? ""))];
    }

    private static JsonElement Section(JsonElement parent, string name) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(name, out var section) ? section : default;

    private static string? Text(JsonElement section, string name)
    {
        if (section.ValueKind != JsonValueKind.Object || !section.TryGetProperty(name, out var value) || value.ValueKind == JsonValueKind.Null)
            return null;
        return value.ValueKind == JsonValueKind.String ? value.GetString() : throw Invalid(name, value.GetRawText(), "it is not a string", $"write \"{name}\": \"...\"");
    }

    private static int? Number(JsonElement section, string name)
    {
        if (!section.TryGetProperty(name, out var value))
            return null;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) ? number : throw Invalid(name, value.GetRawText(), "it is not a whole number", $"write \"{name}\": 1");
    }

    private static IReadOnlyList<string> Strings(JsonElement section, string name)
    {
        if (section.ValueKind != JsonValueKind.Object || !section.TryGetProperty(name, out var list) || list.ValueKind == JsonValueKind.Null)
            return [];
        if (list.ValueKind != JsonValueKind.Array || list.EnumerateArray().Any(entry => entry.ValueKind != JsonValueKind.String))
            throw Invalid(name, list.GetRawText(), "it is not a list of strings", $"write \"{name}\": [\"...\"]");
        return [.. list.EnumerateArray().Select(entry => entry.GetString()!)];
    }

    private static string? FirstOf(params string?[] values) => values.FirstOrDefault(value => !string.IsNullOrEmpty(value));

    private static CniException Invalid(string field, string? value, string problem, string remedy) =>
        new(CniErrorCode.InvalidConfig, value is null ? $"{field}: {problem}" : $"{field} '{value}': {problem}", remedy);
}
