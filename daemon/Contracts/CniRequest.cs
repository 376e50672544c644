using System.Text.Json;

namespace OverlayNet.Contracts;

/// <summary>One call of the CNI plugin, as the runtime made it: the environment's CNI_* variables and what stood on standard input.</summary>
public sealed record CniRequest
{
    /// <summary>ADD, DEL, CHECK, GC or STATUS.</summary>
    public required string Command { get; init; }
    public string? ContainerId { get; init; }

    /// <summary>Path of the container's network namespace; may be empty at DEL, when it is gone.</summary>
    public string? Netns { get; init; }
    public string? IfName { get; init; }

    /// <summary><c>KEY=VALUE;KEY=VALUE</c>.</summary>
    public string? Args { get; init; }

    /// <summary>The network configuration, a JSON object.</summary>
    public required JsonElement Config { get; init; }
}
