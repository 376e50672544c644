using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// Every network of the cluster is a network of this Docker, by the same name; one that is removed from the cluster is removed
/// here. Networks that <c>docker network create</c> made give their name to the cluster's.
/// </summary>
internal sealed partial class NetworkMirror(NodeAgent agent, DockerApi docker, NetworkBindings bindings, string driver, ILogger logger)
{
    /// <summary>Label of Docker's networks that this daemon made.</summary>
    public const string ManagedLabel = "overlaynet.managed";

    /// <summary>Networks of the cluster that this Docker does not have, each with the reason.</summary>
    public IReadOnlyDictionary<string, string> Missing { get; private set; } = new Dictionary<string, string>();

    /// <summary>Compares and mends.</summary>
    /// <exception cref="DockerException">Docker does not answer.</exception>
    public async Task Sync(CancellationToken cancellation)
    {
        var all = await docker.Networks(cancellation).ConfigureAwait(false);
        var ours = all.Where(network => network.Driver == driver && network.Scope == "local").ToList();
        foreach (var network in ours)
            Recover(network);
        foreach (var gone in bindings.All.Keys.Except(all.Select(network => network.Id)).Where(bindings.IsSettled).ToList())
            await Forget(gone, cancellation).ConfigureAwait(false);
        foreach (var network in ours)
            await Follow(network, cancellation).ConfigureAwait(false);
        var bound = bindings.All.Values.ToHashSet();
        var missing = new Dictionary<string, string>();
        foreach (var network in agent.Follower.Current.Networks.Values.OrderBy(network => network.Name, StringComparer.Ordinal))
        {
            if (bound.Contains(network.Id) || network.Labels.ContainsKey(SwarmDriver.NetworkLabel))
                continue;
            if (IsUnnamed(network))
                missing[network.Name] = "the Docker that created it has not told its name yet";
            else if (network.Subnet4 is null)
                missing[network.Name] = "it has no IPv4 subnet, which Docker needs";
            else if (all.FirstOrDefault(other => other.Name == network.Name) is { } namesake)
                missing[network.Name] = $"Docker has a network of this name with driver {namesake.Driver}";
            else if (await TryCreate(network, cancellation).ConfigureAwait(false) is { } problem)
                missing[network.Name] = problem;
        }
        foreach (var (name, problem) in missing.Where(entry => Missing.GetValueOrDefault(entry.Key) != entry.Value && !entry.Key.StartsWith(NetworkDriver.ProvisionalPrefix, StringComparison.Ordinal)))
            Log.NotThere(logger, name, problem);
        Missing = missing;
    }

    /// <summary>A binding that was lost with our state directory is told by the network's own options.</summary>
    private void Recover(DockerNetwork network)
    {
        if (bindings.Find(network.Id) is not null)
            return;
        var snapshot = agent.Follower.Current;
        var named = network.Options?.GetValueOrDefault(IpamDriver.NetworkOption) ?? network.IPAM?.Options?.GetValueOrDefault(IpamDriver.NetworkOption);
        var found = snapshot.Networks.Values.FirstOrDefault(other => other.Labels.GetValueOrDefault(NetworkDriver.CreatedByLabel) == network.Id)
            ?? (named is { Length: > 0 } ? snapshot.FindNetwork(named).Value : null);
        if (found is not null)
            bindings.Bind(network.Id, found.Id);
    }

    /// <summary>Docker removed a network while this daemon was not there to be told.</summary>
    private async Task Forget(string dockerId, CancellationToken cancellation)
    {
        var id = bindings.Find(dockerId);
        bindings.Unbind(dockerId);
        if (id is null || !agent.Follower.Current.Networks.TryGetValue(id, out var network) || network.Labels.GetValueOrDefault(NetworkDriver.CreatedByLabel) != dockerId)
            return;
        try
        {
            await agent.Registry.DeleteNetwork(id, cancellation).ConfigureAwait(false);
        }
        catch (RegistryException e)
        {
            Log.Stays(logger, network.Name, e.Message);
        }
    }

