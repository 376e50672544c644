using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Health;

namespace OverlayNet.Daemon.Registry;

public sealed partial class ClusterRegistry
{
    public async Task<Written<Service>> CreateServiceAsync(
        ServiceCreateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var name = Names.Label("name", request.Name);
        var ports = PortSpecs.Parse(request.Ports, request.PublishMode);
        var template = new Service
        {
            Id = NewId(),
            Name = name,
            NetworkId = "",
            EndpointMode = request.EndpointMode,
            Ports = ports,
            Aliases = Aliases(name, request.Aliases),
            Scheduler = Names.Scheduler(request.Scheduler),
            AffinitySeconds = Names.Seconds("affinitySeconds", request.AffinitySeconds),
            Balancer = request.Balancer,
            DrainSeconds = Names.Seconds("drainSeconds", request.DrainSeconds ?? 30),
            SlowStartSeconds = Names.Seconds("slowStartSeconds", request.SlowStartSeconds),
            PublishPolicy = request.PublishPolicy,
            Health = HealthSpecs.Parse(request.Health, null),
            Disconnect = Disconnection.Policy(null, request.LostAfter, request.OnReturn, request.StopOnClientAfter),
            PublishNotReady = request.PublishNotReady ?? false,
            Labels = Names.UserLabels(request.Labels),
        };
        CheckMode(template);
        CheckHealthPort(template);
        var (vip4, vip6) = (WantedAddress("vip", request.Vip, 32), WantedAddress("vip6", request.Vip6, 128));
        if (request.EndpointMode == EndpointMode.Dnsrr && (vip4 ?? vip6) is { } vip)
            throw Refuse.Invalid("vip-without-vip-mode", vip4 is null ? "vip6" : "vip", vip.ToString(),
                "a service in endpoint mode dnsrr has no VIP", "leave it out, or use --endpoint-mode vip");
        var written = await WriteAsync(draft => PlanService(draft, template, request.Network, vip4, vip6), cancel).ConfigureAwait(false);
        Record(Kinds.Service, "create", name, by, written.Revision, Vips(written.Value));
        return written;
    }

    public async Task<Written<Service>> UpdateServiceAsync(
        string reference, string? network, ServiceUpdateRequest request, string by = "local", CancellationToken cancel = default)
    {
        var id = Resolve.Service(Current, reference, network).Id;
        var written = await WriteAsync(draft => PlanUpdate(draft, id, reference, request), cancel).ConfigureAwait(false);
        Record(Kinds.Service, "update", written.Value.Name, by, written.Revision, Vips(written.Value));
        return written;
    }

    /// <summary>Removes a service without endpoints.</summary>
    /// <param name="force">Also one with endpoints: they stay attached, as members of no service.</param>
    public async Task<Written<Service>> RemoveServiceAsync(
        string reference, string? network, bool force = false, string by = "local", CancellationToken cancel = default)
    {
        var service = Resolve.Service(Current, reference, network);
        while (true)
        {
            var written = await WriteAsync(draft => PlanServiceRemoval(draft, service.Id, reference, force), cancel).ConfigureAwait(false);
            if (!written.Value.Done)
                continue;
            Record(Kinds.Service, "remove", service.Name, by, written.Revision);
            return new Written<Service>(written.Value.Service, written.Revision);
        }
    }

    private static Service PlanService(Draft draft, Service template, string networkReference, IPAddress? vip4, IPAddress? vip6)
    {
        if (draft.Snapshot.Services.TryGetValue(template.Id, out var existing))
            return existing;
        var network = Resolve.Network(draft.Snapshot, networkReference);
        CheckNames(draft.Snapshot, network, template);
        CheckPublished(draft.Snapshot, template);
        var service = template with { NetworkId = network.Id, CreatedAtUnixMs = draft.NowUnixMs };
        draft.GuardAlive(Keys.Network(network.Id));
        if (service.EndpointMode == EndpointMode.Vip)
        {
            var (address4, address6) = draft.Allocate(network, Keys.Service(service.Id), vip4, vip6, "vip", "vip6");
            service = service with { Vip4 = address4, Vip6 = address6 };
        }
        else
        {
            draft.TouchNetwork(network);
        }
        draft.Put(service);
        foreach (var key in IndexKeys(service))
            draft.Claim(key, service.Id);
        return service;
    }

