using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Cni;

/// <summary>Answers the calls of the CNI plugin; the plugin itself only carries them here.</summary>
internal sealed class CniHandler(NodeAgent agent)
{
    /// <returns>The body for standard output; empty where the specification has none (DEL, CHECK, GC, STATUS).</returns>
    /// <exception cref="CniException">What the runtime is told.</exception>
    public async Task<byte[]> Handle(CniRequest request, CancellationToken cancellation)
    {
        var config = CniConfig.Parse(request.Config, request.Args);
        CniVersions.RequireCommand(request.Command, config.CniVersion);
        try
        {
            return request.Command switch
            {
                "ADD" => await Add(config, CniAttachment.Of(request, needsNetns: true), cancellation).ConfigureAwait(false),
                "DEL" => await Delete(config, CniAttachment.Of(request, needsNetns: false), cancellation).ConfigureAwait(false),
                "CHECK" => Check(config, CniAttachment.Of(request, needsNetns: true)),
                "GC" => await Collect(config, cancellation).ConfigureAwait(false),
                "STATUS" => Status(config),
                _ => throw new CniException(CniErrorCode.InvalidEnvironment, $"CNI_COMMAND '{request.Command}' is unknown", "ADD, DEL, CHECK, GC, STATUS and VERSION are known"),
            };
        }
        catch (RegistryException e)
        {
            throw Translate(e);
        }
    }

    /// <summary>A refusal of the daemon in CNI's terms.</summary>
    public static CniException Translate(RegistryException e)
    {
        var code = (e.Status, e.Error.Code) switch
        {
            (_, "netns-invalid" or "netns-gone" or "invalid-interface") => CniErrorCode.InvalidEnvironment,
            (_, "address-taken" or "mac-taken" or "subnet-full" or "already-attached" or "interface-taken") => CniErrorCode.Refused,
            (_, "node-not-active" or "node-unknown" or "not-a-member") => CniErrorCode.TryAgain,
            ( >= 500 and not 500, _) => CniErrorCode.TryAgain,
            (500, _) => CniErrorCode.Io,
            _ => CniErrorCode.InvalidConfig,
        };
        return new CniException(code, e.Error.Message, e.Error.Remedy ?? "");
    }

    private string EndpointId(CniConfig config, CniAttachment attachment) =>
        CniNames.EndpointId(agent.Membership.NodeId, config.Name, attachment.ContainerId, attachment.IfName);

    private async Task<byte[]> Add(CniConfig config, CniAttachment attachment, CancellationToken cancellation)
    {
        var id = EndpointId(config, attachment);
        if (agent.Follower.Current.Endpoints.GetValueOrDefault(id) is { } before)
        {
            // The same call again is answered as the first; one for another namespace follows a crash that no DEL came after.
            if (before.Netns == attachment.Netns && before.State != EndpointState.Starting && ContainerLink.Read(before.Netns, before.Mac)?.Name == attachment.IfName)
                return Result(config, attachment, before, agent.Follower.Current.Networks[before.NetworkId]);
            await agent.Attachments.Detach(new DetachRequest { Endpoint = id }, cancellation).ConfigureAwait(false);
        }
        if (ContainerLink.Exists(attachment.Netns, attachment.IfName))
        {
            throw new CniException(CniErrorCode.Refused, $"CNI_IFNAME '{attachment.IfName}': namespace {attachment.Netns} has an interface of this name already",
                "give another name, or delete that interface first");
        }
        var name = CniNames.EndpointName(config.ContainerName, attachment.ContainerId);
        AttachResponse attached;
        try
        {
            attached = await Attach(name, config.Aliases).ConfigureAwait(false);
        }
        catch (RegistryException e) when (e.Error.Code == "name-taken")
        {
            // A container of the same name on another node: both answer to the name, each has one of its own besides.
            attached = await Attach(CniNames.Distinguished(name, id), [.. config.Aliases.Where(alias => alias != name), name]).ConfigureAwait(false);
        }
        return Result(config, attachment, attached.Endpoint, attached.Network);

        Task<AttachResponse> Attach(string endpointName, IReadOnlyList<string> aliases) => agent.Attachments.Attach(new AttachRequest
        {
            Network = config.Network,
            Service = config.Service,
            Netns = attachment.Netns,
            Name = endpointName,
            Ip = config.Address4,
            Ip6 = config.Address6,
            Mac = config.Mac,
            Aliases = [.. aliases],
            Weight = config.Weight,
            Interface = attachment.IfName,
            Labels = new Dictionary<string, string>(config.Labels)
            {
                [CniNames.NetworkLabel] = config.Name,
                [CniNames.ContainerLabel] = attachment.ContainerId,
                [CniNames.InterfaceLabel] = attachment.IfName,
            },
        }, cancellation, id);
    }

