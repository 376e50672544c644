using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.Kernel;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ebpf;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.Bench.Vip;

/// <summary>
/// Two nodes with VXLAN between them, clients on one, three servers on the other. Every path has a client namespace of its own; rounds take the
/// paths in turn, and each figure is the ratio to direct traffic in the same round. Direct traffic takes the same three servers in turn: three
/// processes cost more than one that never sleeps, and that is not the balancer's doing.
/// </summary>
internal static class VipBenchmark
{
    private const int Port = 80;
    private static readonly MacAddress NoMac = MacAddress.Parse("02:00:00:00:00:fe");

    private sealed record Container(string Netns, IPAddress Address, string Veth, string Mac);

    private sealed record PathUnderTest(string Name, string What, Container Client, IReadOnlyList<IPAddress> Targets, IReadOnlyList<int> Servers);

    internal static void Run(bool quick, bool json)
    {
        var (rounds, seconds) = quick ? (7, 0.4) : (31, 0.6);
        using var machine = new Machine();
        var world = new World(machine);
        Container[] servers = [.. Enumerable.Range(1, 3).Select(i => world.Add("b", $"s{i}", 50 + i))];
        Container[] translating = [.. Enumerable.Range(1, 3).Select(i => world.Add("b", $"d{i}", 60 + i))];
        int[] pids = [.. servers.Select(server => machine.Serve(server.Netns, server.Address, Port))];
        int[] translatingPids = [.. translating.Select(server => machine.Serve(server.Netns, server.Address, Port))];

        using var nft = new NftBalancer();
        using var ebpf = new EbpfBalancer($"bench{Environment.ProcessId}");
        var paths = new List<PathUnderTest> { new("direct", "to the servers' own addresses in turn", world.Add("a", "direct", 10), [.. servers.Select(server => server.Address)], pids) };
        paths.Add(Balanced(nft, "nft", "DNAT in the client's namespace", world, world.Add("a", "nft", 11), servers, pids, 200));
        if (ebpf.Availability.Usable)
            paths.Add(Balanced(ebpf, "ebpf", "at connect, by cgroup programs", world, world.Add("a", "ebpf", 12), servers, pids, 202));
        else
            Console.Error.WriteLine($"without ebpf: {ebpf.Availability.Reason}");
        paths.Add(Dsr(world, world.Add("a", "dsr", 13), translating, translatingPids));
        paths.Add(Swarm(world, world.Add("a", "swarm", 14), servers, pids));
        try
        {
            Measure(paths, rounds, seconds, json);
        }
        finally
        {
            nft.Apply(VipConfig.Empty);
            if (ebpf.Availability.Usable)
                ebpf.Apply(VipConfig.Empty);
        }
    }

