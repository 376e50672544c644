using System.Net;
using System.Text.Json.Serialization;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

/// <summary>What belongs to the cluster as a whole.</summary>
internal sealed record ClusterRecord
{
    public const string DefaultDomain = "overlay.internal";
    public const string DefaultDc = "dc1";

    public string ClusterDomain { get; set; } = DefaultDomain;
    public string Dc { get; set; } = DefaultDc;
    public long CreatedAtUnixMs { get; init; }
}

/// <summary>The addresses a network gave out last.</summary>
internal sealed record AllocationRecord
{
    public IPAddress? Last4 { get; init; }
    public IPAddress? Last6 { get; init; }
}

/// <summary>While it is there, the registry has been restored or recovered and not all nodes have said what they have.</summary>
internal sealed record RecoveryRecord
{
    /// <summary>Ids of the nodes that are waited for.</summary>
    public IReadOnlyList<string> Waiting { get; set; } = [];
}

/// <summary>What only managers read.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    Converters = [typeof(IPAddressConverter)])]
[JsonSerializable(typeof(ClusterRecord))]
[JsonSerializable(typeof(AllocationRecord))]
[JsonSerializable(typeof(RecoveryRecord))]
internal sealed partial class RegistryJson : JsonSerializerContext;