    private byte[] Result(CniConfig config, CniAttachment attachment, Endpoint endpoint, Network network) =>
        CniResult.Write(config, endpoint, network, agent.Follower.Current.ClusterDomain, attachment.Netns, attachment.IfName, network.Mtu > 0 ? network.Mtu : agent.DefaultMtu);

    /// <summary>Never fails for what is gone already, nor for a manager that is away: then the endpoint is withdrawn here now and there later.</summary>
    private async Task<byte[]> Delete(CniConfig config, CniAttachment attachment, CancellationToken cancellation)
    {
        if (!agent.Follower.Synced)
            throw new CniException(CniErrorCode.TryAgain, "this node has not heard from a manager yet", "see 'overlaynet status'");
        await Remove(EndpointId(config, attachment), cancellation).ConfigureAwait(false);
        return [];
    }

    private async Task Remove(string id, CancellationToken cancellation)
    {
        if (!agent.Follower.Current.Endpoints.ContainsKey(id))
            return;
        try
        {
            await agent.Attachments.Detach(new DetachRequest { Endpoint = id }, cancellation).ConfigureAwait(false);
        }
        catch (RegistryException e) when (e.Status == StatusCodes.Status404NotFound)
        {
            // Gone meanwhile: the reaper or another DEL was first.
        }
        catch (RegistryException e) when (e.Error.Code is "no-manager" or "no-store")
        {
            agent.Withdrawals.Withdraw(id, "its runtime has removed it");
        }
    }

    private byte[] Check(CniConfig config, CniAttachment attachment)
    {
        if (config.PreviousResult is not { } previous)
            throw new CniException(CniErrorCode.InvalidConfig, "prevResult: CHECK needs what ADD has answered", "give the result of ADD as \"prevResult\"");
        if (CniResult.Find(previous, attachment.IfName) is not { } expected)
            throw new CniException(CniErrorCode.InvalidConfig, $"prevResult: it has no interface {attachment.IfName} in a sandbox", "give the result of ADD as \"prevResult\"");
        if (agent.Follower.Current.Endpoints.GetValueOrDefault(EndpointId(config, attachment)) is not { } endpoint)
            throw Changed($"container {attachment.ContainerId} has no endpoint for {attachment.IfName} on this node any more");
        if (ContainerLink.Read(attachment.Netns, endpoint.Mac) is not { } link || link.Name != attachment.IfName)
            throw Changed($"namespace {attachment.Netns} has no interface {attachment.IfName} with MAC {endpoint.Mac}");
        if (expected.Mac is { Length: > 0 } mac && !string.Equals(mac, endpoint.Mac, StringComparison.OrdinalIgnoreCase))
            throw Changed($"interface {attachment.IfName} had MAC {mac} and has {endpoint.Mac}");
        foreach (var address in expected.Addresses.Where(address => !link.Addresses.Contains(address)))
            throw Changed($"interface {attachment.IfName} in {attachment.Netns} has lost {address}");
        if (!link.IsUp)
            throw Changed($"interface {attachment.IfName} in {attachment.Netns} is down");
        return [];
    }

    private async Task<byte[]> Collect(CniConfig config, CancellationToken cancellation)
    {
        if (config.ValidAttachments is not { } valid)
            throw new CniException(CniErrorCode.InvalidConfig, "cni.dev/valid-attachments: GC needs the list of what is in use", "write [{\"containerID\": \"...\", \"ifname\": \"...\"}]");
        var keep = valid.Select(attachment => CniNames.EndpointId(agent.Membership.NodeId, config.Name, attachment.ContainerId, attachment.IfName)).ToHashSet();
        var stale = agent.Follower.Current.Endpoints.Values
            .Where(endpoint => endpoint.NodeId == agent.Membership.NodeId && endpoint.Labels.GetValueOrDefault(CniNames.NetworkLabel) == config.Name && !keep.Contains(endpoint.Id))
            .Select(endpoint => endpoint.Id)
            .ToList();
        await Task.WhenAll(stale.Select(id => Remove(id, cancellation))).ConfigureAwait(false);
        return [];
    }

    private byte[] Status(CniConfig config)
    {
        if (!agent.Follower.Synced)
            throw NotAvailable("this node has not heard from a manager yet", "see 'overlaynet status'");
        var silence = agent.Follower.SinceContact;
        if (silence is null || silence > ManagerSilence)
            throw NotAvailable("no manager answers: running containers go on, new ones cannot be attached", "bring a manager back; see 'overlaynet status'");
        if (agent.Follower.Current.FindNetwork(config.Network).Value is null)
            throw NotAvailable($"network '{config.Network}' does not exist", $"create it: overlaynet network create {config.Network}");
        return [];
    }

    // As the watch stream: its signs of life come each second.
    private static readonly TimeSpan ManagerSilence = TimeSpan.FromSeconds(5);

    private static CniException NotAvailable(string message, string remedy) => new(CniErrorCode.NotAvailable, message, remedy);

    private static CniException Changed(string message) => new(CniErrorCode.NotAsAdded, message, "the runtime should remove and add the container");
}
