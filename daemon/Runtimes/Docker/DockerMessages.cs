using System.Text.Json.Serialization;

namespace OverlayNet.Daemon.Runtimes.Docker;

// What is read and written of the Docker Engine API (1.41 of Docker 20.10, and newer). Field names are Docker's.

internal sealed record DockerVersion
{
    public string Version { get; set; } = "";
}

internal sealed record DockerIpamConfig
{
    public string? Subnet { get; init; }
    public string? Gateway { get; init; }
}

internal sealed record DockerIpam
{
    public string? Driver { get; init; }
    public Dictionary<string, string>? Options { get; init; }
    public List<DockerIpamConfig>? Config { get; init; }
}

internal sealed record DockerNetwork
{
    public string Id { get; set; } = "";
    public string Name { get; set; } = "";
    public string Driver { get; set; } = "";
    public string Scope { get; set; } = "";
    public DockerIpam? IPAM { get; init; }
    public Dictionary<string, string>? Options { get; init; }
    public Dictionary<string, string>? Labels { get; init; }
}

internal sealed record DockerNetworkCreate
{
    public required string Name { get; init; }
    public bool CheckDuplicate { get; init; }
    public required string Driver { get; init; }
    public bool Internal { get; init; }
    public bool Attachable { get; init; }
    public bool EnableIPv6 { get; init; }
    public required DockerIpam IPAM { get; init; }
    public required Dictionary<string, string> Options { get; init; }
    public required Dictionary<string, string> Labels { get; init; }
}

internal sealed record DockerContainerEntry
{
    public string Id { get; set; } = "";
}

internal sealed record DockerContainerConfig
{
    public Dictionary<string, string>? Labels { get; init; }
}

internal sealed record DockerContainerState
{
    public bool Running { get; init; }
    public int Pid { get; init; }
}

internal sealed record DockerContainerEndpoint
{
    public string NetworkID { get; set; } = "";
    public string EndpointID { get; set; } = "";
    public string IPAddress { get; set; } = "";
    public string GlobalIPv6Address { get; set; } = "";
    public List<string>? Aliases { get; init; }
}

internal sealed record DockerContainerNetworks
{
    public string SandboxKey { get; set; } = "";
    public Dictionary<string, DockerContainerEndpoint>? Networks { get; init; }
}

internal sealed record DockerContainer
{
    public string Id { get; set; } = "";

    /// <summary>With a slash in front.</summary>
    public string Name { get; set; } = "";
    public DockerContainerConfig? Config { get; init; }
    public DockerContainerState? State { get; init; }
    public DockerContainerNetworks? NetworkSettings { get; init; }
}

internal sealed record DockerActor
{
    public string ID { get; set; } = "";
    public Dictionary<string, string>? Attributes { get; init; }
}

internal sealed record DockerEvent
{
    public string Type { get; set; } = "";
    public string Action { get; set; } = "";
    public DockerActor? Actor { get; init; }
}

internal sealed record DockerError
{
    [JsonPropertyName("message")]
    public string Message { get; set; } = "";
}

[JsonSourceGenerationOptions(UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(DockerVersion))]
[JsonSerializable(typeof(List<DockerNetwork>))]
[JsonSerializable(typeof(DockerNetworkCreate))]
[JsonSerializable(typeof(List<DockerContainerEntry>))]
[JsonSerializable(typeof(DockerContainer))]
[JsonSerializable(typeof(DockerEvent))]
[JsonSerializable(typeof(DockerError))]
internal sealed partial class DockerJson : JsonSerializerContext;
