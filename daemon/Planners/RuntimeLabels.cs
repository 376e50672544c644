using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Planners;

/// <summary>Labels of endpoints by which the daemon knows what a container runtime calls them.</summary>
public static class RuntimeLabels
{
    /// <summary>The Docker endpoint's id; empty while Docker has only asked for the address.</summary>
    public const string DockerEndpoint = "overlaynet.docker.endpoint";

    /// <summary>The container's id, once Docker has told it.</summary>
    public const string DockerContainer = "overlaynet.docker.container";

    /// <summary>Whether a runtime moves the interface into the container and configures it there.</summary>
    public static bool IsConfiguredByRuntime(Endpoint endpoint) => endpoint.Labels.ContainsKey(DockerEndpoint);
}
