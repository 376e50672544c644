using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Daemon.Runtimes;

/// <summary>An interface inside a container as the kernel has it now.</summary>
/// <param name="Addresses">In CIDR form.</param>
internal sealed record ContainerLink(string Name, bool IsUp, IReadOnlyList<string> Addresses)
{
    /// <returns>Null: no such namespace, or no interface with that MAC in it.</returns>
    public static ContainerLink? Read(string netns, string mac)
    {
        try
        {
            using var container = NetworkNamespace.Open(netns);
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, container);
            if (new RouteLinks(socket).Dump().FirstOrDefault(link => string.Equals(link.Mac?.ToString(), mac, StringComparison.OrdinalIgnoreCase)) is not { } found)
                return null;
            var addresses = new RouteAddresses(socket).Dump().Where(address => address.Interface == found.Index).Select(address => $"{address.Address}/{address.PrefixLength}");
            return new ContainerLink(found.Name, found.IsUp, [.. addresses]);
        }
        catch (KernelException)
        {
            return null;
        }
    }

    /// <summary>Whether a namespace has an interface of that name; false also when there is no such namespace.</summary>
    public static bool Exists(string netns, string name)
    {
        try
        {
            using var container = NetworkNamespace.Open(netns);
            using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, container);
            return new RouteLinks(socket).Get(name) is not null;
        }
        catch (KernelException)
        {
            return false;
        }
    }
}
