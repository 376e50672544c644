using OverlayNet.Contracts;
using OverlayNet.Daemon.Registry;
using OverlayNet.Kernel;

namespace OverlayNet.Daemon.Health;

/// <summary>Endpoints that a registry of another incarnation lacks, and that this node goes on using: their owner puts them back, everybody else looks whether they live.</summary>
internal sealed partial class HealthAgent
{
    private static readonly TimeSpan HeldEvery = TimeSpan.FromSeconds(1);

    private readonly HashSet<string> _reasserted = [];

    private async Task MindHeld(CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            await Task.Delay(HeldEvery, _time, cancellation).ConfigureAwait(false);
            foreach (var endpoint in _follower.Held.Values)
            {
                if (endpoint.NodeId == _nodeId)
                {
                    if (endpoint.Kind == EndpointKind.Container && !_reasserted.Contains(endpoint.Id))
                        await Reassert(endpoint, cancellation).ConfigureAwait(false);
                }
                else if (_prober.Standing(endpoint.Id) is { Passing: false } standing)
                {
                    Retire(endpoint, $"it does not answer: {standing.Reason}");
                }
            }
        }
    }

    /// <summary>The owner knows best: what runs here is registered again, with its id and addresses.</summary>
    private async Task Reassert(Endpoint endpoint, CancellationToken cancellation)
    {
        try
        {
            NetworkNamespace.Open(endpoint.Netns).Dispose();
        }
        catch (KernelException)
        {
            Retire(endpoint, "its namespace is gone");
            return;
        }
        try
        {
            await _registry.CreateEndpoint(
                new EndpointCreateRequest
                {
                    Id = endpoint.Id,
                    Name = endpoint.Name,
                    NodeId = _nodeId,
                    Network = endpoint.NetworkId,
                    Service = endpoint.ServiceId,
                    Ip = endpoint.Address4?.ToString(),
                    Ip6 = endpoint.Address6?.ToString(),
                    Aliases = [.. endpoint.Aliases],
                    Weight = endpoint.Weight,
                    Netns = endpoint.Netns,
                    Interface = endpoint.Interface,
                    Labels = new Dictionary<string, string>(endpoint.Labels),
                }, cancellation).ConfigureAwait(false);
            var (_, revision) = await _registry.UpdateEndpoint(endpoint.Id, new EndpointUpdateRequest { State = endpoint.State }, cancellation).ConfigureAwait(false);
            _reasserted.Add(endpoint.Id);
            Log.Reasserted(_logger, endpoint.Id, endpoint.Name, revision);
            _events("endpoint", "reassert", endpoint.Name, "the registry had lost it, and it runs here", revision);
        }
        catch (RegistryException e) when (e.Status is StatusCodes.Status409Conflict or StatusCodes.Status404NotFound or StatusCodes.Status400BadRequest)
        {
            Retire(endpoint, e.Message);
        }
        catch (RegistryException)
        {
            // No manager answers: held until one does.
        }
    }

    private void Retire(Endpoint endpoint, string why)
    {
        _follower.Retire(endpoint.Id);
        Log.Retired(_logger, endpoint.Id, endpoint.Name, why);
        _events("endpoint", "retire", endpoint.Name, $"no longer held: {why}", _follower.Current.Revision);
    }

    private static partial class Log
    {
        [LoggerMessage(2, LogLevel.Warning, "endpoint {Id} ({Name}): the registry had lost it, registered again, revision {Revision}")]
        public static partial void Reasserted(ILogger logger, string id, string name, long revision);

        [LoggerMessage(3, LogLevel.Warning, "endpoint {Id} ({Name}): no longer held: {Why}")]
        public static partial void Retired(ILogger logger, string id, string name, string why);
    }
}