    private async Task Follow(DockerNetwork network, CancellationToken cancellation)
    {
        if (bindings.Find(network.Id) is not { } id)
            return;
        if (!agent.Follower.Current.Networks.TryGetValue(id, out var known))
        {
            try
            {
                await docker.RemoveNetwork(network.Id, cancellation).ConfigureAwait(false);
                bindings.Unbind(network.Id);
                Log.Removed(logger, network.Name);
            }
            catch (DockerException e) when (e.Status is not null)
            {
                Log.NotRemoved(logger, network.Name, e.Message);
            }
            return;
        }
        if (known.Labels.GetValueOrDefault(NetworkDriver.CreatedByLabel) == network.Id && IsUnnamed(known))
            await TakeName(known, network.Name, cancellation).ConfigureAwait(false);
    }

    private async Task TakeName(Network network, string name, CancellationToken cancellation)
    {
        if (ContainerPlan.Label(name) is not { } label)
            return;
        try
        {
            var (_, revision) = await agent.Registry.UpdateNetwork(network.Id, new NetworkUpdateRequest { Name = label }, cancellation).ConfigureAwait(false);
            await agent.Follower.WaitFor(revision, cancellation).ConfigureAwait(false);
            Log.Named(logger, network.Name, label);
        }
        catch (RegistryException e)
        {
            Log.NotNamed(logger, network.Name, label, e.Message);
            agent.Events.Append("docker", "network-unnamed", network.Name, $"does not get the name '{label}': {e.Message}");
        }
    }

    private async Task<string?> TryCreate(Network network, CancellationToken cancellation)
    {
        List<DockerIpamConfig> pools = [new() { Subnet = network.Subnet4.ToString(), Gateway = network.Gateway4?.ToString() }];
        if (network.Subnet6 is { } subnet6)
            pools.Add(new DockerIpamConfig { Subnet = subnet6.ToString(), Gateway = network.Gateway6?.ToString() });
        try
        {
            await docker.CreateNetwork(new DockerNetworkCreate
            {
                Name = network.Name,
                CheckDuplicate = true,
                Driver = driver,
                Internal = network.Internal,
                Attachable = true,
                EnableIPv6 = network.Subnet6 is not null,
                IPAM = new DockerIpam { Driver = driver, Options = new() { [IpamDriver.NetworkOption] = network.Id }, Config = pools },
                Options = new() { [IpamDriver.NetworkOption] = network.Id },
                Labels = new() { [ManagedLabel] = "true" },
            }, cancellation).ConfigureAwait(false);
            Log.Created(logger, network.Name);
            return null;
        }
        catch (DockerException e) when (e.Status is not null)
        {
            return e.Message;
        }
    }

    private static bool IsUnnamed(Network network) =>
        network.Labels.GetValueOrDefault(NetworkDriver.CreatedByLabel) is { } dockerId && network.Name == NetworkDriver.ProvisionalName(dockerId);

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Information, "docker: network {Network}: created in Docker")]
        public static partial void Created(ILogger logger, string network);

        [LoggerMessage(2, LogLevel.Information, "docker: network {Network}: removed from Docker, since it is no longer in the cluster")]
        public static partial void Removed(ILogger logger, string network);

        [LoggerMessage(3, LogLevel.Warning, "docker: network {Network} is no longer in the cluster, but stays in Docker: {Reason}")]
        public static partial void NotRemoved(ILogger logger, string network, string reason);

        [LoggerMessage(4, LogLevel.Warning, "docker: network {Network} is not in Docker: {Reason}")]
        public static partial void NotThere(ILogger logger, string network, string reason);

        [LoggerMessage(5, LogLevel.Information, "docker: network {Network}: has Docker's name now: {Name}")]
        public static partial void Named(ILogger logger, string network, string name);

        [LoggerMessage(6, LogLevel.Warning, "docker: network {Network}: does not get Docker's name {Name}: {Reason}")]
        public static partial void NotNamed(ILogger logger, string network, string name, string reason);

        [LoggerMessage(7, LogLevel.Warning, "docker: network {Network} was removed from Docker, but stays in the cluster: {Reason}")]
        public static partial void Stays(ILogger logger, string network, string reason);
    }
}
