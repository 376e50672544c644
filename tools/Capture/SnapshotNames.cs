using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Tools.Capture.Decode;

namespace OverlayNet.Tools.Capture;

/// <summary>Names for addresses out of a registry snapshot.</summary>
internal sealed class SnapshotNames : IPacketNames
{
    private readonly Dictionary<int, Network> _networks = [];
    private readonly Dictionary<(IPAddress Address, int? Vni), string> _names = [];

    public SnapshotNames(RegistrySnapshot snapshot)
    {
        var vnis = snapshot.Networks.ToDictionary(network => network.Id, network => network.Vni);
        foreach (var network in snapshot.Networks)
            _networks[network.Vni] = network;
        foreach (var node in snapshot.Nodes)
            _names[(node.Address, null)] = node.Name;
        foreach (var service in snapshot.Services)
            Add([service.Vip4, service.Vip6], vnis.GetValueOrDefault(service.NetworkId), $"VIP of {service.Name}");
        foreach (var endpoint in snapshot.Endpoints)
            Add([endpoint.Address4, endpoint.Address6], vnis.GetValueOrDefault(endpoint.NetworkId), endpoint.Name);
        foreach (var network in snapshot.Networks)
            Add([network.Gateway4, network.Gateway6], network.Vni, "gateway");
    }

    public string? Of(IPAddress address, int? vni) => _names.GetValueOrDefault((address, vni)) ?? (vni is null ? null : _names.GetValueOrDefault((address, null)));

    public string? Network(int vni) => _networks.GetValueOrDefault(vni)?.Name;

    private void Add(IEnumerable<IPAddress?> addresses, int vni, string name)
    {
        foreach (var address in addresses.OfType<IPAddress>())
        {
            _names[(address, vni)] = name;
            // Inside a network's namespace packets have no VNI on them; networks that share a subnet are told apart by the point.
            _names.TryAdd((address, null), name);
        }
    }
}
