using System.Globalization;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Diagnosis;

namespace OverlayNet.Tools.Top;

/// <summary>Counters of a network interface, as <c>/proc/net/dev</c> has them.</summary>
internal readonly record struct LinkCounters(long ReceivedOctets, long ReceivedPackets, long ReceivedDropped, long SentOctets, long SentPackets, long SentDropped)
{
    /// <summary>Reads <c>/proc/net/dev</c> (net/core/net-procfs.c): a name, eight counters of receiving, eight of sending.</summary>
    public static Dictionary<string, LinkCounters> Parse(IEnumerable<string> lines)
    {
        var links = new Dictionary<string, LinkCounters>();
        foreach (var line in lines)
        {
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0)
                continue;
            var numbers = line[(colon + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (numbers.Length < 12 || !numbers.Take(12).All(number => long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out _)))
                continue;
            long At(int index) => long.Parse(numbers[index], CultureInfo.InvariantCulture);
            links[line[..colon].Trim()] = new LinkCounters(At(0), At(1), At(3), At(8), At(9), At(11));
        }
        return links;
    }
}

/// <summary>All that <c>overlaynet top</c> counts, at one moment.</summary>
internal sealed record TopMoment(TimeSpan At, StatusReport Status, IReadOnlyDictionary<string, IReadOnlyDictionary<string, LinkCounters>> Networks, IReadOnlyDictionary<string, IReadOnlyList<BackendReport>> Backends)
{

    /// <param name="at">On any clock that only goes forward.</param>
    /// <param name="backends">By the service's id.</param>
    public static TopMoment Read(NodeView node, TimeSpan at, IReadOnlyDictionary<string, IReadOnlyList<BackendReport>> backends)
    {
        var networks = new Dictionary<string, IReadOnlyDictionary<string, LinkCounters>>();
        foreach (var network in node.Networks)
        {
            try
            {
                using var netns = NamedNamespaces.OpenPinned(ObjectNames.Netns(node.NodeId, network));
                networks[network.Name] = netns.Run(() => LinkCounters.Parse(File.ReadLines("/proc/thread-self/net/dev")));
            }
            catch (KernelException)
            {
                // It went away: it is left out of this look.
            }
        }
        return new TopMoment(at, node.Status!, networks, backends);
    }

    /// <summary>What happened since an earlier moment. Pure.</summary>
    public TopReport Since(TopMoment before, RegistrySnapshot snapshot)
    {
        var seconds = Math.Max(0.001, (At - before.At).TotalSeconds);
        return new TopReport
        {
            Node = Status.NodeName ?? "",
            Seconds = seconds,
            Revision = Status.RegistryRevision,
            Lag = Math.Max(0, Status.RegistryRevision - Status.AppliedRevision),
            Nodes = Status.Nodes,
            Networks = [.. Networks.Where(entry => before.Networks.ContainsKey(entry.Key)).OrderBy(entry => entry.Key, StringComparer.Ordinal).Select(entry => Rates(entry.Key, before.Networks[entry.Key], entry.Value, seconds))],
            Services = [.. snapshot.Services.Where(service => Backends.ContainsKey(service.Id)).OrderBy(service => service.Name, StringComparer.Ordinal).Select(service => Flows(service, snapshot, before, seconds))],
        };
    }

    private static TopNetwork Rates(string name, IReadOnlyDictionary<string, LinkCounters> before, IReadOnlyDictionary<string, LinkCounters> after, double seconds)
    {
        var (old, now) = (before.GetValueOrDefault(ObjectNames.Tunnel), after.GetValueOrDefault(ObjectNames.Tunnel));
        // A device that was made again counts from nothing.
        double Rate(long was, long @is) => Math.Max(0, @is - was) / seconds;
        long Dropped(IReadOnlyDictionary<string, LinkCounters> links) => links.Where(link => link.Key == ObjectNames.Tunnel || link.Key.StartsWith("ve", StringComparison.Ordinal)).Sum(link => link.Value.ReceivedDropped + link.Value.SentDropped);
        return new TopNetwork
        {
            Name = name,
            ReceivedBitsPerSecond = 8 * Rate(old.ReceivedOctets, now.ReceivedOctets),
            SentBitsPerSecond = 8 * Rate(old.SentOctets, now.SentOctets),
            ReceivedPacketsPerSecond = Rate(old.ReceivedPackets, now.ReceivedPackets),
            SentPacketsPerSecond = Rate(old.SentPackets, now.SentPackets),
            Drops = Math.Max(0, Dropped(after) - Dropped(before)),
            DropsEver = Dropped(after),
        };
    }

    private TopService Flows(Service service, RegistrySnapshot snapshot, TopMoment before, double seconds)
    {
        var network = snapshot.Networks.FirstOrDefault(known => known.Id == service.NetworkId)?.Name ?? service.NetworkId;
        var was = before.Backends.GetValueOrDefault(service.Id)?.ToDictionary(backend => backend.Endpoint) ?? [];
        var live = Backends[service.Id].Sum(backend => backend.LiveFlows ?? 0);
        double? Begun(BackendReport backend) => backend.Connections is { } count && was.GetValueOrDefault(backend.Endpoint)?.Connections is { } earlier ? Math.Max(0, count - earlier) / seconds : null;
        var rates = Backends[service.Id].Select(Begun).ToList();
        return new TopService
        {
            Name = service.Name,
            Network = network,
            Vip = string.Join(", ", new[] { service.Vip4, service.Vip6 }.OfType<System.Net.IPAddress>()),
            Balancer = Status.BalancerOf(service, network) ?? "",
            LiveFlows = live,
            ConnectionsPerSecond = rates.Any(rate => rate is not null) ? rates.Sum() : null,
            Backends =
            [
                .. Backends[service.Id].Select((backend, index) => new TopBackend
                {
                    Endpoint = backend.Endpoint,
                    Node = backend.Node,
                    State = backend.State,
                    Share = backend.Share,
                    LiveFlows = backend.LiveFlows,
                    LiveShare = live > 0 && backend.LiveFlows is { } flows ? (double)flows / live : null,
                    ConnectionsPerSecond = rates[index],
                }),
            ],
        };
    }
}
