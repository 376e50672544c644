using System.Net;
using OverlayNet.ClusterTests.Kernel;
using OverlayNet.Kernel;
using OverlayNet.Kernel.Netlink;
using OverlayNet.Overlay;

namespace OverlayNet.ClusterTests.Overlay;

/// <summary>Hosts as namespaces on one underlay bridge, each with an <see cref="OverlayNet.Overlay.Overlay"/> of its own, all in this process.</summary>
public sealed class Underlay : IDisposable
{
    private static int counter;
    private readonly TestNamespaces namespaces = new();
    private readonly List<Host> hosts = [];
    private readonly int number = Interlocked.Increment(ref counter);
    private readonly bool v6;

    /// <param name="v6">The underlay speaks IPv6.</param>
    public Underlay(int hostCount = 2, bool v6 = false)
    {
        this.v6 = v6;
        Switch = namespaces.Create("sw");
        Shell.Run($"ip -n {Switch} link add br0 type bridge mcast_snooping 0");
        Shell.Run($"ip -n {Switch} link set br0 up");
        Shell.Run($"ip -n {Switch} addr add 198.51.100.254/24 dev br0");
        Shell.Run($"ip -n {Switch} addr add 2001:db8:99::fe/64 dev br0 nodad");
        for (var i = 1; i <= hostCount; i++)
            hosts.Add(AddHost(i));
    }

    /// <summary>The namespace of the underlay's switch; it is also "the outside" at 198.51.100.254 and 2001:db8:99::fe.</summary>
    public string Switch { get; }

    public IReadOnlyList<Host> Hosts => hosts;

    public string Container(string suffix) => namespaces.Create(suffix);

    public void RemoveContainer(string name) => NamedNamespaces.Delete(name);

    public void Dispose()
    {
        foreach (var host in hosts)
            host.Overlay.Apply(host.Config with { Networks = [] });
        namespaces.Dispose();
    }

    private Host AddHost(int i)
    {
        var name = namespaces.Create($"h{i}");
        Shell.Run($"ip -n {Switch} link add p{i} type veth peer name u0 netns {name}");
        Shell.Run($"ip -n {Switch} link set p{i} master br0 up");
        Shell.Run($"ip -n {name} addr add 198.51.100.{i}/24 dev u0");
        Shell.Run($"ip -n {name} addr add 2001:db8:99::{i}/64 dev u0 nodad");
        Shell.Run($"ip -n {name} link set u0 up");
        Shell.Run($"ip -n {name} route add default via 198.51.100.254");
        Shell.Run($"ip -n {name} -6 route add default via 2001:db8:99::fe");
        var config = new OverlayConfig
        {
            ClusterId = $"t{Environment.ProcessId}-{number}",
            NodeId = $"node{i}",
            // Unique on this machine although all share /run/netns.
            NodeShortId = $"{Environment.ProcessId % 0x1000:x3}{number % 0x100:x2}{i}",
            UnderlayAddress = IPAddress.Parse(v6 ? $"2001:db8:99::{i}" : $"198.51.100.{i}"),
        };
        return new Host(name, new OverlayNet.Overlay.Overlay(NamedNamespaces.PathOf(name)), config);
    }
}

/// <summary>A host and what is desired of it.</summary>
public sealed class Host(string name, OverlayNet.Overlay.Overlay overlay, OverlayConfig config)
{
    public string Name { get; } = name;
    public OverlayNet.Overlay.Overlay Overlay { get; } = overlay;
    public OverlayConfig Config { get; set; } = config;

    public string Netns(string network) => $"on-{Config.NodeShortId}-{network}";

    /// <summary>Applies and expects no error.</summary>
    public ApplyReport Apply()
    {
        var report = Overlay.Apply(Config);
        Assert.Empty(report.Errors);
        return report;
    }
}

/// <summary>A network as the registry would describe it, cut into each host's configuration.</summary>
public sealed class TestNetwork(string name, int vni)
{
    private readonly List<(Host Host, LocalEndpoint Endpoint)> endpoints = [];

