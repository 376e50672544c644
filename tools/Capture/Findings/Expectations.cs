using System.Net;
using OverlayNet.Contracts;
using OverlayNet.Kernel;

namespace OverlayNet.Tools.Capture.Findings;

/// <summary>What the registry says should be on the wire; empty for a file without a cluster.</summary>
internal sealed class Expectations
{
    private readonly Dictionary<(int Vni, MacAddress Mac), IPAddress> _vteps = [];

    public static Expectations None { get; } = new(null);

    public Expectations(RegistrySnapshot? snapshot)
    {
        if (snapshot is null)
            return;
        Known = true;
        Nodes = snapshot.Nodes.ToDictionary(node => node.Address, node => node.Name);
        Networks = snapshot.Networks.ToDictionary(network => network.Vni, network => network.Name);
        var vnis = snapshot.Networks.ToDictionary(network => network.Id, network => network.Vni);
        var addresses = snapshot.Nodes.ToDictionary(node => node.Id, node => node.Address);
        foreach (var endpoint in snapshot.Endpoints)
        {
            if (vnis.TryGetValue(endpoint.NetworkId, out var vni) && addresses.TryGetValue(endpoint.NodeId, out var vtep) && MacAddress.TryParse(endpoint.Mac, out var mac))
                _vteps[(vni, mac)] = vtep;
        }
    }

    /// <summary>False: nothing is known, so nothing is unexpected.</summary>
    public bool Known { get; }

    /// <summary>Names by underlay address.</summary>
    public IReadOnlyDictionary<IPAddress, string> Nodes { get; } = new Dictionary<IPAddress, string>();

    /// <summary>Names by VNI.</summary>
    public IReadOnlyDictionary<int, string> Networks { get; } = new Dictionary<int, string>();

    /// <summary>Where frames to a MAC should go; null when no endpoint of that network has it.</summary>
    public IPAddress? Vtep(int vni, MacAddress mac) => _vteps.GetValueOrDefault((vni, mac));
}
