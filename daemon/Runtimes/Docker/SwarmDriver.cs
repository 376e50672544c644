using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Daemon.Agent;
using OverlayNet.Daemon.Registry;

namespace OverlayNet.Daemon.Runtimes.Docker;

/// <summary>
/// What swarm mode asks of a driver of global scope, on the swarm's leader: the network is made once, and the options answered
/// here come to every node's <see cref="NetworkDriver.CreateNetwork"/>. Addresses are the swarm's to give.
/// </summary>
internal sealed class SwarmDriver(NodeAgent agent)
{
    /// <summary>Label of a network of the swarm's: its id there. Docker has it from the swarm, not from us.</summary>
    public const string NetworkLabel = "overlaynet.docker.swarm";

    public async Task<AllocateNetworkResponse> AllocateNetwork(AllocateNetworkRequest request)
    {
        var snapshot = agent.Follower.Current;
        if (request.IPv4Data is not [var data4, ..] || Prefixes.Parse(data4.Pool) is not var (address, length))
            throw Refuse.Invalid("subnet-missing", "subnet", null, "the swarm gave no IPv4 subnet", "create the network with --subnet");
        var options = request.Options ?? [];
        var named = options.GetValueOrDefault(IpamDriver.NetworkOption);
        var network = snapshot.Networks.Values.FirstOrDefault(known => known.Labels.GetValueOrDefault(NetworkLabel) == request.NetworkID)
            ?? await Create(request.NetworkID, named, Prefixes.Of(address, length), data4.Gateway).ConfigureAwait(false);
        return new AllocateNetworkResponse(new Dictionary<string, string>(options) { [IpamDriver.NetworkOption] = network.Id });
    }

    public async Task FreeNetwork(NetworkRequest request)
    {
        if (agent.Follower.Current.Networks.Values.FirstOrDefault(known => known.Labels.GetValueOrDefault(NetworkLabel) == request.NetworkID) is { } network)
            await agent.Registry.DeleteNetwork(network.Id, CancellationToken.None).ConfigureAwait(false);
    }

    private async Task<Network> Create(string swarmId, string? name, IPNetwork subnet, string gateway)
    {
        // The swarm gives addresses out from below; what we need ourselves (nodes' own addresses, VIPs) comes from the last quarter.
        var quarter = subnet.PrefixLength + 2;
        var range = Prefixes.Of(Prefixes.At(subnet, Prefixes.LastOffset(subnet)), quarter);
        var (network, revision) = await agent.Registry.CreateNetwork(new NetworkCreateRequest
        {
            Name = name is { Length: > 0 } ? name : NetworkDriver.ProvisionalName(swarmId),
            Subnet = subnet.ToString(),
            IpRange = range.ToString(),
            Gateway = gateway.Split('/')[0] is { Length: > 0 } address ? address : null,
            Labels = new() { [NetworkLabel] = swarmId },
        }, CancellationToken.None).ConfigureAwait(false);
        await agent.Follower.WaitFor(revision, CancellationToken.None).ConfigureAwait(false);
        return network;
    }
}
