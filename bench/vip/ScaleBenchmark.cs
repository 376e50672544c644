using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using OverlayNet.Kernel;
using OverlayNet.Vip;
using OverlayNet.Vip.Balancers;
using OverlayNet.Vip.Balancers.Ebpf;
using OverlayNet.Vip.Balancers.Nft;

namespace OverlayNet.Bench.Vip;

/// <summary>Ten thousand services of five servers: a cold load beside nft -f of the same rules, one change, adoption, and whether a connection's cost grows.</summary>
internal static class ScaleBenchmark
{
    private const int Servers = 5, WarmUp = 20, Changes = 1000;

    internal static void Run(bool quick, bool json)
    {
        var count = quick ? 2_000 : 10_000;
        using var machine = new Machine();
        var results = new List<Dictionary<string, object>> { Nft(machine, count, quick) };
        using (var probe = new EbpfBalancer($"probe{Environment.ProcessId}"))
        {
            if (probe.Availability.Usable)
                results.Add(Ebpf(machine, count));
            else
                Console.Error.WriteLine($"without ebpf: {probe.Availability.Reason}");
        }
        if (json)
        {
            // Written by hand: a program of native code has no names of properties to look up.
            var writers = results.Select(result => (JsonNode)new JsonObject(result.Select(row =>
                KeyValuePair.Create(row.Key, (JsonNode?)(row.Value is double number ? JsonValue.Create(number) : JsonValue.Create(row.Value.ToString()))))));
            Console.WriteLine(new JsonObject { ["benchmark"] = "vip-scale", ["services"] = count, ["serversEach"] = Servers, ["writers"] = new JsonArray([.. writers]) }.ToJsonString());
            return;
        }
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{count} services of {Servers} servers"));
        foreach (var result in results)
        {
            foreach (var (name, value) in result)
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-52}{(value is double number ? number.ToString("0.00", CultureInfo.InvariantCulture) : value)}"));
        }
    }

    private static Dictionary<string, object> Nft(Machine machine, int count, bool quick)
    {
        var netns = machine.Create("scale");
        using var balancer = new NftBalancer();
        var services = Services(count);
        _ = balancer.Availability;
        var cpu = Cpu();
        var cold = Time(() => Apply(balancer, netns, services));
        cpu = Cpu() - cpu;
        // nft does not take back its own listing of a port mapped by a map; without that map in the rule it loads all the same elements.
        var ruleset = Machine.In(netns, "nft list ruleset").Replace(":ip daddr . meta l4proto . th dport map @ports", "", StringComparison.Ordinal);
        var other = machine.Create("cli");
        var cli = Time(() => Machine.In(other, "nft -f -", ruleset));
        NamedNamespaces.Delete(other);

        var (first, p50, p99, changeCpu) = ChangeTimes(balancer, netns, services);
        using var successor = new NftBalancer();
        var adopt = Time(() => Apply(successor, netns, services));
        var (containerLoad, containerMemory) = Containers(machine, services, quick ? 5 : 10);
        var growth = Growth(machine, count, quick ? 5 : 15);
        return new Dictionary<string, object>
        {
            ["writer"] = "nft",
            ["nft -f of the same rules / our cold load"] = cli / cold,
            ["connect p50, all services / 10 services"] = growth.ToString(),
            ["cold load, ms"] = cold,
            ["cold load, ms of CPU"] = cpu,
            ["nft -f, ms"] = cli,
            ["one change p50, ms"] = p50,
            ["one change p99, ms"] = p99,
            ["one change, ms of CPU"] = changeCpu,
            ["the very first change (code not yet compiled), ms"] = first,
            ["adoption by a new process, ms"] = adopt,
            ["one more container, ms of CPU"] = containerLoad,
            ["one more container, MB of kernel memory"] = containerMemory,
        };
    }

    private static Dictionary<string, object> Ebpf(Machine machine, int count)
    {
        var netns = machine.Create("ebpf");
        using var balancer = new EbpfBalancer($"scale{Environment.ProcessId}");
        var services = Services(count);
        try
        {
            var cpu = Cpu();
            var cold = Time(() => Apply(balancer, netns, services));
            cpu = Cpu() - cpu;
            var (first, p50, p99, changeCpu) = ChangeTimes(balancer, netns, services);
            return new Dictionary<string, object>
            {
                ["writer"] = "ebpf",
                ["cold load, ms"] = cold,
                ["cold load, ms of CPU"] = cpu,
                ["one change p50, ms"] = p50,
                ["one change p99, ms"] = p99,
                ["one change, ms of CPU"] = changeCpu,
                ["the very first change (code not yet compiled), ms"] = first,
            };
        }
        finally
        {
            balancer.Apply(VipConfig.Empty);
        }
    }

    /// <summary>What each attached container adds: its namespace gets a copy of the network's services.</summary>
    private static (double Cpu, double Megabytes) Containers(Machine machine, VipService[] services, int count)
    {
        using var balancer = new NftBalancer();
        var network = machine.Create("net");
        VipTask[] tasks = [.. Enumerable.Range(0, count).Select(i => new VipTask { EndpointId = $"t{i}", NetnsPath = NamedNamespaces.PathOf(machine.Create($"t{i}")), Interface = "eth0", BridgePort = $"v{i}" })];
        Apply(balancer, network, services);
        // The kernel's slabs also hold other things; over several copies of megabytes the difference shows ours well enough.
        var (slab, cpu) = (Slab(), Cpu());
        Apply(balancer, network, services, tasks);
        var result = ((Cpu() - cpu) / count, (Slab() - slab) / 1024.0 / count);
        Apply(balancer, network, []);
        return result;
    }

    private static double Cpu() => Environment.CpuUsage.TotalTime.TotalMilliseconds;

    /// <summary>One service gains or loses a server, again and again. The published daemon is compiled ahead of time, this program is not: the first few are kept apart.</summary>
    private static (double First, double P50, double P99, double Cpu) ChangeTimes(IBalancer balancer, string netns, VipService[] services)
    {
        var random = new Random(3);
        var times = new List<double>();
        var cpu = 0.0;
        for (var i = 0; i < WarmUp + Changes; i++)
        {
            if (i == WarmUp)
                cpu = Cpu();
            var which = random.Next(services.Length);
            services[which] = Service(which, services[which].RealServers.Count == Servers ? Servers - 1 : Servers);
            times.Add(Time(() => Apply(balancer, netns, services)));
        }
        cpu = (Cpu() - cpu) / Changes;
        var sorted = times.Skip(WarmUp).Order().ToArray();
        return (times[0], sorted[Changes / 2], sorted[Changes * 99 / 100], cpu);
    }

    /// <summary>Connections to one service by a client whose namespace holds ten services, and by one with all of them, in turn.</summary>
    private static Estimate Growth(Machine machine, int count, int rounds)
    {
        var bridge = machine.Create("br");
        Machine.Run($"ip -n {bridge} link add br0 type bridge");
        Machine.Run($"ip -n {bridge} link set br0 up");
        var server = Attach("server", "10.0.0.5");
        var clients = new[] { Attach("few", "10.0.0.6"), Attach("many", "10.0.0.7") };
        var pid = machine.Serve(server, IPAddress.Parse("10.0.0.5"), 80);
        var last = new VipService
        {
            Id = "last",
            Name = "last",
            Addresses = [IPAddress.Parse("10.0.0.200")],
            Ports = [new VipPort(VipPort.Tcp, 80, 80)],
            RealServers = [new RealServer { EndpointId = "server", Address4 = IPAddress.Parse("10.0.0.5"), Weight = 1 }],
        };
        using var few = new NftBalancer();
        using var many = new NftBalancer();
        Apply(few, clients[0], [.. Services(9), last]);
        Apply(many, clients[1], [.. Services(count - 1), last]);
        var ratios = new List<double>();
        for (var round = 0; round < rounds; round++)
        {
            var samples = clients.Select(client => Sample.Take(client, "conn", last.Addresses, 80, 0.3, [pid])).ToArray();
            ratios.Add(samples[1].MedianMicroseconds / samples[0].MedianMicroseconds);
        }
        return Estimate.Of(ratios);

        string Attach(string name, string address)
        {
            var netns = machine.Create(name);
            Machine.Run($"ip -n {bridge} link add v{name} type veth peer name eth0 netns {netns}");
            Machine.Run($"ip -n {bridge} link set v{name} master br0 up");
            Machine.Run($"ip -n {netns} link set eth0 up");
            Machine.Run($"ip -n {netns} addr add {address}/24 dev eth0");
            return netns;
        }
    }

    private static VipService[] Services(int count) => [.. Enumerable.Range(0, count).Select(i => Service(i, Servers))];

    private static VipService Service(int number, int servers) => new()
    {
        Id = $"s{number}",
        Name = $"s{number}",
        Addresses = [new IPAddress([10, 96, (byte)(number >> 8), (byte)number])],
        Ports = [new VipPort(VipPort.Tcp, 80, 8080)],
        RealServers =
        [
            .. Enumerable.Range(0, servers).Select(i => new RealServer { EndpointId = $"e{number}-{i}", Address4 = new IPAddress([10, (byte)(100 + i), (byte)(number >> 8), (byte)number]), Weight = 8 }),
        ],
    };

    private static void Apply(IBalancer balancer, string netns, VipService[] services, params VipTask[] tasks)
    {
        var report = balancer.Apply(new VipConfig
        {
            Networks =
            [
                new VipNetwork
                {
                    Id = "n",
                    Name = "n",
                    Vni = 42,
                    Netns = netns,
                    Subnet4 = IPNetwork.Parse("10.0.0.0/8"),
                    NodeAddress4 = IPAddress.Parse("10.0.0.2"),
                    Tasks = tasks,
                    Services = [.. services],
                },
            ],
        });
        if (report.Errors.Count > 0)
            throw new InvalidOperationException(report.Errors[0].ToString());
    }

    private static double Time(Action action)
    {
        var clock = Stopwatch.StartNew();
        action();
        return clock.Elapsed.TotalMilliseconds;
    }

    private static long Slab() => long.Parse(File.ReadLines("/proc/meminfo").First(line => line.StartsWith("SUnreclaim:", StringComparison.Ordinal))
        .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
}
