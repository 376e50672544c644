using System.Net;
using OverlayNet.Daemon.Keeper;
using OverlayNet.Dns.InKernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Bpf;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.Daemon.Agent;

/// <summary>A network whose names the kernel is to answer.</summary>
/// <param name="Netns">Name of the namespace its bridge is in.</param>
/// <param name="Addresses">Of its listeners.</param>
/// <param name="Endpoints">Containers whose queries need not get as far as the bridge.</param>
internal sealed record AnsweredNetwork(string NetworkId, string Netns, IReadOnlyList<IPAddress> Addresses, IReadOnlyList<LocalEndpoint> Endpoints);

/// <summary>
/// Keeps the programs that answer names attached: at the bridge ports of the containers, and at the bridge for whoever else
/// asks. The keeper holds the links, so that names are answered while no daemon runs; a successor puts its programs in.
/// </summary>
internal sealed partial class AnsweringDevices(KernelAnswers? kernel, KeeperClient keeper, ILogger logger)
{
    private const int Port = 53;
    private readonly Dictionary<string, Answering> _networks = [];
    private readonly HashSet<string> _refused = [];

    /// <param name="Complete">Everything is attached that should be.</param>
    private sealed record Answering(AnsweredNetwork Wanted, string Id, IReadOnlyList<string> Links, bool Complete);

    /// <summary>
    /// Attaches what is missing. What cannot be is said once and tried again at the next comparison: the sockets answer all the
    /// same.
    /// </summary>
    /// <param name="whole">Whether to look at networks that are as they were, too.</param>
    public void Apply(IReadOnlyList<AnsweredNetwork> desired, bool whole)
    {
        if (kernel is null)
            return;
        foreach (var gone in _networks.Keys.Except(desired.Select(network => network.NetworkId)).ToList())
        {
            _networks.Remove(gone, out var network);
            Remove(network!);
        }
        foreach (var network in desired)
        {
            var known = _networks.GetValueOrDefault(network.NetworkId);
            Try(network.Netns, () =>
            {
                if (known is null || !IsSame(known.Wanted, network) || (whole && !(known.Complete && known.Links.All(kernel.Holds))))
                    Ensure(network, known);
            });
        }
    }

    /// <summary>Puts programs in the place of those that the daemon before this one left: they answer what it knew.</summary>
    public void TakeOver(IReadOnlyList<AnsweredNetwork> desired)
    {
        if (kernel is null)
            return;
        foreach (var network in desired)
        {
            // What fails here is made again, or said to be missing, by the first application.
            Try(network.Netns, () =>
            {
                using var netns = NamedNamespaces.OpenPinned(network.Netns);
                var id = IdOf(network, netns);
                var left = keeper.Inherited.Keys.Where(name => name.StartsWith(id + "/", StringComparison.Ordinal)).ToList();
                if (left.Count == 0)
                    return;
                // Remembered first: of the containers that are gone by now, too, or nobody would let go of theirs.
                _networks[network.NetworkId] = new Answering(network, id, left, Complete: false);
                Attach(network, netns, id, [.. left.Select(link => link[(id.Length + 1)..])]);
            });
        }
    }

    private void Ensure(AnsweredNetwork network, Answering? known)
    {
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        var id = IdOf(network, netns);
        if (known is not null && known.Id != id)
        {
            _networks.Remove(network.NetworkId);
            Remove(known);
            known = null;
        }
        string[] devices = [Overlay.Overlay.BridgeName, .. network.Endpoints.Select(endpoint => endpoint.HostInterface)];
        var wanted = devices.Select(device => $"{id}/{device}").ToHashSet();
        foreach (var link in (known?.Links ?? []).Where(link => !wanted.Contains(link)))
            Detach(link);
        // Also of those that cannot be attached: their device may have gone a moment ago, and then they are let go with it.
        var answering = _networks[network.NetworkId] = new Answering(network, id, [.. wanted], Complete: false);
        if (Attach(network, netns, id, [.. devices.Where(device => !kernel!.Holds($"{id}/{device}"))]))
            _networks[network.NetworkId] = answering with { Complete = true };
    }

    /// <returns>Whether all of them could be.</returns>
    private bool Attach(AnsweredNetwork network, NetworkNamespace netns, string id, IReadOnlyList<string> devices)
    {
        var all = true;
        netns.Run(() =>
        {
            using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
            var links = new RouteLinks(route);
            var bridge = links.Require(Overlay.Overlay.BridgeName);
            kernel!.Listen(id, network.NetworkId, network.Addresses, bridge.Mac ?? default, Port);
            foreach (var device in devices)
                all &= Try($"{id}/{device}", () => Attach(id, $"{id}/{device}", device, links));
        });
        return all;
    }

    private void Attach(string id, string link, string device, RouteLinks links)
    {
        keeper.Inherited.Remove(link, out var kept);
        try
        {
            if (kernel!.Attach(id, link, links.Require(device).Index, kept is null ? null : BpfLink.Adopt(kept, link)))
            {
                using var descriptor = kernel.LinkOf(link);
                keeper.Put(link, descriptor);
            }
        }
        catch
        {
            // Also when it is attached but not kept: it is tried again as a whole.
            kept?.Dispose();
            LetGo(link);
            throw;
        }
        Log.Attached(logger, link);
    }

    private void Remove(Answering network)
    {
        foreach (var link in network.Links)
            Detach(link);
        Try(network.Id, () => kernel!.Remove(network.Id));
    }

    private void Detach(string link)
    {
        LetGo(link);
        _refused.Remove(link);
    }

    private void LetGo(string link)
    {
        kernel!.Detach(link);
        Try("keeper", () => keeper.Drop(link));
    }

    /// <summary>Names are answered by the sockets all the same: what fails here is said once, and in nobody's way.</summary>
    private bool Try(string what, Action action)
    {
        try
        {
            action();
            _refused.Remove(what);
            return true;
        }
        catch (Exception e) when (e is KernelException or IOException or InvalidDataException)
        {
            if (_refused.Add(what))
                Log.Refused(logger, what, e.Message);
            return false;
        }
    }

    /// <summary>Changes with the namespace: links of one that was deleted and made again are of no use.</summary>
    private static string IdOf(AnsweredNetwork network, NetworkNamespace netns) => $"answers/{network.Netns}/{netns.Identity}";

    private static bool IsSame(AnsweredNetwork a, AnsweredNetwork b) =>
        a.Netns == b.Netns && a.Addresses.SequenceEqual(b.Addresses)
        && (ReferenceEquals(a.Endpoints, b.Endpoints) || a.Endpoints.Select(endpoint => endpoint.HostInterface).SequenceEqual(b.Endpoints.Select(endpoint => endpoint.HostInterface)));

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Debug, "dns: the kernel answers at {Link}")]
        public static partial void Attached(ILogger logger, string link);

        [LoggerMessage(2, LogLevel.Warning, "dns: the kernel does not answer at {Link}, the daemon does: {Reason}")]
        public static partial void Refused(ILogger logger, string link, string reason);
    }
}
