namespace OverlayNet.Overlay;

/// <summary>
/// What says that a namespace or a link is ours: an alias <c>overlaynet:CLUSTER:NODE:NETWORK</c> on the loopback of
/// each network's namespace, and on the links we make elsewhere. Removal goes by it and never by a name alone.
/// </summary>
public sealed record OwnershipMark(string Cluster, string Node, string Network)
{
    private const string Prefix = "overlaynet:";

    public static OwnershipMark? Parse(string? alias)
    {
        if (alias is null || !alias.StartsWith(Prefix, StringComparison.Ordinal))
            return null;
        var parts = alias[Prefix.Length..].Split(':', 3);
        return parts.Length == 3 ? new OwnershipMark(parts[0], parts[1], parts[2]) : null;
    }

    /// <summary>The alias of an endpoint's port: the network's mark and the endpoint's id.</summary>
    public string Endpoint(string id) => $"{this}/{id}";

    public override string ToString() => $"{Prefix}{Cluster}:{Node}:{Network}";
}
