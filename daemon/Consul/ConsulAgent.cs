using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.Json.Nodes;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Health;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Consul;

/// <summary>
/// Registrations as Consul's agent takes them, brought about in the registry: an instance is an endpoint of this node that joins a service, its TTL check
/// the application's own word. An address that is no endpoint's cannot be registered: it has no path in the overlay.
/// </summary>
internal sealed class ConsulAgent(NodeAgent agent)
{
    private static readonly TimeSpan ApplyTimeout = TimeSpan.FromSeconds(15);

    private Snapshot Current => agent.Follower.Current;

    public async Task RegisterAsync(HttpContext context)
    {
        var body = await BodyAsync(context).ConfigureAwait(false);
        var name = Text(body, "Name") ?? throw Bad("Missing service name");
        var id = Text(body, "ID") ?? name;
        var port = (int)(Number(body, "Port") ?? 0);
        var check = body["Check"] as JsonObject ?? (body["Checks"] as JsonArray)?.OfType<JsonObject>().FirstOrDefault();
        var endpoint = EndpointAt(Text(body, "Address"), context.Connection.RemoteIpAddress);
        if (Find(id) is { } other && other.Id != endpoint.Id)
            throw Bad($"ID: {id} is registered for {other.Name} ({other.Address4 ?? other.Address6}); deregister it first, or choose another ID");
        var spec = check is null ? null : Spec(check);
        var service = await ServiceAsync(endpoint, name, port, spec, context.RequestAborted).ConfigureAwait(false);
        var own = OwnCheck(service, spec);
        var labels = WithoutRegistration(endpoint);
        labels[ConsulCatalog.IdLabel] = id;
        if (body["Tags"] is JsonArray { Count: > 0 } tags)
            labels[ConsulCatalog.TagsLabel] = string.Join(',', tags.Select(tag => tag?.ToString().Replace(',', ';')));
        if (check is not null && Text(check, "CheckID") is { } checkId)
            labels[ConsulCatalog.CheckLabel] = checkId;
        if (body["Meta"] is JsonObject meta)
        {
            foreach (var (key, value) in meta)
                labels[ConsulCatalog.MetaLabel + key] = value?.ToString() ?? "";
        }
        await UpdateAsync(endpoint, new EndpointUpdateRequest
        {
            Service = service.Id,
            Labels = labels,
            Health = own,
            // As in Consul, an instance with a check begins as failing until it has passed; registering again changes nothing of it.
            State = (own is not null || service.Health is not null) && endpoint.ServiceId != service.Id ? EndpointState.Starting : null,
            Weight = body["Weights"] is JsonObject weights && Number(weights, "Passing") is { } weight ? (int)weight : null,
        }, context.RequestAborted).ConfigureAwait(false);
        SayFirst(endpoint.Id, check);
    }

    public async Task DeregisterAsync(string id, CancellationToken cancellation)
    {
        var endpoint = Require(id);
        await UpdateAsync(endpoint, new EndpointUpdateRequest
        {
            Service = "",
            Labels = WithoutRegistration(endpoint),
            State = EndpointState.Healthy,
        }, cancellation).ConfigureAwait(false);
    }

    public async Task MaintainAsync(string id, HttpContext context)
    {
        var endpoint = Require(id);
        var enable = context.Request.Query["enable"].FirstOrDefault() switch
        {
            "true" or "1" => true,
            "false" or "0" => false,
            var other => throw Bad($"enable: '{other}' is neither true nor false"),
        };
        if (enable != (endpoint.State == EndpointState.Maintenance))
            await UpdateAsync(endpoint, new EndpointUpdateRequest { State = enable ? EndpointState.Maintenance : HealthTargets.IsChecked(Current, endpoint) ? EndpointState.Starting : EndpointState.Healthy }, context.RequestAborted).ConfigureAwait(false);
    }

    public async Task RegisterCheckAsync(HttpContext context)
    {
        var body = await BodyAsync(context).ConfigureAwait(false);
        var serviceId = Text(body, "ServiceID") ?? throw Bad("ServiceID: it is missing; checks here belong to services, nodes have their own");
        var name = Text(body, "ID") ?? Text(body, "CheckID") ?? Text(body, "Name") ?? throw Bad("Missing check name");
        var endpoint = Require(serviceId);
        var service = Current.Services[endpoint.ServiceId!];
        await UpdateAsync(endpoint, new EndpointUpdateRequest
        {
            Health = OwnCheck(service, Spec(body)),
            Labels = new Dictionary<string, string>(endpoint.Labels) { [ConsulCatalog.IdLabel] = serviceId, [ConsulCatalog.CheckLabel] = name },
        }, context.RequestAborted).ConfigureAwait(false);
        SayFirst(endpoint.Id, body);
    }

