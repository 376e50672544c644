using System.Net;
using Microsoft.Win32.SafeHandles;
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
    private const int Port = 53, NoSuchDevice = 19;
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
            if (known is not null && IsSame(known.Wanted, network) && (!whole || (known.Complete && known.Links.All(kernel.Holds))))
                continue;
            try
            {
                _networks[network.NetworkId] = Ensure(network, known);
            }
            catch (KernelException e)
            {
                Refused(network.Netns, e);
            }
        }
    }

    /// <summary>Puts programs in the place of those that the daemon before this one left: they answer what it knew.</summary>
    public void TakeOver(IReadOnlyList<AnsweredNetwork> desired)
    {
        if (kernel is null)
            return;
        foreach (var network in desired)
        {
            try
            {
                using var netns = NamedNamespaces.OpenPinned(network.Netns);
                var id = IdOf(network, netns);
                var left = keeper.Inherited.Keys.Where(name => name.StartsWith(id + "/", StringComparison.Ordinal)).Select(name => name[(id.Length + 1)..]).ToList();
                if (left.Count > 0)
                    Attach(network, netns, id, left);
            }
            catch (KernelException e)
            {
                // Made again, or said to be missing, by the first application.
                Refused(network.Netns, e);
            }
        }
    }

    private Answering Ensure(AnsweredNetwork network, Answering? known)
    {
        using var netns = NamedNamespaces.OpenPinned(network.Netns);
        var id = IdOf(network, netns);
        if (known is not null && known.Id != id)
        {
            Remove(known);
            known = null;
        }
        string[] devices = [Overlay.Overlay.BridgeName, .. network.Endpoints.Select(endpoint => endpoint.HostInterface)];
        var wanted = devices.Select(device => $"{id}/{device}").ToHashSet();
        foreach (var link in (known?.Links ?? []).Where(link => !wanted.Contains(link)))
            Detach(link);
        kernel!.Listen(id, network.NetworkId, network.Addresses, Port);
        var missing = devices.Where(device => !kernel.Holds($"{id}/{device}")).ToList();
        var attached = missing.Count == 0 || Attach(network, netns, id, missing);
        return new Answering(network, id, [.. wanted.Where(kernel.Holds)], attached);
    }

    /// <returns>Whether all of them could be.</returns>
    private bool Attach(AnsweredNetwork network, NetworkNamespace netns, string id, IReadOnlyList<string> devices)
    {
        kernel!.Listen(id, network.NetworkId, network.Addresses, Port);
        var all = true;
        netns.Run(() =>
        {
            using var route = NetlinkSocket.Open(NetlinkProtocol.Route);
            var links = new RouteLinks(route);
            foreach (var device in devices)
            {
                var link = $"{id}/{device}";
                keeper.Inherited.Remove(link, out var kept);
                try
                {
                    Attach(id, link, device, links, kept);
                }
                catch (KernelException e)
                {
                    kept?.Dispose();
                    all = false;
                    Refused(link, e);
                }
            }
        });
        return all;
    }

    private void Attach(string id, string link, string device, RouteLinks links, SafeFileHandle? kept)
    {
        var index = links.Get(device)?.Index ?? throw new KernelException($"interface {device}", NoSuchDevice);
        if (kernel!.Attach(id, link, index, kept is null ? null : BpfLink.Adopt(kept, link)))
        {
            using var descriptor = kernel.LinkOf(link);
            keeper.Put(link, descriptor);
        }
        _refused.Remove(link);
        Log.Attached(logger, link);
    }

    private void Remove(Answering network)
    {
        foreach (var link in network.Links)
            Detach(link);
        kernel!.Remove(network.Id);
    }

    private void Detach(string link)
    {
        kernel!.Detach(link);
        keeper.Drop(link);
        _refused.Remove(link);
    }

    private void Refused(string what, KernelException e)
    {
        if (_refused.Add(what))
            Log.Refused(logger, what, e.Message);
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
