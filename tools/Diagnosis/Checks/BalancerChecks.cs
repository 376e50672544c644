using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;
using OverlayNet.Tools.Diagnosis.Trace;

namespace OverlayNet.Tools.Diagnosis.Checks;

/// <summary>Every VIP in every client's balancer, as the nft writer keeps it: table, element, servers.</summary>
internal static class BalancerChecks
{
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
                    var path = input.Node.Status?.Services.FirstOrDefault(known => known.Name == service.Name && known.Network == network.Network.Name)?.Balancer;
                    // ipvs keeps nothing in a client's namespace.
                    if (path is not null && !path.Contains("nft", StringComparison.Ordinal))
                        continue;
                    foreach (var vip in new[] { service.Vip4, service.Vip6 }.OfType<IPAddress>())
                    {
                        if (Judge(endpoint, service, TraceDestination.Of(input.Node.Snapshot, network.Network.Id, vip), BalancerReading.Of(netns, network.Network, vip)) is { } finding)
                            yield return finding;
                    }
                }
            }
        }
    }

    public static Diagnosed? Judge(Endpoint client, Service service, TraceDestination destination, BalancerReading reading)
    {
        const string remedy = "a running daemon mends it within seconds (overlaynet status); 'overlaynet doctor --fix' asks it to compare now";
        var @object = $"{service.Name} at {client.Name}";
        if (reading.Table.Length == 0)
            return Diagnosed.Error("balancer.table", @object, $"{client.Netns} has no nftables table for {destination.Address}: connections to {service.Name} go nowhere", "there is no table overlaynet-vip-*", remedy);
        if (!reading.Known)
            return Diagnosed.Error("balancer.element", @object, $"{reading.Table} in {client.Netns} does not know {destination.Address}", "map services has no such element", remedy);
        var hop = TraceWalk.Balancer(destination, reading, null);
        // Without any backend all may be used, or the last good ones: that is the daemon's decision.
        return hop.Ok || destination.Backends.Count == 0 ? null : Diagnosed.Error("balancer.servers", @object, $"{hop.Message} ({destination.Address} in {client.Netns})", hop.Evidence, remedy);
    }
}
