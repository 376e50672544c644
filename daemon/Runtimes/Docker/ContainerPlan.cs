using OverlayNet.Contracts;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>From what Docker says of a container to what its endpoint is to be called and to belong to. Pure.</summary>
internal static class ContainerPlan
{
    private const int ShortIdLength = 12;

    /// <returns>
    /// What to change, null when nothing; and what could not be done, null when everything could.
    /// </returns>
    public static (EndpointUpdateRequest? Change, string? Problem) Plan(Snapshot snapshot, Endpoint endpoint, DockerContainer container, DockerContainerEndpoint docker)
    {
        DriverOptions options;
        try
        {
            // What was said of this one endpoint goes before what was said of the container.
            options = DriverOptions.From(endpoint.Labels).Or(DriverOptions.From(container.Config?.Labels ?? []));
        }
        catch (RegistryException e)
        {
            return (null, e.Message);
        }
        var network = snapshot.Networks[endpoint.NetworkId];
        var own = Label(container.Name.TrimStart('/'));
        var name = options.Name ?? FreeName(snapshot, endpoint, network, own);
        var aliases = (options.Aliases ?? [])
            .Concat((docker.Aliases ?? []).Where(alias => !container.Id.StartsWith(alias, StringComparison.Ordinal) || alias.Length != ShortIdLength).Select(Label))
            .Append(own)
            .OfType<string>()
            .Where(alias => alias != name)
            .Distinct()
            .ToList();
        var (serviceId, problem) = Service(snapshot, network, options.Service);
        var labels = new Dictionary<string, string>(endpoint.Labels) { [RuntimeLabels.DockerContainer] = container.Id };
        var change = new EndpointUpdateRequest
        {
            Name = name == endpoint.Name ? null : name,
            Aliases = aliases.SequenceEqual(endpoint.Aliases) ? null : aliases,
            // A service that is not there (yet) leaves the endpoint as it is.
            Service = problem is not null || serviceId == endpoint.ServiceId ? null : serviceId ?? "",
            Weight = options.Weight is { } weight && weight != endpoint.Weight && endpoint.Labels.GetValueOrDefault(RuntimeLabels.DockerContainer) is null ? weight : null,
            Labels = endpoint.Labels.GetValueOrDefault(RuntimeLabels.DockerContainer) == container.Id ? null : labels,
        };
        return (change == new EndpointUpdateRequest() ? null : change, problem);
    }

    /// <summary>Letters that a DNS label cannot have become hyphens; null when nothing is left.</summary>
    public static string? Label(string name)
    {
        var label = string.Concat(name.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-')).Trim('-');
        label = label[..Math.Min(label.Length, Names.MaxLabel)].TrimEnd('-');
        return label is "" or "tasks" ? null : label;
    }

    private static (string? Id, string? Problem) Service(Snapshot snapshot, Network network, string? reference) => reference is null
        ? (null, null)
        : snapshot.FindService(reference, network.Id).Value is { } service
            ? (service.Id, null)
            : (null, $"network '{network.Name}' has no service '{reference}': create it with 'overlaynet service create --network {network.Name} {reference}', and the container joins by itself");

    /// <summary>Two Dockers may each have a container of the same name: the later one's has its node's name behind, and the name itself as an alias.</summary>
    private static string FreeName(Snapshot snapshot, Endpoint endpoint, Network network, string? own)
    {
        if (own is null)
            return endpoint.Name;
        if (IsFree(own))
            return own;
        var node = snapshot.Nodes.GetValueOrDefault(endpoint.NodeId)?.Name ?? endpoint.NodeId;
        var longer = $"{own[..Math.Min(own.Length, Names.MaxLabel - Math.Min(node.Length, Names.MaxLabel - 2) - 1)]}-{node}";
        return Label(longer) is { } label && IsFree(label) ? label : endpoint.Name;

        bool IsFree(string name) => snapshot.EndpointsNamed(name, network).All(other => other.Id == endpoint.Id || other.Kind != EndpointKind.Container);
    }
}