    private static Service PlanUpdate(Draft draft, string id, string reference, ServiceUpdateRequest request)
    {
        if (!draft.Snapshot.Services.TryGetValue(id, out var before))
            throw Refuse.NotFound(Kinds.Service, reference);
        var network = draft.Snapshot.Networks[before.NetworkId];
        var publishMode = before.Ports.FirstOrDefault()?.Mode ?? PublishMode.Ingress;
        var after = before with
        {
            Ports = request.Ports is null ? before.Ports : PortSpecs.Parse(request.Ports, publishMode),
            EndpointMode = request.EndpointMode ?? before.EndpointMode,
            Aliases = request.Aliases is null ? before.Aliases : Aliases(before.Name, request.Aliases),
            Scheduler = request.Scheduler is null ? before.Scheduler : Names.Scheduler(request.Scheduler),
            AffinitySeconds = Names.Seconds("affinitySeconds", request.AffinitySeconds ?? before.AffinitySeconds),
            Balancer = request.Balancer ?? before.Balancer,
            DrainSeconds = Names.Seconds("drainSeconds", request.DrainSeconds ?? before.DrainSeconds),
            SlowStartSeconds = Names.Seconds("slowStartSeconds", request.SlowStartSeconds ?? before.SlowStartSeconds),
            PublishPolicy = request.PublishPolicy ?? before.PublishPolicy,
            Health = HealthSpecs.Parse(request.Health, before.Health),
            Disconnect = Disconnection.Policy(before.Disconnect, request.LostAfter, request.OnReturn, request.StopOnClientAfter),
            PublishNotReady = request.PublishNotReady ?? before.PublishNotReady,
            Labels = request.Labels is null ? before.Labels : Names.UserLabels(request.Labels),
        };
        CheckMode(after);
        CheckHealthPort(after);
        CheckNames(draft.Snapshot, network, after);
        CheckPublished(draft.Snapshot, after);
        if (after.EndpointMode != before.EndpointMode && after.EndpointMode == EndpointMode.Vip)
        {
            var (address4, address6) = draft.Allocate(network, Keys.Service(id), null, null, "vip", "vip6");
            after = after with { Vip4 = address4, Vip6 = address6 };
        }
        else if (after.EndpointMode != before.EndpointMode)
        {
            draft.Free(network.Id, before.Vip4);
            draft.Free(network.Id, before.Vip6);
            after = after with { Vip4 = null, Vip6 = null };
        }
        draft.Put(after);
        var (had, has) = (IndexKeys(before).ToHashSet(), IndexKeys(after).ToHashSet());
        foreach (var key in had.Except(has))
            draft.Release(key);
        foreach (var key in has.Except(had))
            draft.Claim(key, id);
        return after;
    }

    private static (Service Service, bool Done) PlanServiceRemoval(Draft draft, string id, string reference, bool force)
    {
        if (!draft.Snapshot.Services.TryGetValue(id, out var service))
            throw Refuse.NotFound(Kinds.Service, reference);
        var members = draft.Snapshot.EndpointsOf(service).OrderBy(e => e.Name, StringComparer.Ordinal).ToList();
        if (members.Count > 0 && !force)
            throw Refuse.Conflict("service-in-use", "service", service.Name,
                $"it has endpoints: {Some([.. members.Select(e => $"'{e.Name}'")])}",
                "detach them first ('overlaynet detach'), or use --force to leave them attached without a service");
        if (members.Count > 0)
        {
            foreach (var endpoint in members.Take(MaxChunk))
                draft.Put(endpoint with { ServiceId = null });
            return (service, false);
        }
        draft.Delete(Keys.Service(id));
        draft.GuardUnchanged(Keys.ServiceMembers(id));
        draft.Release(Keys.ServiceMembers(id));
        foreach (var key in IndexKeys(service))
            draft.Release(key);
        draft.Free(service.NetworkId, service.Vip4);
        draft.Free(service.NetworkId, service.Vip6);
        return (service, true);
    }

