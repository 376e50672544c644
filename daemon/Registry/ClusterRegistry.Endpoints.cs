using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    /// <summary>
    /// Records an endpoint with addresses of its own, in one commit; the first of a node on a network brings the node's own
    /// endpoint there with it. The same id again gives what is there.
    /// </summary>
    public async Task<Written<Endpoint>> CreateEndpointAsync(
        EndpointCreateRequest request, string by = "local", CancellationToken cancel = default)
    {
        if (request.Kind != EndpointKind.Container)
            throw Refuse.Invalid("invalid-kind", "kind", "node", "a node's own endpoint comes with its first container's",
                "create endpoints of kind container");
        if (request.Netns.Length > 0 && request.Netns[0] != '/')
            throw Refuse.Invalid("invalid-netns", "netns", request.Netns, "it is not an absolute path", "write it as /run/netns/NAME");
        var template = new Endpoint
        {
            Id = Names.Id("id", request.Id),
            Name = Names.Label("name", request.Name),
            NodeId = request.NodeId,
            NetworkId = "",
            Mac = "",
            Weight = Names.Weight(request.Weight),
            Aliases = Names.Labels("aliases", request.Aliases),
            Netns = request.Netns,
            NetnsIdentity = request.NetnsIdentity,
            Interface = Names.Interface(request.Interface),
            Labels = Names.UserLabels(request.Labels),
        };
        var (ip, ip6) = (WantedAddress("ip", request.Ip, 32), WantedAddress("ip6", request.Ip6, 128));
        await MakeRoomAsync(request, cancel).ConfigureAwait(false);
        var isNew = false;
        var written = await WriteAsync(
            draft => PlanEndpoint(draft, template, request.Network, request.Service, request.Health, ip, ip6, request.Mac, out isNew), cancel).ConfigureAwait(false);
        if (isNew)
            Record(Kinds.Endpoint, "create", template.Name, by, written.Revision, Addresses(written.Value));
        return written;
    }

    public async Task<Written<Endpoint>> UpdateEndpointAsync(
        string reference, string? network, EndpointUpdateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Endpoint(Current, reference, network).Id;
        var changes = false;
        var written = await WriteAsync(
            draft =>
            {
                if (!draft.Snapshot.Endpoints.TryGetValue(id, out var before))
                    throw Refuse.NotFound(Kinds.Endpoint, reference);
                var after = PlanEndpointChange(draft, before, request);
                changes = !ReferenceEquals(after, before);
                return after;
            }, cancel).ConfigureAwait(false);
        if (!changes)
            return written;
        Record(Kinds.Endpoint, "update", written.Value.Name, by, written.Revision,
            $"{written.Value.State}, weight {written.Value.Weight}".ToLowerInvariant());
        return written;
    }

    /// <summary>Removes an endpoint and frees its addresses; the last of a node on a network takes the node's own endpoint with it.</summary>
    public async Task<Written<Endpoint>> RemoveEndpointAsync(
        string reference, string? network, string by = "local", CancellationToken cancel = default)
    {
        var endpoint = Resolve.Endpoint(Current, reference, network);
        if (endpoint.Kind == EndpointKind.Node)
            throw Refuse.Conflict("node-endpoint", "endpoint", endpoint.Name, "it is a node's own, which goes with the last container's",
                "detach the containers of that node from the network");
        var written = await WriteAsync(
            draft =>
            {
                if (!draft.Snapshot.Endpoints.TryGetValue(endpoint.Id, out var current))
                    throw Refuse.NotFound(Kinds.Endpoint, reference);
                var home = draft.Snapshot.Networks[current.NetworkId];
                RemoveEndpoint(draft, home, current);
                RemoveNodeEndpointWithout(draft, home, current.NodeId, current.Id);
                return current;
            }, cancel).ConfigureAwait(false);
        // Two removals at once may each have left the node's own endpoint to the other.
        var left = await WriteAsync(
            draft => draft.Snapshot.Networks.TryGetValue(endpoint.NetworkId, out var home)
                && RemoveNodeEndpointWithout(draft, home, endpoint.NodeId, null),
            cancel).ConfigureAwait(false);
        Record(Kinds.Endpoint, "remove", endpoint.Name, by, written.Revision, Addresses(endpoint));
        return written with { Revision = Math.Max(written.Revision, left.Value ? left.Revision : 0) };
    }

    private static Endpoint PlanEndpoint(
        Draft draft, Endpoint template, string networkReference, string? serviceReference, List<string>? health, IPAddress? ip, IPAddress? ip6, string? mac, out bool isNew)
    {
        isNew = false;
        if (!draft.Snapshot.Nodes.TryGetValue(template.NodeId, out var node))
            throw Refuse.NodeUnknown(template.NodeId);
        var network = Resolve.Network(draft.Snapshot, networkReference);
        if (draft.Snapshot.Endpoints.TryGetValue(template.Id, out var existing))
        {
            return existing.NodeId == node.Id && existing.NetworkId == network.Id
                ? existing
                : throw Refuse.Conflict("id-taken", "id", template.Id, $"endpoint '{existing.Name}' has this id already", "choose another id");
        }
        if (node.Availability != NodeAvailability.Active)
            throw Refuse.Conflict("node-not-active", "node", node.Name, $"it takes no new work ({node.Availability})".ToLowerInvariant(),
                $"activate it with 'overlaynet node activate {node.Name}', or attach on another node");
        var service = string.IsNullOrEmpty(serviceReference) ? null : ServiceOn(draft.Snapshot, network, serviceReference);
        ThrowIfNamed(draft.Snapshot, network, template.Name);
        template = template with { Health = OwnCheck(service, health, null) };

        isNew = true;
        draft.GuardAlive(Keys.Network(network.Id));
        draft.GuardAlive(Keys.Node(node.Id));
        draft.Mark(Keys.NodeMembers(node.Id), template.Id);
        if (service is not null)
        {
            draft.GuardAlive(Keys.Service(service.Id));
            draft.Mark(Keys.ServiceMembers(service.Id), template.Id);
        }
        var (address4, address6) = draft.Allocate(network, Keys.Endpoint(template.Id), ip, ip6, "ip", "ip6");
        var endpoint = template with
        {
            NetworkId = network.Id,
            ServiceId = service?.Id,
            Address4 = address4,
            Address6 = address6,
            Mac = string.IsNullOrEmpty(mac) ? MacAddresses.Derive(network.Id, (address4 ?? address6)!) : MacAddresses.Wanted(mac, network, (address4 ?? address6)!),
            StateSinceUnixMs = draft.NowUnixMs,
            CreatedAtUnixMs = draft.NowUnixMs,
        };
        draft.Put(endpoint);
        draft.Claim(Keys.EndpointName(network.Id, endpoint.Name), endpoint.Id);
        ClaimMac(draft, network, endpoint);
        EnsureNodeEndpoint(draft, network, node);
        return endpoint;
    }

    private static Service ServiceOn(Snapshot snapshot, Network network, string reference) =>
        snapshot.FindService(reference, network.Id) switch
        {
            { Value: { } service } => service,
            { Ambiguous: true } several => throw Refuse.Ambiguous(
                Kinds.Service, reference, several.Candidates.Select(s => s.Id), "give more of the id"),
            _ => throw Refuse.NotFound(Kinds.Service, reference, $"network '{network.Name}' has no such service",
                $"create it first: overlaynet service create --network {network.Name} {reference}"),
        };

    /// <summary>The node's own address on the network: what the node itself originates must not come from the shared gateway.</summary>
    private static void EnsureNodeEndpoint(Draft draft, Network network, Node node)
    {
        var id = Snapshot.NodeEndpointId(node.Id, network.Id);
        if (draft.Snapshot.Endpoints.ContainsKey(id))
        {
            draft.GuardAlive(Keys.Endpoint(id));
            return;
        }
        var (address4, address6) = draft.Allocate(network, Keys.Endpoint(id), null, null, "ip", "ip6");
        var endpoint = new Endpoint
        {
            Id = id,
            Name = $"node-{node.Name}",
            Kind = EndpointKind.Node,
            NodeId = node.Id,
            NetworkId = network.Id,
            Address4 = address4,
            Address6 = address6,
            Mac = MacAddresses.Derive(network.Id, (address4 ?? address6)!),
            State = EndpointState.Healthy,
            Interface = "",
            CreatedAtUnixMs = draft.NowUnixMs,
        };
        draft.Put(endpoint);
        ClaimMac(draft, network, endpoint);
    }

    /// <summary>MACs follow from IPv4 addresses one to one; from IPv6 addresses only nearly, and others are people's choice, so those are claimed.</summary>
    private static bool IsClaimed(Network network, Endpoint endpoint) =>
        network.Subnet4 is null || endpoint.Mac != MacAddresses.Derive(network.Id, (endpoint.Address4 ?? endpoint.Address6)!);

    private static void ClaimMac(Draft draft, Network network, Endpoint endpoint)
    {
        if (!IsClaimed(network, endpoint))
            return;
        if (network.Subnet4 is not null)
        {
            if (draft.State.Key(Keys.Mac(network.Id, endpoint.Mac)).Mod != 0)
                throw Refuse.Conflict("mac-taken", "mac", endpoint.Mac, $"another endpoint of network '{network.Name}' has it", "choose another MAC, or leave it out");
            draft.Claim(Keys.Mac(network.Id, endpoint.Mac), endpoint.Id);
            return;
        }
        if (endpoint.Mac == network.GatewayMac || draft.State.Key(Keys.Mac(network.Id, endpoint.Mac)).Mod != 0)
            throw Refuse.Conflict("mac-taken", "ip6", endpoint.Address6!.ToString(),
                "its last 32 bits are those of another address of the network, and so would be its MAC",
                "choose an address that differs in the last 32 bits, or leave it out");
        draft.Claim(Keys.Mac(network.Id, endpoint.Mac), endpoint.Id);
    }

    private static void RemoveEndpoint(Draft draft, Network network, Endpoint endpoint)
    {
        draft.Delete(Keys.Endpoint(endpoint.Id));
        draft.Free(network.Id, endpoint.Address4);
        draft.Free(network.Id, endpoint.Address6);
        if (endpoint.Kind == EndpointKind.Container)
            draft.Release(Keys.EndpointName(network.Id, endpoint.Name));
        if (IsClaimed(network, endpoint))
            draft.Release(Keys.Mac(network.Id, endpoint.Mac));
    }

    /// <param name="leavingId">The container's endpoint that goes in the same draft, if any.</param>
    /// <returns>Whether the node's own endpoint goes.</returns>
    private static bool RemoveNodeEndpointWithout(Draft draft, Network network, string nodeId, string? leavingId)
    {
        if (draft.Snapshot.NodeEndpoint(nodeId, network.Id) is not { } own
            || !draft.Snapshot.Nodes.TryGetValue(nodeId, out var node)
            || draft.Snapshot.EndpointsOf(node).Any(e => e.NetworkId == network.Id && e.Id != own.Id && e.Id != leavingId))
            return false;
        draft.GuardUnchanged(Keys.NodeMembers(nodeId));
        RemoveEndpoint(draft, network, own);
        return true;
    }

    private static string Addresses(Endpoint endpoint) =>
        string.Join(", ", new[] { endpoint.Address4, endpoint.Address6 }.Where(a => a is not null));
}
