using System.Security.Cryptography;
using System.Text;

namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>What an attachment made through CNI is called in the registry.</summary>
public static class CniNames
{
    /// <summary>Labels of an endpoint that came by CNI; together they are the key of an attachment in the specification.</summary>
    public const string NetworkLabel = "overlaynet.cni.network", ContainerLabel = "overlaynet.cni.container", InterfaceLabel = "overlaynet.cni.interface";

    private const int MaxLabel = 63, ShortLength = 6, ContainerIdLength = 64, ShownLength = 12;

    /// <summary>
    /// The endpoint's id follows from node and attachment, so that DEL finds it without a namespace, and a second ADD
    /// finds the first. Container ids are unique on their node only.
    /// </summary>
    public static string EndpointId(string nodeId, string network, string containerId, string ifName) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\0', nodeId, network, containerId, ifName))).AsSpan(0, 8));

    /// <summary>The endpoint's name: the container's as one DNS label; a container known by a hash only goes by its beginning, as runtimes print it.</summary>
    public static string EndpointName(string? containerName, string containerId)
    {
        var raw = containerName ?? (containerId.Length == ContainerIdLength && containerId.All(char.IsAsciiHexDigit) ? containerId[..ShownLength] : containerId);
        var label = Label(raw);
        return label is "" or "tasks" ? $"container-{Short(containerId)}" : label;
    }

    /// <summary>A name beside one that is taken already: another node may have a container of the same name.</summary>
    public static string Distinguished(string name, string endpointId) =>
        $"{name[..Math.Min(name.Length, MaxLabel - ShortLength - 1)].TrimEnd('-')}-{endpointId[..ShortLength]}";

    private static string Label(string text)
    {
        var label = string.Concat(text.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-')).Trim('-');
        return label.Length > MaxLabel ? label[..MaxLabel].TrimEnd('-') : label;
    }

    private static string Short(string containerId) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(containerId)).AsSpan(0, 3));
}
