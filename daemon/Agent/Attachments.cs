using System.Net;
using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Agent;

/// <summary>
/// Attaching a namespace to a network, and taking it off. Order: allocate in the registry, build on this node (every
/// other node learns address, MAC and VTEP meanwhile), then let traffic come.
/// </summary>
public sealed partial class Attachments(
    string nodeId, RegistryClient registry, SnapshotFollower follower, Reconciler reconciler, Func<int> defaultMtu,
    ILogger<Attachments> logger)
{
    private static readonly TimeSpan BuildTimeout = TimeSpan.FromSeconds(15);

    /// <param name="id">The endpoint's id where a runtime's own naming determines it; null: a new one.</param>
    /// <exception cref="RegistryException">Bad input or what a manager refused; nothing is left behind.</exception>
    public async Task<AttachResponse> Attach(AttachRequest request, CancellationToken cancellation, string? id = null)
    {
        var identity = IdentityOf(request.Netns);
        var name = request.Name ?? NameFromPath(request.Netns);
        var existing = Find(request.Network, request.Netns);
        if (existing is not null)
            throw Refuse(HttpStatusCode.Conflict, "already-attached", "netns", request.Netns,
                $"namespace {request.Netns} is already attached to network {request.Network} as endpoint {existing.Name} ({existing.Address4 ?? existing.Address6})",
                $"detach it first: overlaynet detach --network {request.Network} --netns {request.Netns}");
        var (endpoint, revision) = await registry.CreateEndpoint(new EndpointCreateRequest
        {
            Id = id ?? Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8)),
            Name = name,
            NodeId = nodeId,
            Network = request.Network,
            Service = request.Service,
            Ip = request.Ip,
            Ip6 = request.Ip6,
            Mac = request.Mac,
            Aliases = request.Aliases,
            Weight = request.Weight ?? 1,
            Health = request.Health,
            Netns = request.Netns,
            NetnsIdentity = identity,
            Interface = request.Interface ?? "eth0",
            Labels = request.Labels,
        }, cancellation).ConfigureAwait(false);
        try
        {
            await Build(endpoint, revision, cancellation).ConfigureAwait(false);
            (endpoint, revision) = await registry.UpdateEndpoint(endpoint.Id, new EndpointUpdateRequest { State = EndpointState.Healthy }, cancellation).ConfigureAwait(false);
            // Whoever asked may use the name at once: wait until this node has it.
            await follower.WaitFor(revision, cancellation).WaitAsync(BuildTimeout, cancellation).ConfigureAwait(false);
            await reconciler.ApplyThrough(revision).WaitAsync(BuildTimeout, cancellation).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            Log.Undone(logger, endpoint.Id, endpoint.Name, e.Message);
            await registry.DeleteEndpoint(endpoint.Id, CancellationToken.None).ConfigureAwait(false);
            throw e is TimeoutException
                ? Refuse(HttpStatusCode.GatewayTimeout, "build-timeout", "netns", request.Netns, $"endpoint {endpoint.Name} was not built within {BuildTimeout.TotalSeconds:0} s", "see 'overlaynet status' and 'overlaynet doctor'")
                : e;
        }
        Log.Attached(logger, endpoint.Id, endpoint.Name, request.Network, revision);
        var network = follower.Current.Networks[endpoint.NetworkId];
        if (request.WriteResolvConf)
            ResolvConf.Write(request.Netns, network, follower.Current);
        return new AttachResponse
        {
            Endpoint = endpoint,
            Network = network,
            Dns = [.. new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>()],
            ClusterDomain = follower.Current.ClusterDomain,
            Mtu = network.Mtu > 0 ? network.Mtu : defaultMtu(),
            Revision = revision,
        };
    }

    /// <summary>Takes an endpoint off: by id or name, or by network and namespace.</summary>
    /// <returns>The revision without it.</returns>
    /// <exception cref="RegistryException">There is no such endpoint on this node, or no manager answers.</exception>
    public async Task<long> Detach(DetachRequest request, CancellationToken cancellation)
    {
        var endpoint = request.Endpoint is { Length: > 0 } reference
            ? follower.Current.FindEndpoint(reference).Candidates.FirstOrDefault(e => e.NodeId == nodeId)
            : Find(request.Network ?? "", request.Netns ?? "");
        if (endpoint is null)
        {
            var wanted = request.Endpoint ?? $"{request.Netns} on network {request.Network}";
            throw Refuse(HttpStatusCode.NotFound, "not-found", "endpoint", wanted, $"endpoint {wanted} is not on this node", "see 'overlaynet endpoint ls'");
        }
        var revision = await registry.DeleteEndpoint(endpoint.Id, cancellation).ConfigureAwait(false);
        await follower.WaitFor(revision, cancellation).WaitAsync(BuildTimeout, cancellation).ConfigureAwait(false);
        await reconciler.ApplyThrough(revision).WaitAsync(BuildTimeout, cancellation).ConfigureAwait(false);
        ResolvConf.Remove(endpoint.Netns);
        Log.Detached(logger, endpoint.Id, endpoint.Name, revision);
        return revision;
    }

    private async Task Build(Endpoint endpoint, long revision, CancellationToken cancellation)
    {
        await follower.WaitFor(revision, cancellation).WaitAsync(BuildTimeout, cancellation).ConfigureAwait(false);
        var outcome = await reconciler.ApplyThrough(revision).WaitAsync(BuildTimeout, cancellation).ConfigureAwait(false);
        if (outcome.Gone.Contains(endpoint.Id))
            throw Refuse(HttpStatusCode.BadRequest, "netns-gone", "netns", endpoint.Netns, $"namespace {endpoint.Netns} went away while it was attached", "attach it when it is there");
        if (outcome.Errors.TryGetValue(endpoint.Id, out var error) || outcome.Errors.TryGetValue(endpoint.NetworkId, out error))
            throw Refuse(HttpStatusCode.InternalServerError, "kernel", "netns", endpoint.Netns, error, "see 'overlaynet doctor'");
    }

    private Endpoint? Find(string networkReference, string netns)
    {
        var snapshot = follower.Current;
        return snapshot.FindNetwork(networkReference).Value is { } network
            ? snapshot.EndpointsOf(network).FirstOrDefault(e => e.NodeId == nodeId && e.Netns == netns && netns.Length > 0)
            : null;
    }

    private static string? IdentityOf(string path)
    {
        if (!Path.IsPathRooted(path))
            throw Refuse(HttpStatusCode.BadRequest, "netns-invalid", "netns", path, $"netns '{path}' is not an absolute path", "give a path such as /run/netns/NAME or /proc/PID/ns/net");
        try
        {
            using var netns = NetworkNamespace.Open(path);
            return NamespaceIdentity.IsNeeded(path) ? NamespaceIdentity.Of(netns) : null;
        }
        catch (KernelException e)
        {
            throw Refuse(HttpStatusCode.BadRequest, "netns-invalid", "netns", path, $"netns '{path}' is not a network namespace: {e.Detail ?? e.Message}", "give a path such as /run/netns/NAME (made by 'ip netns add NAME') or /proc/PID/ns/net");
        }
    }

    /// <summary><c>/run/netns/web-1</c> → <c>web-1</c>; <c>/proc/42/ns/net</c> → <c>pid-42</c>; letters that a DNS label cannot have become hyphens.</summary>
    private static string NameFromPath(string path)
    {
        var parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        var raw = parts is ["proc", var pid, "ns", "net"] ? $"pid-{pid}" : parts[^1];
        var label = string.Concat(raw.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-')).Trim('-');
        return label.Length switch
        {
            0 => "endpoint",
            > 63 => label[..63].TrimEnd('-'),
            _ => label,
        };
    }

    private static RegistryException Refuse(HttpStatusCode status, string code, string field, string value, string message, string remedy) => new((int)status, new ErrorBody
    {
        Code = code,
        Field = field,
        Value = value,
        Message = message,
        Remedy = remedy,
    });

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "endpoint {Id} ({Name}): attached to network {Network}, revision {Revision}")]
        public static partial void Attached(ILogger logger, string id, string name, string network, long revision);

        [LoggerMessage(2, LogLevel.Information, "endpoint {Id} ({Name}): detached, revision {Revision}")]
        public static partial void Detached(ILogger logger, string id, string name, long revision);

        [LoggerMessage(3, LogLevel.Warning, "endpoint {Id} ({Name}): not attached, undone: {Reason}")]
        public static partial void Undone(ILogger logger, string id, string name, string reason);
    }
}