    private static void Measure(List<PathUnderTest> paths, int rounds, double seconds, bool json)
    {
        var samples = paths.ToDictionary(path => path.Name, _ => new Dictionary<string, List<Sample>> { ["conn"] = [], ["req"] = [] });
        foreach (var path in paths)
            Sample.Take(path.Client.Netns, "conn", path.Targets, Port, 0.2, path.Servers);
        for (var round = 0; round < rounds; round++)
        {
            foreach (var mode in new[] { "conn", "req" })
            {
                for (var i = 0; i < paths.Count; i++)
                {
                    var path = paths[(round + i) % paths.Count];
                    samples[path.Name][mode].Add(Sample.Take(path.Client.Netns, mode, path.Targets, Port, seconds, path.Servers));
                }
            }
        }
        var rows = paths.Select(path => new
        {
            path.Name,
            path.What,
            CpuPerConnection = Ratio(path, "conn", sample => sample.CpuPerOperation),
            CpuPerRequest = Ratio(path, "req", sample => sample.CpuPerOperation),
            ConnectionRate = Ratio(path, "conn", sample => sample.Rate),
            RequestRate = Ratio(path, "req", sample => sample.Rate),
            ConnectMedian = Ratio(path, "conn", sample => sample.MedianMicroseconds),
            ConnectionsPerSecond = Estimate.MedianOf(samples[path.Name]["conn"].Select(sample => sample.Rate)),
            ConnectMicroseconds = Estimate.MedianOf(samples[path.Name]["conn"].Select(sample => sample.MedianMicroseconds)),
            CpuMicrosecondsPerConnection = Estimate.MedianOf(samples[path.Name]["conn"].Select(sample => sample.CpuPerOperation)),
            Errors = samples[path.Name].Values.SelectMany(list => list).Sum(sample => sample.Errors),
        }).ToList();
        if (json)
        {
            var written = rows.Select(row => (JsonNode)new JsonObject
            {
                ["name"] = row.Name,
                ["what"] = row.What,
                ["cpuPerConnection"] = row.CpuPerConnection.ToJson(),
                ["cpuPerRequest"] = row.CpuPerRequest.ToJson(),
                ["connectionRate"] = row.ConnectionRate.ToJson(),
                ["requestRate"] = row.RequestRate.ToJson(),
                ["connectMedian"] = row.ConnectMedian.ToJson(),
                ["connectionsPerSecond"] = row.ConnectionsPerSecond,
                ["connectMicroseconds"] = row.ConnectMicroseconds,
                ["cpuMicrosecondsPerConnection"] = row.CpuMicrosecondsPerConnection,
                ["errors"] = row.Errors,
            });
            Console.WriteLine(new JsonObject { ["benchmark"] = "vip", ["rounds"] = rounds, ["secondsPerSample"] = seconds, ["paths"] = new JsonArray([.. written]) }.ToJsonString());
            return;
        }
        Console.WriteLine($"Ratios to direct traffic, median of {rounds} interleaved rounds with 95 % confidence interval. CPU: client and servers, with the softirq work done in their context.");
        Console.WriteLine($"{"path",-8}{"CPU/conn",-19}{"CPU/req",-19}{"conn/s",-19}{"req/s",-19}{"connect p50",-19}{"conn/s",9}{"p50 us",9}{"errors",8}");
        foreach (var row in rows)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{row.Name,-8}{row.CpuPerConnection,-19}{row.CpuPerRequest,-19}{row.ConnectionRate,-19}{row.RequestRate,-19}{row.ConnectMedian,-19}{row.ConnectionsPerSecond,9:0}{row.ConnectMicroseconds,9:0}{row.Errors,8}"));
        }
        foreach (var row in rows)
            Console.WriteLine($"{row.Name,-8}{row.What}");

