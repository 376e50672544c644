using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Configuration;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>Everything between this node's agent and the host's Docker: what Docker asks of us, and what we follow of Docker.</summary>
internal sealed class DockerRuntime : IAsyncDisposable
{
    private readonly NodeAgent _agent;
    private readonly DockerEndpoints _endpoints;
    private readonly DockerApi _api;
    private readonly NetworkMirror _mirror;
    private readonly DockerFollower _follower;
    private readonly string _pluginSocket;

    private DockerRuntime(DaemonOptions options, NodeAgent agent, TimeProvider time, ILoggerFactory loggers)
    {
        var logger = loggers.CreateLogger<DockerRuntime>();
        _agent = agent;
        _pluginSocket = options.DockerPluginSocket!;
        var bindings = new NetworkBindings(options.State, time);
        _endpoints = new DockerEndpoints(agent, time, logger);
        Ipam = new IpamDriver(_endpoints, time);
        Driver = new NetworkDriver(agent, _endpoints, Ipam, bindings, options.ResolverAddresses, logger);
        Swarm = new SwarmDriver(agent);
        _api = new DockerApi(options.DockerSocket);
        // Docker finds a driver by the name of its socket's file.
        _mirror = new NetworkMirror(agent, _api, bindings, Path.GetFileNameWithoutExtension(_pluginSocket), logger);
        _follower = new DockerFollower(agent, _endpoints, _api, _mirror, bindings, time, logger);
    }

    public IpamDriver Ipam { get; }

    public NetworkDriver Driver { get; }

    public SwarmDriver Swarm { get; }

    public static DockerRuntime Start(DaemonOptions options, NodeAgent agent, TimeProvider time, ILoggerFactory loggers)
    {
        var runtime = new DockerRuntime(options, agent, time, loggers);
        agent.Reconciler.Applied += runtime._endpoints.OnApplied;
        runtime._follower.Start();
        return runtime;
    }

    public async ValueTask DisposeAsync()
    {
        _agent.Reconciler.Applied -= _endpoints.OnApplied;
        await _follower.DisposeAsync().ConfigureAwait(false);
        _api.Dispose();
    }

    /// <param name="pluginError">Why the plugin's socket is not served, if so.</param>
    public PartStatus Status(string? pluginError)
    {
        var state = _follower.State;
        var count = _endpoints.All.Count(endpoint => !DockerEndpoints.IsLease(endpoint));
        var error = pluginError ?? state.Error ?? (_follower.Problems.Count > 0 ? _follower.Problems.First() : null);
        return new PartStatus
        {
            Name = "docker",
            Revision = _agent.Reconciler.AppliedRevision,
            Ok = error is null,
            LastError = error,
            Detail = $"{(pluginError is null ? $"driver on {_pluginSocket}" : "driver not served")}, {state.Text}, {count} endpoints",
        };
    }

    public IEnumerable<Finding> Examine(string? pluginError)
    {
        if (pluginError is not null)
            yield return Finding("error", "docker.plugin", _pluginSocket, "Docker's driver is not served", pluginError, "see 'docker.plugin' in the daemon's configuration");
        if (_follower.State.Error is { } error)
            yield return Finding("warning", "docker.api", _follower.State.Text, "Docker's API is not followed: names, labels and networks of containers stay as they were", error, "check that dockerd runs, and 'docker.socket' in the daemon's configuration");
        foreach (var problem in _follower.Problems)
            yield return Finding("warning", "docker.container", "containers", problem, null, null);
        foreach (var (network, reason) in _mirror.Missing)
            yield return Finding("warning", "docker.network", network, "the network is not in this host's Docker", reason, "rename or remove Docker's network, or use the network through 'overlaynet attach' only");
    }

    private static Finding Finding(string severity, string check, string @object, string message, string? evidence, string? remedy) => new()
    {
        Severity = severity,
        Check = check,
        Object = @object,
        Message = message,
        Evidence = evidence,
        Remedy = remedy,
    };
}
