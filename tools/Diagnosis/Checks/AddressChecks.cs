using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Tools.Cli;
using OverlayNet.Tools.Diagnosis.Trace;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Who has which address: containers that lost theirs, two with one, resolvers that are not ours.</summary>
internal static class AddressChecks
{
    public static IEnumerable<Diagnosed> Run(CheckupInput input) => input.Networks.SelectMany(network => (IEnumerable<Diagnosed>)
        [.. Judge(network), .. network.Local.Where(local => local.Reading is not null).SelectMany(local => Resolver(local.Endpoint, network.Network, TraceRun.ResolvConf(local.Endpoint)))]);

    public static IEnumerable<Diagnosed> Judge(NetworkView network)
    {
        var owners = new Dictionary<IPAddress, string>();
        foreach (var endpoint in network.Local.Select(local => local.Endpoint).Concat(network.Remote).Concat(network.Own is null ? [] : [network.Own]))
        {
            foreach (var address in Both(endpoint))
                owners.TryAdd(address, endpoint.Kind == EndpointKind.Node ? "a node itself" : endpoint.Name);
        }
        foreach (var gateway in new[] { network.Network.Gateway4, network.Network.Gateway6 }.OfType<IPAddress>())
            owners[gateway] = "the gateway";
        foreach (var (endpoint, reading) in network.Local)
        {
            if (reading is null)
                continue;
            var own = Both(endpoint).ToHashSet();
            foreach (var address in own.Where(address => reading.Having(address) is null && endpoint.State != EndpointState.Starting))
            {
                yield return Diagnosed.Error("address.missing", endpoint.Name, $"its namespace has not its address {address}", $"{endpoint.Netns}", $"ip -n {Path.GetFileName(endpoint.Netns)} addr add {address}/{Text.Number(Length(network, address))} dev {endpoint.Interface}",
                    reading.Link(endpoint.Interface) is { } link ? () => Give(endpoint.Netns, link.Index, address, Length(network, address)) : null);
            }
            // The link it is attached by: on others it may have what it likes.
            if (own.Select(reading.Having).FirstOrDefault(link => link is not null) is not { } attached)
                continue;
            foreach (var entry in reading.Addresses.Where(entry => entry.Interface == attached.Index && !own.Contains(entry.Address) && owners.ContainsKey(entry.Address)))
            {
                yield return Diagnosed.Error("address.duplicate", entry.Address.ToString(), $"{endpoint.Name} has {entry.Address} in network {network.Network.Name}, which belongs to {owners[entry.Address]}: two MACs answer for it",
                    $"{entry.Address}/{Text.Number(entry.PrefixLength)} on {attached.Name} ({attached.Mac}) in {endpoint.Netns}", $"ip -n {Path.GetFileName(endpoint.Netns)} addr del {entry.Address}/{Text.Number(entry.PrefixLength)} dev {attached.Name}");
            }
        }
    }

    /// <param name="resolvConf">Null: not known.</param>
    public static IEnumerable<Diagnosed> Resolver(Endpoint endpoint, Network network, string? resolvConf)
    {
        HashSet<IPAddress> ours = [.. new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>(), IPAddress.Parse("169.254.53.53"), IPAddress.Parse("fd6f:7665:726c:53::53")];
        if (TraceWalk.Resolver(endpoint.Name, resolvConf, ours) is not { Ok: false } hop)
            yield break;
        var file = $"/etc/netns/{Path.GetFileName(endpoint.Netns)}/resolv.conf";
        yield return Diagnosed.Warning("endpoint.resolver", endpoint.Name, $"{hop.Message}: it finds no service by name", hop.Evidence, hop.Remedy!, () =>
        {
            var kept = File.ReadAllLines(file).Where(line => !line.TrimStart().StartsWith("nameserver", StringComparison.Ordinal));
            File.WriteAllLines(file, [.. new[] { network.Gateway4, network.Gateway6 }.OfType<IPAddress>().Select(address => $"nameserver {address}"), .. kept]);
        });
    }

    private static IEnumerable<IPAddress> Both(Endpoint endpoint) => new[] { endpoint.Address4, endpoint.Address6 }.OfType<IPAddress>();

    private static int Length(NetworkView network, IPAddress address) =>
        (address.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork ? network.Network.Subnet4 : network.Network.Subnet6)?.PrefixLength ?? 0;

    private static void Give(string path, int link, IPAddress address, int length)
    {
        using var netns = NamespaceReading.Open(path);
        using var socket = NetlinkSocket.Open(NetlinkProtocol.Route, netns);
        new RouteAddresses(socket).Replace(new LinkAddress { Interface = link, Address = address, PrefixLength = length, Flags = AddressFlags.NoDad });
    }
}