    private static IEnumerable<string> IndexKeys(Service service)
    {
        yield return Keys.ServiceName(service.NetworkId, service.Name);
        foreach (var alias in service.Aliases)
            yield return Keys.ServiceName(service.NetworkId, alias);
        foreach (var port in service.Ports.Where(p => p.Published != 0))
            yield return Keys.Published(port.Protocol, port.Published);
    }

    private static IReadOnlyList<string> Aliases(string name, IReadOnlyList<string>? aliases) =>
        [.. Names.Labels("aliases", aliases).Where(a => a != name)];

    private static void CheckMode(Service service)
    {
        if (service.EndpointMode == EndpointMode.Dnsrr
            && service.Ports.FirstOrDefault(p => p.Published != 0 && p.Mode == PublishMode.Ingress) is { } port)
            throw Refuse.Invalid("publish-needs-vip", "ports", $"{port.Published}:{port.Target}",
                "a service in endpoint mode dnsrr cannot publish a port on every node",
                "use --endpoint-mode vip, or --publish-mode host");
    }

    private static void CheckHealthPort(Service service)
    {
        if (service.Health is { } check && HealthTargets.NeedsPort(check.Kind) && HealthTargets.PortOf(service, check) == 0)
            throw Refuse.Invalid("health-without-port", "health", HealthSpecs.Describe(check), "it names no port, and the service has none of that transport",
                "name one, as in tcp:5432 or http:8080/path, or give the service a --port");
    }

    private static void CheckNames(Snapshot snapshot, Network network, Service service)
    {
        foreach (var other in snapshot.ServicesOf(network))
        {
            if (other.Id == service.Id)
                continue;
            var names = other.Aliases.Append(other.Name).ToHashSet();
            if (names.Contains(service.Name))
                throw Refuse.Conflict("name-taken", "name", service.Name,
                    $"service '{other.Name}' of network '{network.Name}' has this name or alias already", "choose another name");
            if (service.Aliases.FirstOrDefault(names.Contains) is { } alias)
                throw Refuse.Conflict("name-taken", "aliases", alias,
                    $"service '{other.Name}' of network '{network.Name}' has this name or alias already", "choose another alias");
        }
    }

    private static void CheckPublished(Snapshot snapshot, Service service)
    {
        var published = service.Ports.Where(p => p.Published != 0).ToList();
        if (published.Count == 0)
            return;
        foreach (var other in snapshot.Services.Values)
        {
            if (other.Id == service.Id)
                continue;
            foreach (var port in published)
            {
                if (other.Ports.Any(p => p.Published == port.Published && p.Protocol == port.Protocol))
                    throw Refuse.Conflict("port-taken", "ports", $"{port.Published}:{port.Target}",
                        $"port {port.Published}/{(port.Protocol == PortProtocol.Tcp ? "tcp" : "udp")} is published by service "
                        + $"'{other.Name}' of network '{snapshot.Networks.GetValueOrDefault(other.NetworkId)?.Name}'",
                        "publish another port, or remove that one first");
            }
        }
    }

    private static IPAddress? WantedAddress(string field, string? text, int bits) =>
        string.IsNullOrEmpty(text) ? null : Names.Address(field, text, bits);

    private static string Vips(Service service) => service.EndpointMode == EndpointMode.Dnsrr
        ? "dnsrr"
        : $"VIP {string.Join(", ", new[] { service.Vip4, service.Vip6 }.Where(v => v is not null))}";
}