    public string Name { get; } = name;
    public int Vni { get; } = vni;
    public bool Internal { get; init; }
    public int Subnet { get; init; } = 1;
    public IReadOnlyList<ExtraNeighbour> Extra { get; set; } = [];

    public IPAddress Address4(int number) => new([10, 96, (byte)Subnet, (byte)number]);

    public IPAddress Address6(int number) => IPAddress.Parse($"fd00:96:{Subnet:x}::{number:x}");

    public MacAddress Mac(int number) => new(0x024200000000ul | (ulong)Subnet << 16 | (uint)number);

    /// <summary>A container at a host; <paramref name="number"/> is the last part of its addresses and its MAC.</summary>
    public TestNetwork With(Host host, string container, int number)
    {
        Without(number);
        endpoints.Add((host, new LocalEndpoint
        {
            Id = $"{Name}-{number}",
            HostInterface = $"ve{Subnet:x}{number:x6}",
            Netns = NamedNamespaces.PathOf(container),
            Mac = Mac(number),
            Address4 = Address4(number),
            Address6 = Address6(number),
        }));
        return this;
    }

    public TestNetwork Without(int number)
    {
        endpoints.RemoveAll(e => e.Endpoint.Id == $"{Name}-{number}");
        return this;
    }

    /// <summary>What the host with an index (from 0) is to build.</summary>
    public OverlayNetwork For(Host host, IReadOnlyList<Host> hosts)
    {
        var remotes = endpoints.Where(e => e.Host != host).Select(e => new RemoteEndpoint
        {
            Mac = e.Endpoint.Mac,
            Vtep = e.Host.Config.UnderlayAddress,
            Addresses = [e.Endpoint.Address4!, e.Endpoint.Address6!],
        });
        var nodes = hosts.Select((other, i) => (other, number: 240 + i)).ToList();
        return new OverlayNetwork
        {
            Name = Name,
            Netns = host.Netns(Name),
            Vni = Vni,
            Subnet4 = IPNetwork.Parse($"10.96.{Subnet}.0/24"),
            Subnet6 = IPNetwork.Parse($"fd00:96:{Subnet:x}::/64"),
            Gateway4 = Address4(1),
            Gateway6 = Address6(1),
            GatewayMac = Mac(1),
            Internal = Internal,
            Node = nodes.Where(n => n.other == host).Select(n => new NodeEndpoint { Address4 = Address4(n.number), Address6 = Address6(n.number), Mac = Mac(n.number) }).Single(),
            Endpoints = [.. endpoints.Where(e => e.Host == host).Select(e => e.Endpoint)],
            Remotes =
            [
                .. remotes,
                .. nodes.Where(n => n.other != host).Select(n => new RemoteEndpoint
                {
                    Mac = Mac(n.number),
                    Vtep = n.other.Config.UnderlayAddress,
                    Addresses = [Address4(n.number), Address6(n.number)],
                }),
            ],
            ExtraNeighbours = Extra,
        };
    }
}

/// <summary>What tests do with several hosts at once.</summary>
internal static class Cluster
{
    /// <summary>Gives every host its part of the networks and applies it.</summary>
    internal static void Apply(this Underlay underlay, params TestNetwork[] networks)
    {
        foreach (var host in underlay.Hosts)
        {
            host.Config = host.Config with { Networks = [.. networks.Select(network => network.For(host, underlay.Hosts))] };
            host.Apply();
        }
    }

    internal static bool Ping(string netns, IPAddress target, string options = "-c1 -W2") =>
        Shell.TryRun($"ip netns exec {netns} ping -n {options} {target}").Code == 0;

    internal static void AssertPing(string netns, IPAddress target, string options = "-c1 -W2")
    {
        var (code, output, error) = Shell.TryRun($"ip netns exec {netns} ping -n {options} {target}");
        Assert.True(code == 0, $"ping {target} from {netns}: {output} {error}");
    }
}
