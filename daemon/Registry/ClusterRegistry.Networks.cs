using System.Net;
using OverlayNet.Contracts;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    public async Task<Written<Network>> CreateNetworkAsync(
        NetworkCreateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var wanted = NetworkSpec.From(request);
        var id = NewId();
        var written = await WriteAsync(draft => PlanNetwork(draft, wanted, id), cancel).ConfigureAwait(false);
        Record(Kinds.Network, "create", written.Value.Name, by, written.Revision,
            $"VNI {written.Value.Vni}, {string.Join(", ", Subnets(written.Value))}");
        return written;
    }

    /// <summary>Removes a network that nothing is on; nodes' own endpoints go with it.</summary>
    public async Task<Written<Network>> RemoveNetworkAsync(string reference, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Network(Current, reference).Id;
        var written = await WriteAsync(draft => PlanRemoval(draft, id, reference), cancel).ConfigureAwait(false);
        Record(Kinds.Network, "remove", written.Value.Name, by, written.Revision);
        return written;
    }

    /// <summary>Removes every network without containers and services.</summary>
    public async Task<Written<IReadOnlyList<Network>>> PruneNetworksAsync(string by = "local", CancellationToken cancel = default)
    {
        var removed = new List<Network>();
        var revision = Current.Revision;
        foreach (var network in Current.Networks.Values.OrderBy(n => n.Name, StringComparer.Ordinal))
        {
            if (!IsUnused(Current, network))
                continue;
            try
            {
                var written = await RemoveNetworkAsync(network.Id, by, cancel).ConfigureAwait(false);
                removed.Add(written.Value);
                revision = written.Revision;
            }
            catch (RegistryException e) when (e.Error.Code is "network-in-use" or "not-found")
            {
                // Taken into use, or removed, since it was looked at.
            }
        }
        return new Written<IReadOnlyList<Network>>(removed, revision);
    }

    private static bool IsUnused(Snapshot snapshot, Network network) =>
        !snapshot.ServicesOf(network).Any() && snapshot.EndpointsOf(network).All(e => e.Kind == EndpointKind.Node);

    private Network PlanNetwork(Draft draft, NetworkSpec wanted, string id)
    {
        if (draft.Snapshot.Networks.TryGetValue(id, out var existing))
            return existing;
        if (draft.Snapshot.FindNetwork(wanted.Name).Value is { } other && other.Name == wanted.Name)
            throw Refuse.Conflict("name-taken", "name", wanted.Name, "a network has this name already",
                "choose another name, or remove that network first");
        var subnet4 = wanted.Subnet4;
        if (subnet4 is null && wanted.Subnet6 is null)
            subnet4 = NextSubnet(draft.Snapshot);
        foreach (var subnet in new[] { subnet4, wanted.Subnet6 })
        {
            if (subnet is not null)
                CheckOverlap(draft.Snapshot, subnet.Value, wanted.AllowOverlap);
        }
        CheckMtu(draft.Snapshot, wanted.Mtu);
        var vni = ChooseVni(draft, wanted.Vni);
        var gateway4 = subnet4 is null ? null : wanted.Gateway4 ?? Prefixes.At(subnet4.Value, 1);
        var gateway6 = wanted.Subnet6 is null ? null : wanted.Gateway6 ?? Prefixes.At(wanted.Subnet6.Value, 1);
        var network = new Network
        {
            Id = id,
            Name = wanted.Name,
            Vni = vni,
            Subnet4 = subnet4,
            Subnet6 = wanted.Subnet6,
            IpRange4 = wanted.IpRange4,
            Gateway4 = gateway4,
            Gateway6 = gateway6,
            GatewayMac = MacAddresses.Derive(id, (gateway4 ?? gateway6)!),
            Mtu = wanted.Mtu,
            Internal = wanted.Internal,
            AllowOverlap = wanted.AllowOverlap,
            Labels = wanted.Labels,
            CreatedAtUnixMs = draft.NowUnixMs,
        };
        draft.Put(network);
        draft.Claim(Keys.NetworkName(network.Name), id);
        draft.Claim(Keys.Vni(vni), id);
        draft.GuardUnchanged(Keys.Subnets);
        draft.Mark(Keys.Subnets, id);
        if (wanted.Vni is null)
            draft.Mark(Keys.LastVni, Names.Text(vni));
        return network;
    }

    private static Network PlanRemoval(Draft draft, string id, string reference)
    {
        if (!draft.Snapshot.Networks.TryGetValue(id, out var network))
            throw Refuse.NotFound(Kinds.Network, reference);
        var users = draft.Snapshot.ServicesOf(network).Select(s => $"service '{s.Name}'")
            .Concat(draft.Snapshot.EndpointsOf(network).Where(e => e.Kind == EndpointKind.Container).Select(e => $"endpoint '{e.Name}'"))
            .ToList();
        if (users.Count > 0)
            throw Refuse.Conflict("network-in-use", "network", network.Name, $"it is in use by {Some(users)}",
                "detach the endpoints ('overlaynet detach') and remove the services ('overlaynet service rm') first");
        draft.Delete(Keys.Network(id));
        draft.GuardUnchanged(Keys.Allocation(id));
        draft.Release(Keys.Allocation(id));
        draft.Release(Keys.NetworkName(network.Name));
        draft.Release(Keys.Vni(network.Vni));
        foreach (var endpoint in draft.Snapshot.EndpointsOf(network))
            RemoveEndpoint(draft, network, endpoint);
        return network;
    }

    private static int ChooseVni(Draft draft, int? wanted)
    {
        var taken = draft.Snapshot.Networks.Values.ToDictionary(n => n.Vni, n => n.Name);
        if (wanted is { } vni)
        {
            return taken.TryGetValue(vni, out var owner)
                ? throw Refuse.Conflict("vni-taken", "vni", Names.Text(vni), $"network '{owner}' has it",
                    "choose another VNI, or leave it out to have one chosen")
                : vni;
        }
        // The next after the last, not the lowest free one: a node that lags behind may still carry a removed network's frames.
        for (var (tries, next) = (0, draft.State.LastVni + 1); tries <= taken.Count + 1; tries++, next++)
        {
            if (next is < NetworkSpec.FirstAutomaticVni or > NetworkSpec.MaxVni)
                next = NetworkSpec.FirstAutomaticVni;
            if (!taken.ContainsKey(next))
                return next;
        }
        throw Refuse.Conflict("vni-exhausted", "vni", null, "every VNI is taken", "remove networks that are no longer needed");
    }

    /// <summary>Whether no network and no node's route overlaps a subnet.</summary>
    internal static bool IsFree(Snapshot snapshot, IPNetwork subnet) =>
        FindOverlap(snapshot, subnet) is null && FindHostRoute(snapshot, subnet) is null;

    private static IPNetwork NextSubnet(Snapshot snapshot)
    {
        foreach (var subnet in NetworkSpec.AutomaticSubnets())
        {
            if (IsFree(snapshot, subnet))
                return subnet;
        }
        throw Refuse.Conflict("subnet-exhausted", "subnet", null,
            $"every /24 of {NetworkSpec.AutomaticRange} is taken by a network or a node's route", "name a subnet with --subnet");
    }

    internal static void CheckOverlap(Snapshot snapshot, IPNetwork subnet, bool allowOverlap)
    {
        var field = Prefixes.Bits(subnet.BaseAddress) == 32 ? "subnet" : "subnet6";
        if (FindHostRoute(snapshot, subnet) is var (node, route))
            throw Refuse.Conflict("subnet-overlaps-host", field, subnet.ToString(),
                $"it overlaps {route}, which node '{node.Name}' reaches in another way",
                "choose a subnet that no node has a route to, or leave it out to have one chosen");
        if (!allowOverlap && FindOverlap(snapshot, subnet) is var (network, other))
            throw Refuse.Conflict("subnet-overlap", field, subnet.ToString(), $"it overlaps {other} of network '{network.Name}'",
                "choose another subnet, leave it out to have one chosen, or isolate the two with --allow-overlap");
    }

    private static (Network Network, IPNetwork Subnet)? FindOverlap(Snapshot snapshot, IPNetwork subnet)
    {
        foreach (var network in snapshot.Networks.Values)
        {
            foreach (var other in Subnets(network))
            {
                if (Prefixes.Overlap(subnet, other))
                    return (network, other);
            }
        }
        return null;
    }

    private static (Node Node, IPNetwork Route)? FindHostRoute(Snapshot snapshot, IPNetwork subnet)
    {
        foreach (var node in snapshot.Nodes.Values)
        {
            foreach (var route in node.HostRoutes)
            {
                // Defaults overlap everything and mean nothing here.
                if (route.PrefixLength != 0 && Prefixes.Overlap(subnet, route))
                    return (node, route);
            }
            var own = new IPNetwork(node.Address, Prefixes.Bits(node.Address));
            if (Prefixes.Overlap(subnet, own))
                return (node, own);
        }
        return null;
    }

    private static void CheckMtu(Snapshot snapshot, int mtu)
    {
        foreach (var node in snapshot.Nodes.Values)
        {
            // VXLAN's overhead: outer IP, UDP and VXLAN headers and the inner Ethernet header.
            var most = node.UnderlayMtu - (Prefixes.Bits(node.Address) == 32 ? 50 : 70);
            if (mtu > most)
                throw Refuse.Invalid("mtu-too-large", "mtu", Names.Text(mtu),
                    $"node '{node.Name}' carries at most {most} (its underlay's {node.UnderlayMtu} less VXLAN's overhead)",
                    $"use {most} or less, or 0 to have it derived");
        }
    }

    private static IEnumerable<IPNetwork> Subnets(Network network)
    {
        if (network.Subnet4 is { } subnet4)
            yield return subnet4;
        if (network.Subnet6 is { } subnet6)
            yield return subnet6;
    }

    private static string Some(List<string> items) =>
        items.Count <= 5 ? string.Join(", ", items) : $"{string.Join(", ", items.Take(5))} and {items.Count - 5} more";
}
