using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// This node's endpoints that are Docker's, in the registry: first an address that is only reserved, then bound to Docker's
/// endpoint, then given a namespace, and healthy once Docker has put the interface in place. Every write returns when this
/// node's snapshot has it, so that Docker's next request finds it.
/// </summary>
internal sealed partial class DockerEndpoints(NodeAgent agent, TimeProvider time, ILogger logger)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15);

    // When this daemon last did something about an endpoint, by its id in the registry.
    private readonly ConcurrentDictionary<string, long> _touched = new();
    private readonly ConcurrentDictionary<string, byte> _finishing = new();

    public string NodeId => agent.Membership.NodeId;

    public Snapshot Snapshot => agent.Follower.Current;

    /// <summary>All of them.</summary>
    public IEnumerable<Endpoint> All => Snapshot.Nodes.TryGetValue(NodeId, out var node)
        ? Snapshot.EndpointsOf(node).Where(RuntimeLabels.IsConfiguredByRuntime)
        : [];

    /// <summary>By the id of Docker's endpoint.</summary>
    public Endpoint? Find(string dockerEndpointId) => All.FirstOrDefault(endpoint => endpoint.Labels[RuntimeLabels.DockerEndpoint] == dockerEndpointId);

    /// <summary>By address, bound to a Docker endpoint or not.</summary>
    public Endpoint? At(Network network, IPAddress address) =>
        All.FirstOrDefault(endpoint => endpoint.NetworkId == network.Id && (address.Equals(endpoint.Address4) || address.Equals(endpoint.Address6)));

    public static bool IsLease(Endpoint endpoint) => endpoint.Labels.GetValueOrDefault(RuntimeLabels.DockerEndpoint) is "";

    /// <summary>How long ago this daemon did something about an endpoint; null: not since it started.</summary>
    public TimeSpan? SinceTouched(Endpoint endpoint) => _touched.TryGetValue(endpoint.Id, out var at) ? time.GetElapsedTime(at) : null;

    /// <summary>Reserves addresses for a container that Docker is about to start.</summary>
    /// <exception cref="RegistryException">The addresses cannot be had, or no manager answers.</exception>
    public async Task<Endpoint> Reserve(Network network, IPAddress? ip, IPAddress? ip6)
    {
        var id = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8));
        _touched[id] = time.GetTimestamp();
        var (endpoint, revision) = await agent.Registry.CreateEndpoint(new EndpointCreateRequest
        {
            Id = id,
            Name = $"docker-{id}",
            NodeId = NodeId,
            Network = network.Id,
            Ip = ip?.ToString(),
            Ip6 = ip6?.ToString(),
            Labels = new() { [RuntimeLabels.DockerEndpoint] = "" },
        }, CancellationToken.None).ConfigureAwait(false);
        await Seen(revision).ConfigureAwait(false);
        return endpoint;
    }

    /// <exception cref="RegistryException">Refused, or no manager answers.</exception>
    public async Task<(Endpoint Endpoint, long Revision)> Update(Endpoint endpoint, EndpointUpdateRequest request)
    {
        _touched[endpoint.Id] = time.GetTimestamp();
        var written = await agent.Registry.UpdateEndpoint(endpoint.Id, request, CancellationToken.None).ConfigureAwait(false);
        await Seen(written.Revision).ConfigureAwait(false);
        return written;
    }

    /// <exception cref="RegistryException">Refused, or no manager answers.</exception>
    public async Task Remove(Endpoint endpoint)
    {
        var revision = await agent.Registry.DeleteEndpoint(endpoint.Id, CancellationToken.None).ConfigureAwait(false);
        _touched.TryRemove(endpoint.Id, out _);
        await Seen(revision).ConfigureAwait(false);
    }

    /// <summary>Waits until the kernel reflects a revision.</summary>
    /// <exception cref="RegistryException">The kernel refused something of this endpoint.</exception>
    public async Task Built(Endpoint endpoint, long revision)
    {
        var outcome = await agent.Reconciler.ApplyThrough(revision).WaitAsync(Patience).ConfigureAwait(false);
        if (outcome.Errors.TryGetValue(endpoint.Id, out var error) || outcome.Errors.TryGetValue(endpoint.NetworkId, out error))
            throw Refuse.Conflict("kernel", "endpoint", endpoint.Name, error, "see 'overlaynet doctor'");
    }

    /// <summary>After each application: endpoints whose interface Docker has put in place begin to serve.</summary>
    public void OnApplied(ApplyOutcome outcome)
    {
        foreach (var (id, @interface) in outcome.Ready)
        {
            if (Snapshot.Endpoints.TryGetValue(id, out var endpoint)
                && endpoint is { State: EndpointState.Starting, Netns.Length: > 0 }
                && RuntimeLabels.IsConfiguredByRuntime(endpoint)
                && _finishing.TryAdd(id, 0))
                _ = Finish(endpoint, @interface);
        }
    }

    private async Task Finish(Endpoint endpoint, string @interface)
    {
        try
        {
            // Not through Update: who waits for the reconciler must not be waited for by it.
            await agent.Registry.UpdateEndpoint(endpoint.Id, new EndpointUpdateRequest { State = EndpointState.Healthy, Interface = @interface }, CancellationToken.None).ConfigureAwait(false);
            Log.Serving(logger, endpoint.Id, endpoint.Name, @interface);
        }
        catch (Exception e) when (e is RegistryException or OperationCanceledException)
        {
            // The next application finds it still starting, and it is tried again.
            Log.NotFinished(logger, endpoint.Id, endpoint.Name, e.Message);
        }
        finally
        {
            _finishing.TryRemove(endpoint.Id, out _);
        }
    }

    private Task Seen(long revision) => agent.Follower.WaitFor(revision, CancellationToken.None).WaitAsync(Patience);

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "docker: endpoint {Id} ({Name}): serves, interface {Interface}")]
        public static partial void Serving(ILogger logger, string id, string name, string @interface);

        [LoggerMessage(2, LogLevel.Warning, "docker: endpoint {Id} ({Name}): stays starting: {Reason}")]
        public static partial void NotFinished(ILogger logger, string id, string name, string reason);
    }
}
