using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Diagnosis.Trace;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Every VIP in every client's balancer, as the nft writer keeps it: table, element, servers; and in the network's, as the ipvs writer does.</summary>
internal static class BalancerChecks
{
    private const string Remedy = "a running daemon mends it within seconds (overlaynet status); 'overlaynet doctor --fix' asks it to compare now";

    public static IEnumerable<Diagnosed> Run(CheckupInput input)
    {
        foreach (var network in input.Networks)
        {
            var services = input.Node.Snapshot.Services.Where(service => service.NetworkId == network.Network.Id && service.EndpointMode == EndpointMode.Vip).ToList();
            foreach (var (endpoint, reading) in network.Local.Where(local => local.Reading is not null))
            {
                using var netns = NamespaceReading.Open(endpoint.Netns);
                foreach (var service in services)
                {
                    // ipvs keeps nothing in a client's namespace.
                    if (Path(input, network, service) is { } path && !path.Contains("nft", StringComparison.Ordinal))
                        continue;
                    foreach (var vip in new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>())
                    {
                        if (Judge(endpoint, service, TraceDestination.Of(input.Node.Snapshot, network.Network.Id, vip), BalancerReading.Of(netns, network.Network, vip)) is { } finding)
                            yield return finding;
                    }
                }
            }
            foreach (var service in services.Where(service => network.Reading is not null && Path(input, network, service) is { } path && BalancerReading.IsIpvs(path)))
            {
                using var around = NamedNamespaces.OpenPinned(network.Netns);
                foreach (var destination in new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>().Select(vip => TraceDestination.Of(input.Node.Snapshot, network.Network.Id, vip)))
                {
                    if (TraceWalk.Balancer(destination, BalancerReading.OfIpvs(around, destination), "ipvs") is { Ok: false } hop && destination.Backends.Count > 0)
                        yield return Diagnosed.Error("balancer.ipvs", service.Name, $"{hop.Message} ({destination.Address} in {network.Netns})", hop.Evidence, Remedy);
                }
            }
        }
    }

    /// <summary>What carries a service, as the daemon says; null: it does not answer.</summary>
    private static string? Path(CheckupInput input, NetworkView network, Service service) =>
        input.Node.Status?.BalancerOf(service, network.Network.Name);

    public static Diagnosed? Judge(Endpoint client, Service service, TraceDestination destination, BalancerReading reading)
    {
        var @object = $"{service.Name} at {client.Name}";
        if (reading.Table.Length == 0)
            return Diagnosed.Error("balancer.table", @object, $"{client.Netns} has no nftables table for {destination.Address}: connections to {service.Name} go nowhere", "there is no table overlaynet-vip-*", Remedy);
        if (!reading.Known)
            return Diagnosed.Error("balancer.element", @object, $"{reading.Table} in {client.Netns} does not know {destination.Address}", "map services has no such element", Remedy);
        var hop = TraceWalk.Balancer(destination, reading, null);
        // Without any backend all may be used, or the last good ones: that is the daemon's decision.
        return hop.Ok || destination.Backends.Count == 0 ? null : Diagnosed.Error("balancer.servers", @object, $"{hop.Message} ({destination.Address} in {client.Netns})", hop.Evidence, Remedy);
    }
}
