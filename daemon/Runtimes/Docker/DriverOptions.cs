using System.Globalization;
using System.Text.Json;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// What a container says of its endpoint: by <c>--network name=N,driver-opt=KEY=VALUE</c> (or <c>driver_opts</c> in a compose
/// file), or by container labels of the same keys. Kept as labels of the endpoint, so that they outlast the daemon.
/// </summary>
internal sealed record DriverOptions
{
    public const string ServiceKey = "overlaynet.service", AliasKey = "overlaynet.alias", NameKey = "overlaynet.name", WeightKey = "overlaynet.weight";

    public string? Service { get; init; }
    public string? Name { get; init; }
    public List<string>? Aliases { get; init; }
    public int? Weight { get; init; }

    /// <exception cref="RegistryException">A value cannot be taken.</exception>
    public static DriverOptions From(Dictionary<string, JsonElement>? options) =>
        From((options ?? []).Where(entry => entry.Value.ValueKind == JsonValueKind.String).ToDictionary(entry => entry.Key, entry => entry.Value.GetString()!));

    /// <exception cref="RegistryException">A value cannot be taken.</exception>
    public static DriverOptions From(IReadOnlyDictionary<string, string> options)
    {
        var weight = Text(options, WeightKey);
        return new DriverOptions
        {
            Service = Text(options, ServiceKey),
            Name = Text(options, NameKey) is { } name ? Names.Label(NameKey, name) : null,
            Aliases = Text(options, AliasKey) is { } aliases ? [.. Names.Labels(AliasKey, aliases.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))] : null,
            Weight = weight is null ? null
                : int.TryParse(weight, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? Names.Weight(number)
                : throw Refuse.Invalid("invalid-weight", WeightKey, weight, "it is not a number", "use 0 (drain) to 65535"),
        };
    }

    /// <summary>These, with those of <paramref name="other"/> where these say nothing.</summary>
    public DriverOptions Or(DriverOptions other) => new()
    {
        Service = Service ?? other.Service,
        Name = Name ?? other.Name,
        Aliases = Aliases ?? other.Aliases,
        Weight = Weight ?? other.Weight,
    };

    /// <summary>Labels of the endpoint.</summary>
    public Dictionary<string, string> Labels(string dockerEndpointId)
    {
        var labels = new Dictionary<string, string> { [RuntimeLabels.DockerEndpoint] = dockerEndpointId };
        foreach (var (key, value) in new[]
                 {
                     (ServiceKey, Service), (NameKey, Name), (AliasKey, Aliases is null ? null : string.Join(',', Aliases)),
                     (WeightKey, Weight?.ToString(CultureInfo.InvariantCulture)),
                 })
        {
            if (value is not null)
                labels[key] = value;
        }
        return labels;
    }

    private static string? Text(IReadOnlyDictionary<string, string> options, string key) => options.GetValueOrDefault(key) is { Length: > 0 } text ? text : null;
}
