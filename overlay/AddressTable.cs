using System.Net;
using System.Net.Sockets;
using OverlayNet.Kernel.Netlink;

namespace OverlayNet.Overlay;

/// <summary>The addresses that links of ours shall have.</summary>
internal sealed class AddressTable
{
    private readonly Dictionary<(int Link, IPAddress Address), int> wanted = [];

    /// <param name="link">Index of the link.</param>
    internal void Want(int link, IPAddress address, int prefixLength) => wanted[(link, address)] = prefixLength;

    // Above these are numbers that name another maker (IFAPROT_KERNEL_LL and below are the kernel's): a balancer's virtual IPs.
    private const byte LastKernelProtocol = 3;

    /// <summary>What to send; addresses on <paramref name="ours"/> that are not wanted go, link-local ones and those of another maker excepted.</summary>
    internal List<RouteRequest> Difference(IEnumerable<LinkAddress> actual, IReadOnlyCollection<int> ours)
    {
        List<RouteRequest> remove = [], add = [];
        var present = new HashSet<(int, IPAddress)>();
        foreach (var address in actual)
        {
            if (wanted.TryGetValue((address.Interface, address.Address), out var length) && length == address.PrefixLength && !address.Flags.HasFlag(AddressFlags.DadFailed))
                present.Add((address.Interface, address.Address));
            else if (ours.Contains(address.Interface) && !address.Address.IsIPv6LinkLocal && address.Protocol <= LastKernelProtocol)
                remove.Add(RouteAddresses.Deleting(address));
        }
        foreach (var ((link, address), length) in wanted)
        {
            if (!present.Contains((link, address)))
                add.Add(RouteAddresses.Replacing(Record(link, address, length)));
        }
        return [.. remove, .. add];
    }

    // Routes are ours to make, with their source: the kernel's own would come and go with the address.
    private static LinkAddress Record(int link, IPAddress address, int length) => new()
    {
        Interface = link,
        Address = address,
        PrefixLength = length,
        Flags = length >= (address.AddressFamily == AddressFamily.InterNetworkV6 ? 127 : 31)
            ? AddressFlags.NoDad
            : AddressFlags.NoDad | AddressFlags.NoPrefixRoute,
    };
}
