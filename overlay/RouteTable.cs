using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>Compares routes as wanted with those of the main table.</summary>
internal static class RouteTable
{
    private const uint Main = 254;
    private const byte ByKernel = 2, ByAdministrator = 4;

    /// <summary>What to send; unicast routes made by us on <paramref name="ours"/> that are not wanted go.</summary>
    internal static List<RouteRequest> Difference(IReadOnlyList<Route> wanted, IReadOnlyList<Route> actual, IReadOnlyCollection<int> ours)
    {
        List<RouteRequest> requests = [];
        foreach (var route in wanted)
        {
            if (!actual.Any(present => Same(present, route)))
                requests.Add(RouteRoutes.Replacing(route));
        }
        foreach (var present in actual)
        {
            // After a replace of the same destination nothing is left to delete: the kernel would say ESRCH.
            if (present.Table == Main && present.Type == RouteType.Unicast && present.Protocol == ByAdministrator && ours.Contains(present.Interface)
                && !wanted.Any(route => route.Destination == present.Destination))
                requests.Add(RouteRoutes.Deleting(present));
        }
        return requests;
    }

    private static bool Same(Route present, Route wanted) => present.Table == Main && present.Type == RouteType.Unicast && present.Protocol != ByKernel
        && present.Destination == wanted.Destination && Equals(present.Gateway, wanted.Gateway)
        && present.Interface == wanted.Interface && Equals(present.Source, wanted.Source);
}
