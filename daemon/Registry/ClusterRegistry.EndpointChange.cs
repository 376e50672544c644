using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    /// <summary>With a check, its first successes make an endpoint healthy, not that its path is there: an application that is not up yet gets no traffic.</summary>
    private static EndpointState NextState(Snapshot snapshot, Endpoint before, EndpointState wanted) =>
        before.State == EndpointState.Starting && wanted == EndpointState.Healthy && HealthTargets.IsChecked(snapshot, before) ? before.State : wanted;

    /// <returns><paramref name="before"/> itself when nothing changes.</returns>
    private static Endpoint PlanEndpointChange(Draft draft, Endpoint before, EndpointUpdateRequest request)
    {
        var network = draft.Snapshot.Networks[before.NetworkId];
        if (request.Netns is { Length: > 0 } netns && netns[0] != '/')
            throw Refuse.Invalid("invalid-netns", "netns", netns, "it is not an absolute path", "write it as /run/netns/NAME");
        var after = before with
        {
            State = NextState(draft.Snapshot, before, request.State ?? before.State),
            Weight = Names.Weight(request.Weight ?? before.Weight),
            Name = request.Name is null ? before.Name : Names.Label("name", request.Name),
            ServiceId = request.Service switch
            {
                null => before.ServiceId,
                "" => null,
                var reference => ServiceOn(draft.Snapshot, network, reference).Id,
            },
            Aliases = request.Aliases is null ? before.Aliases : Names.Labels("aliases", request.Aliases),
            Netns = request.Netns ?? before.Netns,
            Interface = request.Interface is null ? before.Interface : Names.Interface(request.Interface),
            Labels = request.Labels is null ? before.Labels : Names.UserLabels(request.Labels),
        };
        after = after with { Health = OwnCheck(after.ServiceId is { } of ? draft.Snapshot.Services.GetValueOrDefault(of) : null, request.Health, before.Health) };
        if (Same(before, after))
            return before;
        if (after.State != before.State)
            after = after with { StateSinceUnixMs = draft.NowUnixMs, RampEighths = 0 };
        draft.Put(after);
        if (after.Name != before.Name)
        {
            ThrowIfNamed(draft.Snapshot, network, after.Name);
            draft.Release(Keys.EndpointName(network.Id, before.Name));
            draft.Claim(Keys.EndpointName(network.Id, after.Name), after.Id);
        }
        if (after.ServiceId is { } serviceId && serviceId != before.ServiceId)
        {
            draft.GuardAlive(Keys.Service(serviceId));
            draft.Mark(Keys.ServiceMembers(serviceId), after.Id);
        }
        return after;
    }

    /// <summary>The check of an endpoint itself; settings alone change the one it has, or else its service's.</summary>
    /// <returns>Null: its service's counts.</returns>
    /// <exception cref="RegistryException">400: a word is wrong, no port is known, or there is no service for which a check could decide.</exception>
    private static HealthCheck? OwnCheck(Service? service, List<string>? words, HealthCheck? before)
    {
        if (words is null || words.Count == 0)
            return service is null ? null : before;
        if (service is null)
            throw Refuse.Invalid("health-without-service", "health", words[0], "the endpoint is a member of no service, so no traffic depends on a check", "name its service with --service");
        var check = HealthSpecs.Parse(words, before ?? service.Health);
        if (check is not null)
            CheckHealthPort(service with { Health = check });
        return check;
    }

    private static void ThrowIfNamed(Snapshot snapshot, Network network, string name)
    {
        if (snapshot.EndpointsNamed(name, network).FirstOrDefault(e => e.Kind == EndpointKind.Container) is { } namesake)
            throw Refuse.Conflict("name-taken", "name", name,
                $"an endpoint of network '{network.Name}' on node '{snapshot.Nodes.GetValueOrDefault(namesake.NodeId)?.Name}' has this name already",
                "choose another name with --name, or detach that one first");
    }

    /// <summary>Records compare lists and labels by reference.</summary>
    private static bool Same(Endpoint before, Endpoint after) =>
        before == after with { Aliases = before.Aliases, Labels = before.Labels }
        && before.Aliases.SequenceEqual(after.Aliases)
        && before.Labels.Count == after.Labels.Count
        && before.Labels.All(label => after.Labels.TryGetValue(label.Key, out var value) && value == label.Value);
}