    /// <summary>What it was registered with goes; its service's check, where there is one, is every instance's and stays.</summary>
    public Task DeregisterCheckAsync(string checkId, CancellationToken cancellation)
    {
        var endpoint = RequireCheck(checkId);
        return UpdateAsync(endpoint, new EndpointUpdateRequest
        {
            Health = ["none"],
            Labels = endpoint.Labels.Where(label => label.Key != ConsulCatalog.CheckLabel).ToDictionary(label => label.Key, label => label.Value),
        }, cancellation);
    }

    public Task SayAsync(string checkId, string word, string? note)
    {
        agent.Health.Say(RequireCheck(checkId).Id, new CheckWord { Status = word, Note = note });
        return Task.CompletedTask;
    }

    public async Task UpdateCheckAsync(string checkId, HttpContext context)
    {
        var body = await BodyAsync(context).ConfigureAwait(false);
        var word = Text(body, "Status") switch
        {
            "passing" => "pass",
            "warning" => "warn",
            "critical" => "fail",
            var other => throw Bad($"Invalid check status: '{other}'; say passing, warning or critical"),
        };
        await SayAsync(checkId, word, Text(body, "Output")).ConfigureAwait(false);
    }

    /// <summary>The check of a registration in the words of docs/health.md.</summary>
    internal static List<string> Spec(JsonObject check)
    {
        var spec = new List<string>();
        if (Text(check, "TTL") is { } ttl)
        {
            // One word of the application is enough, good or bad: it comes once a TTL, and Consul counts it at once.
            spec.AddRange([$"ttl:{Milliseconds("TTL", ttl)}ms", "successes=1", "failures=1"]);
            return spec;
        }
        if (Text(check, "HTTP") is { } http)
        {
            if (!Uri.TryCreate(http, UriKind.Absolute, out var url) || url.Scheme is not ("http" or "https"))
                throw Bad($"HTTP: '{http}' is not an http or https URL");
            spec.Add($"{url.Scheme}:{url.Port.ToString(CultureInfo.InvariantCulture)}{url.PathAndQuery}");
        }
        else if (Text(check, "TCP") is { } tcp)
        {
            var colon = tcp.LastIndexOf(':');
            spec.Add(colon >= 0 ? $"tcp:{tcp[(colon + 1)..]}" : throw Bad($"TCP: '{tcp}' is not HOST:PORT"));
        }
        else if (Text(check, "GRPC") is { } grpc)
        {
            spec.Add("grpc:" + grpc[(grpc.LastIndexOf(':') + 1)..]);
        }
        else
        {
            throw Bad("Check: give TTL, HTTP, TCP or GRPC; other kinds are not supported here");
        }
        if (Text(check, "Interval") is { } interval)
            spec.Add($"interval={Milliseconds("Interval", interval)}ms");
        if (Text(check, "Timeout") is { } timeout)
            spec.Add($"timeout={Milliseconds("Timeout", timeout)}ms");
        return spec;
    }

    private async Task<Service> ServiceAsync(Endpoint endpoint, string name, int port, List<string>? check, CancellationToken cancellation)
    {
        if (Current.FindService(name, endpoint.NetworkId).Value is { } existing)
        {
            if (port != 0 && existing.Ports.Count > 0 && existing.Ports.All(one => one.Target != port))
                throw Bad($"Port: {port} is not a port of service {name}, whose endpoints answer on {string.Join(", ", existing.Ports.Select(one => one.Target))}");
            return existing;
        }
        try
        {
            var (created, revision) = await agent.Registry.CreateService(new ServiceCreateRequest
            {
                Name = name,
                Network = endpoint.NetworkId,
                Ports = port == 0 ? null : [port.ToString(CultureInfo.InvariantCulture)],
                Health = check,
            }, cancellation).ConfigureAwait(false);
            await agent.Follower.WaitFor(revision, cancellation).ConfigureAwait(false);
            return created;
        }
        catch (RegistryException e) when (e.Status == StatusCodes.Status403Forbidden)
        {
            throw new ConsulException(e.Status, $"service {name} does not exist on network {NetworkOf(endpoint)}, and a worker cannot create it; "
                + $"run on a manager: overlaynet service create --network {NetworkOf(endpoint)}{(port == 0 ? "" : $" --port {port}")}{(check is null ? "" : $" --health {check[0]}")} {name}");
        }
    }

    /// <summary>An instance whose check is not of its service's kind has one of its own.</summary>
    /// <returns>Null: its service's will do.</returns>
    private static List<string>? OwnCheck(Service service, List<string>? check) =>
        check is null || service.Health?.Kind == HealthSpecs.Parse(check, null)!.Kind ? null : check;

