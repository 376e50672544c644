using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Net;
using System.Threading.Channels;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Planners;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <param name="Error">Why Docker is not followed although it is there; null: it is followed, or there is none.</param>
internal sealed record DockerState(string Text, string? Error);

/// <summary>
/// Follows Docker's events for what libnetwork does not tell its drivers: names and aliases of containers, labels, names of
/// networks. Everything is compared at each (re)connection, when the cluster's networks or services change, and now and then.
/// </summary>
internal sealed partial class DockerFollower(
    NodeAgent agent, DockerEndpoints endpoints, DockerApi docker, NetworkMirror mirror, NetworkBindings bindings, TimeProvider time, ILogger logger) : IAsyncDisposable
{
    private static readonly TimeSpan FirstRetry = TimeSpan.FromMilliseconds(100), LastRetry = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(10);

    /// <summary>How long Docker must not have had an endpoint before it is taken away: its list lags behind what it is just starting.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly CancellationTokenSource _stop = new();
    private readonly Channel<bool> _wanted = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly ConcurrentDictionary<string, string> _problems = new();
    private readonly Dictionary<string, long> _missingSince = [];
    private Task _running = Task.CompletedTask;
    private volatile bool _connected;
    private volatile string? _error;
    private volatile string _version = "";
    private long _lastEvent;

    /// <summary>What could not be done for single containers.</summary>
    public IReadOnlyList<string> Problems => [.. _problems.Values.Order(StringComparer.Ordinal)];

    public DockerState State
    {
        get
        {
            if (!docker.Exists)
                return new DockerState("no Docker on this host", null);
            if (!_connected)
                return new DockerState("Docker's API not reachable", _error ?? "not connected yet");
            var at = Volatile.Read(ref _lastEvent);
            return new DockerState($"Docker {_version} followed, last event {(at == 0 ? "none yet" : $"{time.GetElapsedTime(at).TotalSeconds:0} s ago")}", _error);
        }
    }

    public void Start() => _running = Task.WhenAll(Follow(), SyncWhenWanted(), WantAtChanges());

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
    }

    private void Want() => _wanted.Writer.TryWrite(true);

    private async Task Follow()
    {
        var retry = FirstRetry;
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                if (docker.Exists)
                {
                    await foreach (var entry in docker.Events(Connected, _stop.Token).ConfigureAwait(false))
                    {
                        retry = FirstRetry;
                        Volatile.Write(ref _lastEvent, time.GetTimestamp());
                        Heard(entry);
                    }
                    Lost("the stream of events ended");
                }
            }
            catch (DockerException e)
            {
                Lost(e.Message);
            }
            catch (OperationCanceledException)
            {
                return;
            }
            await Task.Delay(retry, time, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            retry = TimeSpan.FromTicks(Math.Min(retry.Ticks * 2, LastRetry.Ticks));
        }
    }

    private void Connected()
    {
        (_connected, _error) = (true, null);
        Want();
    }

    private void Lost(string reason)
    {
        if (_connected || _error is null)
            Log.Lost(logger, reason);
        (_connected, _error) = (false, reason);
    }

    private void Heard(DockerEvent entry)
    {
        switch (entry)
        {
            case { Type: "container", Action: "start" or "rename", Actor.ID: { Length: > 0 } id }:
                _ = LearnSafely(id);
                break;
            case { Type: "network", Action: "connect", Actor.Attributes: { } attributes } when attributes.GetValueOrDefault("container") is { Length: > 0 } id:
                _ = LearnSafely(id);
                break;
            case { Type: "network", Action: "create" or "destroy" }:
                Want();
                break;
        }
    }

    private async Task SyncWhenWanted()
    {
        while (!_stop.IsCancellationRequested)
        {
            using (var timeout = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token))
            {
                timeout.CancelAfter(Period);
                Task wanted = _wanted.Reader.WaitToReadAsync(timeout.Token).AsTask();
                await wanted.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            _wanted.Reader.TryRead(out _);
            if (!_connected || !agent.Follower.Synced || _stop.IsCancellationRequested)
                continue;
            try
            {
                await Sync().ConfigureAwait(false);
                _error = null;
            }
            catch (Exception e) when (e is DockerException or RegistryException or TimeoutException)
            {
                _error = e.Message;
                Log.NotCompared(logger, e.Message);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task WantAtChanges()
    {
        var seen = (ImmutableDictionary<string, Network>.Empty, ImmutableDictionary<string, Service>.Empty);
        while (!_stop.IsCancellationRequested)
        {
            var changed = agent.Follower.Changed;
            var snapshot = agent.Follower.Current;
            if (seen != (snapshot.Networks, snapshot.Services))
            {
                seen = (snapshot.Networks, snapshot.Services);
                Want();
            }
            await changed.WaitAsync(_stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task Sync()
    {
        _version = (await docker.Version(_stop.Token).ConfigureAwait(false)).Version;
        await mirror.Sync(_stop.Token).ConfigureAwait(false);
        var live = new HashSet<string>();
        var running = await docker.Containers(_stop.Token).ConfigureAwait(false);
        foreach (var id in _problems.Keys.Except(running.Select(entry => entry.Id)).ToList())
            _problems.TryRemove(id, out _);
        foreach (var entry in running)
        {
            if (await docker.Container(entry.Id, _stop.Token).ConfigureAwait(false) is { } container)
                live.UnionWith(await Learn(container).ConfigureAwait(false));
        }
        await RemoveMissing(live).ConfigureAwait(false);
    }

    private async Task LearnSafely(string containerId)
    {
        try
        {
            if (await docker.Container(containerId, _stop.Token).ConfigureAwait(false) is { } container)
                await Learn(container).ConfigureAwait(false);
        }
        catch (Exception e) when (e is DockerException or RegistryException or TimeoutException or OperationCanceledException)
        {
            // The comparison that comes every few seconds does it again.
            Log.NotLearned(logger, containerId, e.Message);
        }
    }

    /// <returns>The ids of the container's endpoints in Docker.</returns>
    private async Task<IReadOnlyList<string>> Learn(DockerContainer container)
    {
        var ids = new List<string>();
        if (container.State?.Running != true)
            return ids;
        var problems = new List<string?>();
        foreach (var docker in container.NetworkSettings?.Networks?.Values ?? Enumerable.Empty<DockerContainerEndpoint>())
        {
            if (docker.EndpointID.Length == 0 || bindings.Find(docker.NetworkID) is not { } networkId)
                continue;
            ids.Add(docker.EndpointID);
            var endpoint = endpoints.Find(docker.EndpointID) ?? await Adopt(container, docker, networkId).ConfigureAwait(false);
            if (endpoint is null)
                continue;
            var (change, problem) = ContainerPlan.Plan(endpoints.Snapshot, endpoint, container, docker);
            if (change is not null)
                await endpoints.Update(endpoint, change).ConfigureAwait(false);
            problems.Add(problem);
        }
        // A container's label may be meant for one of its networks only.
        if (problems.Count > 0)
            Note(container, problems.Contains(null) ? null : problems[0]);
        return ids;
    }

    /// <summary>Docker has an endpoint that the registry has lost: it is taken in again, with the addresses it has.</summary>
    private async Task<Endpoint?> Adopt(DockerContainer container, DockerContainerEndpoint docker, string networkId)
    {
        var sandbox = container.NetworkSettings!.SandboxKey;
        if (!endpoints.Snapshot.Networks.TryGetValue(networkId, out var network) || !sandbox.StartsWith('/')
            || !IPAddress.TryParse(docker.IPAddress, out var address))
            return null;
        try
        {
            var lease = endpoints.At(network, address) is { } known && DockerEndpoints.IsLease(known)
                ? known
                : await endpoints.Reserve(network, address, IPAddress.TryParse(docker.GlobalIPv6Address, out var address6) ? address6 : null).ConfigureAwait(false);
            var (endpoint, _) = await endpoints.Update(lease, new EndpointUpdateRequest
            {
                Netns = sandbox,
                State = EndpointState.Healthy,
                Labels = new() { [RuntimeLabels.DockerEndpoint] = docker.EndpointID },
            }).ConfigureAwait(false);
            Log.Adopted(logger, endpoint.Id, container.Name, network.Name);
            return endpoint;
        }
        catch (RegistryException e)
        {
            Note(container, $"container {container.Name.TrimStart('/')} cannot be taken in again on network '{network.Name}': {e.Message}; restart it");
            return null;
        }
    }

    /// <summary>What Docker no longer has is taken away: it ended while nobody was told.</summary>
    private async Task RemoveMissing(HashSet<string> live)
    {
        var missing = endpoints.All.Where(endpoint => !live.Contains(endpoint.Labels[RuntimeLabels.DockerEndpoint])).ToList();
        foreach (var id in _missingSince.Keys.Except(missing.Select(endpoint => endpoint.Id)).ToList())
            _missingSince.Remove(id);
        foreach (var endpoint in missing)
        {
            if (!_missingSince.TryGetValue(endpoint.Id, out var since))
            {
                _missingSince[endpoint.Id] = time.GetTimestamp();
                continue;
            }
            if (time.GetElapsedTime(since) < Patience || endpoints.SinceTouched(endpoint) < Patience)
                continue;
            Log.Missing(logger, endpoint.Id, endpoint.Name);
            agent.Events.Append("docker", "withdraw", endpoint.Name, "Docker does not have it");
            await endpoints.Remove(endpoint).ConfigureAwait(false);
        }
    }

    private void Note(DockerContainer container, string? problem)
    {
        if (problem is null)
        {
            _problems.TryRemove(container.Id, out _);
            return;
        }
        var text = $"container {container.Name.TrimStart('/')}: {problem}";
        if (_problems.GetValueOrDefault(container.Id) == text)
            return;
        _problems[container.Id] = text;
        Log.Problem(logger, text);
        agent.Events.Append("docker", "problem", container.Name.TrimStart('/'), problem);
    }

    private static partial class Log
    {
        [LoggerMessage(11, LogLevel.Warning, "docker: events lost: {Reason}")]
        public static partial void Lost(ILogger logger, string reason);

        [LoggerMessage(12, LogLevel.Warning, "docker: not compared, tried again: {Reason}")]
        public static partial void NotCompared(ILogger logger, string reason);

        [LoggerMessage(13, LogLevel.Warning, "docker: container {Container}: not learned, tried again: {Reason}")]
        public static partial void NotLearned(ILogger logger, string container, string reason);

        [LoggerMessage(14, LogLevel.Warning, "docker: endpoint {Id} of container {Container} was not in the registry: taken in again on network {Network}")]
        public static partial void Adopted(ILogger logger, string id, string container, string network);

        [LoggerMessage(15, LogLevel.Warning, "docker: endpoint {Id} ({Name}): Docker does not have it, removed")]
        public static partial void Missing(ILogger logger, string id, string name);

        [LoggerMessage(16, LogLevel.Warning, "docker: {Problem}")]
        public static partial void Problem(ILogger logger, string problem);
    }
}