        Estimate Ratio(PathUnderTest path, string mode, Func<Sample, double> of) => Estimate.Of(
            [.. samples[path.Name][mode].Zip(samples["direct"][mode], (sample, direct) => of(sample) / of(direct))]);
    }

    private static PathUnderTest Balanced(IBalancer balancer, string name, string what, World world, Container client, Container[] servers, int[] pids, int vip)
    {
        var report = balancer.Apply(new VipConfig
        {
            Networks =
            [
                new VipNetwork
                {
                    Id = name,
                    Name = name,
                    Vni = 42,
                    Netns = world.Network("a"),
                    Subnet4 = IPNetwork.Parse("10.77.0.0/24"),
                    NodeAddress4 = World.At(2),
                    Tasks = [new VipTask { EndpointId = name, NetnsPath = NamedNamespaces.PathOf(client.Netns), Interface = "eth0", BridgePort = client.Veth, Address4 = client.Address, Mac = MacAddress.Parse(client.Mac) }],
                    Services =
                    [
                        new VipService
                        {
                            Id = name,
                            Name = name,
                            Addresses = [World.At(vip)],
                            Ports = [new VipPort(VipPort.Tcp, Port, Port)],
                            RealServers = [.. servers.Select(server => new RealServer { EndpointId = server.Netns, Address4 = server.Address, Mac = MacAddress.Parse(server.Mac), Weight = 8 })],
                        },
                    ],
                },
            ],
        });
        if (report.Errors.Count > 0)
            throw new InvalidOperationException(report.Errors[0].ToString());
        return new PathUnderTest(name, what, client, [World.At(vip)], pids);
    }

    /// <summary>Direct server return: the client's veth chooses the server by its MAC, keeps flows where they are, and the server's own namespace translates the VIP.</summary>
    private static PathUnderTest Dsr(World world, Container client, Container[] servers, int[] pids)
    {
        var vip = World.At(203);
        Machine.In(client.Netns, $"ip neigh replace {vip} lladdr {NoMac} dev eth0 nud permanent");
        const string key = "ip saddr . tcp sport . ip daddr . tcp dport";
        Machine.In(world.Network("a"), "nft -f -", $$"""
            table netdev dsr {
              map flows { type ipv4_addr . inet_service . ipv4_addr . inet_service : mark; flags dynamic,timeout; size 65536; }
              map macs { type mark : ether_addr; elements = { 0 : {{servers[0].Mac}}, 1 : {{servers[1].Mac}}, 2 : {{servers[2].Mac}} } }
              chain pick {
                meta mark set jhash ip saddr . tcp sport mod 3
                tcp flags & (syn|ack) == syn delete @flows { {{key}} timeout 2m : meta mark }
                update @flows { {{key}} timeout 2m : meta mark }
                meta mark set {{key}} map @flows
                ether daddr set meta mark map @macs accept
              }
              map vips { type ipv4_addr . inet_service : verdict; elements = { {{vip}} . {{Port}} : goto pick } }
              chain in { type filter hook ingress device "{{client.Veth}}" priority 0; ip daddr . tcp dport vmap @vips; }
            }
            """);
        foreach (var server in servers)
        {
            Machine.In(server.Netns, "nft -f -", $$"""
                table ip dsr { chain pre { type nat hook prerouting priority -100; ip daddr {{vip}} tcp dport {{Port}} dnat to {{server.Address}}; }; }
                """);
        }
        return new PathUnderTest("dsr", "MAC rewrite at the client's veth with a flow map, translation in the server's namespace", client, [vip], pids);
    }

    /// <summary>As Swarm does: a namespace on the client's node owns the VIP, translates the destination and hides the client behind its own address.</summary>
    private static PathUnderTest Swarm(World world, Container client, Container[] servers, int[] pids)
    {
        var balancer = world.Add("a", "lb", 250);
        var vip = World.At(201);
        Machine.In(balancer.Netns, $"ip addr add {vip}/32 dev eth0");
        Machine.In(balancer.Netns, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0");
        Machine.In(balancer.Netns, "nft -f -", $$"""
            table ip lb {
              chain pre { type nat hook prerouting priority -100; ip daddr {{vip}} dnat to numgen inc mod 3 map { 0 : {{servers[0].Address}}, 1 : {{servers[1].Address}}, 2 : {{servers[2].Address}} }; }
              chain post { type nat hook postrouting priority 100; ip daddr 10.77.0.0/24 masquerade; }
            }
            """);
        return new PathUnderTest("swarm", "a balancer's namespace with DNAT and masquerade, as Swarm's design", client, [vip], pids);
    }

    /// <summary>Two nodes; each has a host's namespace with the underlay and a network's namespace with bridge and VXLAN.</summary>
    private sealed class World
    {
        private readonly Machine machine;
        private readonly Dictionary<string, string> networks = [];

        internal World(Machine machine)
        {
            this.machine = machine;
            string[] hosts = [machine.Create("ha"), machine.Create("hb")];
            Machine.Run($"ip -n {hosts[0]} link add u0 mtu 1600 type veth peer name u0 mtu 1600 netns {hosts[1]}");
            for (var i = 0; i < 2; i++)
            {
                Machine.Run($"ip -n {hosts[i]} addr add 192.0.2.{i + 1}/24 dev u0");
                Machine.Run($"ip -n {hosts[i]} link set u0 up");
            }
            for (var i = 0; i < 2; i++)
            {
                var name = i == 0 ? "a" : "b";
                var network = networks[name] = machine.Create($"n{name}");
                Machine.Run($"ip -n {hosts[i]} link add vx0 type vxlan id 42 dstport 4789 local 192.0.2.{i + 1} remote 192.0.2.{2 - i} dev u0");
                Machine.Run($"ip -n {hosts[i]} link set vx0 netns {network}");
                Machine.Run($"ip -n {network} link add br0 address 02:00:00:00:00:0{i + 1} type bridge");
                Machine.Run($"ip -n {network} addr add 10.77.0.{i + 2}/24 dev br0");
                Machine.Run($"ip -n {network} link set vx0 master br0 up");
                Machine.Run($"ip -n {network} link set br0 up");
                Machine.In(network, "sysctl -qew net.bridge.bridge-nf-call-iptables=0");
            }
        }

        internal static IPAddress At(int host) => IPAddress.Parse($"10.77.0.{host}");

        internal string Network(string node) => networks[node];

        internal Container Add(string node, string name, int host)
        {
            var netns = machine.Create(name);
            var (veth, mac) = ($"v{host}", $"02:00:00:00:01:{host:x2}");
            Machine.Run($"ip -n {networks[node]} link add {veth} type veth peer name eth0 address {mac} netns {netns}");
            Machine.Run($"ip -n {networks[node]} link set {veth} master br0 up");
            Machine.Run($"ip -n {netns} link set eth0 up mtu 1500");
            Machine.Run($"ip -n {netns} addr add {At(host)}/24 dev eth0");
            return new Container(netns, At(host), veth, mac);
        }
    }
}