    private async Task UpdateAsync(Endpoint endpoint, EndpointUpdateRequest request, CancellationToken cancellation)
    {
        var (_, revision) = await agent.Registry.UpdateEndpoint(endpoint.Id, request, cancellation).ConfigureAwait(false);
        // What comes next (a word about its check, a question for the service) finds it.
        await agent.Follower.WaitFor(revision, cancellation).WaitAsync(ApplyTimeout, cancellation).ConfigureAwait(false);
        await agent.Reconciler.ApplyThrough(revision).WaitAsync(ApplyTimeout, cancellation).ConfigureAwait(false);
    }

    /// <summary>A check that is registered as passing has its first word with it.</summary>
    private void SayFirst(string endpointId, JsonObject? check)
    {
        if (check is not null && Text(check, "Status") == "passing" && HealthTargets.CheckOf(Current, Current.Endpoints[endpointId])?.Kind == CheckKind.Ttl)
            agent.Health.Say(endpointId, new CheckWord { Status = "pass" });
    }

    private Endpoint EndpointAt(string? address, IPAddress? caller)
    {
        var wanted = address is null ? caller is { IsIPv4MappedToIPv6: true } ? caller.MapToIPv4() : caller
            : IPAddress.TryParse(address, out var parsed) ? parsed
            : throw Bad($"Address: '{address}' is not an address; give the container's address on its overlay network");
        return Own().FirstOrDefault(endpoint => Equals(endpoint.Address4, wanted) || Equals(endpoint.Address6, wanted))
            ?? throw Bad($"Address: no container of node {agent.Membership.NodeName} has {wanted} on an overlay network; attach it first (overlaynet attach), and register at its own node with its overlay address");
    }

    private IEnumerable<Endpoint> Own() => Current.Endpoints.Values.Where(endpoint => endpoint.NodeId == agent.Membership.NodeId && endpoint.Kind == EndpointKind.Container);

    private Endpoint? Find(string id) => Own().FirstOrDefault(endpoint => endpoint.ServiceId is not null && ConsulCatalog.IdOf(endpoint) == id);

    private Endpoint Require(string id) => Find(id)
        ?? throw new ConsulException(StatusCodes.Status404NotFound, $"Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name, to the agent of the instance's own node.");

    private Endpoint RequireCheck(string id)
    {
        // Several checks of one registration are numbered: service:ID:1.
        return Own().FirstOrDefault(endpoint => endpoint.ServiceId is not null && (ConsulCatalog.CheckIdOf(endpoint) == id || id == $"service:{ConsulCatalog.IdOf(endpoint)}" || id == $"service:{ConsulCatalog.IdOf(endpoint)}:1"))
            ?? throw new ConsulException(StatusCodes.Status404NotFound, $"Unknown check ID \"{id}\". Ensure that the check ID is passed, not the check name.");
    }

    /// <summary>Its labels without those that a registration here has made.</summary>
    private static Dictionary<string, string> WithoutRegistration(Endpoint endpoint) =>
        endpoint.Labels.Where(label => !label.Key.StartsWith("consul.", StringComparison.Ordinal)).ToDictionary(label => label.Key, label => label.Value);

    private string NetworkOf(Endpoint endpoint) => Current.Networks.GetValueOrDefault(endpoint.NetworkId)?.Name ?? endpoint.NetworkId;

    private static async Task<JsonObject> BodyAsync(HttpContext context)
    {
        // Consul reads names without regard to their letter case.
        var node = await JsonNode.ParseAsync(context.Request.Body, new JsonNodeOptions { PropertyNameCaseInsensitive = true }, cancellationToken: context.RequestAborted).ConfigureAwait(false);
        return node as JsonObject ?? throw Bad("Request decode failed: the body is not a JSON object");
    }

    private static string? Text(JsonObject body, string name) => body[name] switch
    {
        null => null,
        JsonValue value when value.GetValueKind() == JsonValueKind.String => value.GetValue<string>() is { Length: > 0 } text ? text : null,
        var other => throw Bad($"{name}: {other.ToJsonString()} is not a text"),
    };

    private static long? Number(JsonObject body, string name) => body[name] switch
    {
        null => null,
        JsonValue value when value.TryGetValue<long>(out var number) && number is >= 0 and <= 65535 => number,
        var other => throw Bad($"{name}: {other.ToJsonString()} is not a number from 0 to 65535"),
    };

    private static string Milliseconds(string name, string text) => ConsulCatalog.Duration(text) is { } duration && duration > TimeSpan.Zero
        ? ((long)duration.TotalMilliseconds).ToString(CultureInfo.InvariantCulture)
        : throw Bad($"{name}: '{text}' is not a duration; write it as 10s or 1m");

    private static ConsulException Bad(string text) => new(StatusCodes.Status400BadRequest, text);
}
