using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Tools.Diagnosis;

/// <summary>What one network namespace has, read at one moment: plain data for the checks to judge.</summary>
internal sealed record NamespaceReading
{
    public IReadOnlyList<Link> Links { get; init; } = [];
    public IReadOnlyList<LinkAddress> Addresses { get; init; } = [];
    public IReadOnlyList<Route> Routes { get; init; } = [];
    public IReadOnlyList<FdbEntry> Fdb { get; init; } = [];
    public IReadOnlyList<Neighbour> Neighbours { get; init; } = [];

    /// <exception cref="KernelException">The kernel refused.</exception>
    public static NamespaceReading Of(NetworkNamespace netns)
    {
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        return new NamespaceReading
        {
            Links = new RouteLinks(socket).Dump(),
            Addresses = new RouteAddresses(socket).Dump(),
            Routes = new RouteRoutes(socket).Dump(),
            Fdb = new RouteFdb(socket).Dump(),
            Neighbours = new RouteNeighbours(socket).Dump(),
        };
    }

    /// <returns>Null: there is no such namespace, or it cannot be looked into.</returns>
    public static NamespaceReading? Of(string path)
    {
        try
        {
            using var netns = Open(path);
            return Of(netns);
        }
        catch (KernelException)
        {
            return null;
        }
    }

    /// <exception cref="KernelException">There is no such namespace.</exception>
    public static NetworkNamespace Open(string path) => path.StartsWith(NamedNamespaces.Directory + "/", StringComparison.Ordinal)
        ? NamedNamespaces.OpenPinned(path[(NamedNamespaces.Directory.Length + 1)..])
        : NetworkNamespace.Open(path);

    public Link? Link(string name) => Links.FirstOrDefault(link => link.Name == name);

    public string NameOf(int index) => Links.FirstOrDefault(link => link.Index == index)?.Name ?? $"#{index.ToString(System.Globalization.CultureInfo.InvariantCulture)}";

    /// <summary>The interface that has an address.</summary>
    public Link? Having(IPAddress address) =>
        Addresses.FirstOrDefault(entry => entry.Address.Equals(address)) is { } found ? Links.FirstOrDefault(link => link.Index == found.Interface) : null;

    /// <summary>The most specific route of the main table, of several the one with the lowest metric.</summary>
    public Route? RouteTo(IPAddress address) => Routes
        .Where(route => route.Table == 254 && route.Destination.BaseAddress.AddressFamily == address.AddressFamily && route.Destination.Contains(address))
        .OrderByDescending(route => route.Destination.PrefixLength).ThenBy(route => route.Metric ?? 0).FirstOrDefault();
}
