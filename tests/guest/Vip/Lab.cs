using System.Net;
using OverlayNet.Kernel;
using OverlayNet.Vip;

namespace OverlayNet.GuestTests.Vip;

/// <summary>
/// Overlay networks over several nodes, all in network namespaces: an underlay bridge, a host namespace for each node, and for
/// each node and network a namespace with bridge, VXLAN device (made in the host's, then moved) and the node's own link; the tables are static.
/// </summary>
internal sealed class Lab : IDisposable
{
    private readonly List<TestNamespace> namespaces = [];
    private readonly TestNamespace underlay;
    private readonly Dictionary<int, TestNamespace> hosts = [];

    internal Lab(int nodes)
    {
        underlay = New();
        underlay.Ip("link add br0 type bridge mcast_snooping 0", "link set br0 up");
        for (var node = 1; node <= nodes; node++)
        {
            var host = hosts[node] = New();
            underlay.Ip($"link add h{node} type veth peer name eth0 netns {host.Name}", $"link set h{node} master br0 up");
            host.Ip($"addr add 192.168.50.{node}/24 dev eth0", "link set eth0 up");
        }
    }

    internal IReadOnlyDictionary<int, TestNamespace> Hosts => hosts;

    internal TestNamespace New()
    {
        var made = new TestNamespace();
        namespaces.Add(made);
        return made;
    }

    /// <param name="third">Third octet of the IPv4 subnet 10.42.x.0/24 (and of the IPv6 one).</param>
    internal LabNetwork Network(int vni, int third = 0) => new(this, vni, third);

    public void Dispose() => namespaces.ForEach(one => one.Dispose());
}

/// <summary>One overlay network on all nodes of a lab.</summary>
internal sealed class LabNetwork
{
    private const string GatewayMac = "02:4f:4e:00:00:01";
    private const int Mtu = 1450;
    private readonly Dictionary<int, TestNamespace> nodes = [];
    private readonly List<LabTask> tasks = [];
    private readonly int vni;
    private readonly int third;

    internal LabNetwork(Lab lab, int vni, int third)
    {
        this.vni = vni;
        this.third = third;
        Lab = lab;
        foreach (var (node, host) in lab.Hosts)
        {
            var netns = nodes[node] = lab.New();
            netns.Sysctl("net.ipv6.conf.default.disable_ipv6=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.ipv4.ip_forward=1",
                "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2");
            host.Ip($"link add vx{vni} type vxlan id {vni} dstport 4789 local 192.168.50.{node} dev eth0 nolearning",
                $"link set vx{vni} netns {netns.Name}");
            netns.Ip($"link add br0 address {GatewayMac} type bridge mcast_snooping 0",
                $"link set vx{vni} address {NodeMac(node, 0xff)} master br0 up",
                "link set br0 up",
                $"link add n0 address {NodeMac(node, 1)} mtu {Mtu} type veth peer name n0p mtu {Mtu}",
                "link set n0p master br0 up", "link set n0 up",
                $"addr add 10.42.{third}.1/24 dev br0 noprefixroute", $"addr add fd00:42:{third}::1/64 dev br0 noprefixroute nodad",
                $"addr add 10.42.{third}.{250 + node}/24 dev n0", $"addr add fd00:42:{third}::{250 + node:x}/64 dev n0 nodad");
            netns.Bridge($"link set dev vx{vni} learning off neigh_suppress on flood off");
        }
        foreach (var node in nodes.Keys)
        {
            foreach (var other in nodes.Keys.Where(other => other != node))
                Announce(other, NodeMac(other, 1), NodeAddress(other), NodeAddress6(other), node);
        }
    }

    internal Lab Lab { get; }

    internal TestNamespace Netns(int node) => nodes[node];

    internal IPAddress NodeAddress(int node) => IPAddress.Parse($"10.42.{third}.{250 + node}");

    internal IPAddress NodeAddress6(int node) => IPAddress.Parse($"fd00:42:{third}::{250 + node:x}");

    internal IPAddress Address(int host) => IPAddress.Parse($"10.42.{third}.{host}");

    internal IPAddress Address6(int host) => IPAddress.Parse($"fd00:42:{third}::{host:x}");

    /// <summary>An endpoint on a node, known to all nodes.</summary>
    internal LabTask Task(int node, int host)
    {
        var task = new LabTask(this, node, host, Lab.New(), $"02:42:0a:2a:{third:x2}:{host:x2}", $"p{host}");
        var netns = nodes[node];
        netns.Ip($"link add {task.Port} mtu {Mtu} type veth peer name eth0 netns {task.Netns.Name} address {task.Mac} mtu {Mtu}", $"link set {task.Port} master br0 up");
        netns.Bridge($"link set dev {task.Port} learning off", $"fdb replace {task.Mac} dev {task.Port} master static");
        task.Netns.Ip($"addr add {task.Address}/24 dev eth0", $"addr add {task.Address6}/64 dev eth0 nodad", "link set eth0 up",
            $"route add default via 10.42.{third}.1", $"route add default via fd00:42:{third}::1");
        foreach (var other in nodes.Keys.Where(other => other != node))
            Announce(node, task.Mac, task.Address, task.Address6, other);
        tasks.Add(task);
        return task;
    }

    /// <summary>What one node's balancers are given.</summary>
    internal VipNetwork Config(int node, params VipService[] services) => new()
    {
        Id = $"net{vni}",
        Name = $"net{vni}",
        Vni = vni,
        Netns = nodes[node].Name,
        Subnet4 = IPNetwork.Parse($"10.42.{third}.0/24"),
        Subnet6 = IPNetwork.Parse($"fd00:42:{third}::/64"),
        NodeAddress4 = NodeAddress(node),
        NodeAddress6 = NodeAddress6(node),
        Tasks =
        [
            .. tasks.Where(task => task.Node == node).Select(task => new VipTask
            {
                EndpointId = task.Id, NetnsPath = NamedNamespaces.PathOf(task.Netns.Name), Interface = "eth0", BridgePort = task.Port,
                Address4 = task.Address, Address6 = task.Address6, Mac = MacAddress.Parse(task.Mac),
            }),
        ],
        Services =
        [
            .. services.Select(service => service with
            {
                RealServers = [.. service.RealServers.Select(server => server with { Local = tasks.Any(task => task.Id == server.EndpointId && task.Node == node) })],
            }),
        ],
    };

    private static string NodeMac(int node, int kind) => $"02:4f:4e:{kind:x2}:00:{node:x2}";

    private void Announce(int owner, string mac, IPAddress address, IPAddress address6, int node)
    {
        nodes[node].Bridge($"fdb replace {mac} dev vx{vni} dst 192.168.50.{owner} self static", $"fdb replace {mac} dev vx{vni} master static");
        nodes[node].Ip($"neigh replace {address} lladdr {mac} dev br0 nud permanent", $"neigh replace {address6} lladdr {mac} dev br0 nud permanent");
    }
}

/// <summary>One endpoint of a lab.</summary>
internal sealed record LabTask(LabNetwork Network, int Node, int Host, TestNamespace Netns, string Mac, string Port)
{
    internal string Id => $"task{Host}";
    internal IPAddress Address => Network.Address(Host);
    internal IPAddress Address6 => Network.Address6(Host);

    internal RealServer Server(int weight = 1) => new() { EndpointId = Id, Address4 = Address, Address6 = Address6, Mac = MacAddress.Parse(Mac), Weight = weight };
}
